-- register(verb, step, flags): make a step a function that Redis can call: with KEYS 1, the key of a partition's layout, it
-- becomes step(p, argv).
--
-- Uses: keys
--
-- That key exists from the first `open` on, so a node of a Redis Cluster that has the partition runs the call, also while the
-- partition's slot is being moved to another node. Then some keys of the partition are here and others there; a function that
-- needs one of the others fails, and what it has written until then stays. So before anything else every function reads two
-- keys that never exist: one read of two keys fails on both sides of a move, and only there.
local register
do
  local MOVING = { err = 'MOVING the partition is being moved to another node' }

  -- The partition's root in the key of its layout, and the two keys; for the last few partitions.
  local PARTITIONS_KEPT = 1024
  local partitions, count = {}, 0
  local function partition_of(layout)
    local known = partitions[layout]
    if known then return known end
    if count >= PARTITIONS_KEPT then partitions, count = {}, 0 end
    local p = string.match(layout, '^(.*):layout$')
    known = { p = p, one = key.absent(p, 1), other = key.absent(p, 2) }
    partitions[layout], count = known, count + 1
    return known
  end

  function register(verb, step, flags)
    register_function(verb, function(keys, argv)
      local partition = partition_of(keys[1])
      if redis.pcall('EXISTS', partition.one, partition.other) ~= 0 then return MOVING end
      return step(partition.p, argv)
    end, flags)
  end
end
