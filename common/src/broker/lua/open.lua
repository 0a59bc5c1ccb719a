-- open: check whether this code and this key space fit together; the first call founds the key space.
--
-- Uses: keys
--
-- KEYS 1  the partition's root
-- ARGV 1  the layout this code writes (a number); without it nothing is founded: a probe that Redis answers only while it
--         accepts writes, and that leaves it to a heartbeat to detect that Redis lost its memory
--      2  the number of partitions the caller is configured for
-- Returns {layout, partitions} as stored; both are nil where nothing is founded. The caller stops if they are not its own.
-- Touches `layout` only. Repeating the call changes nothing.
local function open(keys, argv)
  local name = key.layout(keys[1])
  if argv[1] and redis.call('EXISTS', name) == 0 then
    redis.call('HSET', name, 'layout', argv[1], 'partitions', argv[2])
  end
  return redis.call('HMGET', name, 'layout', 'partitions')
end

register('open', open, { 'allow-oom' })
