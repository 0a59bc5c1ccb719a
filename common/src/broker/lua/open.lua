-- open: check whether this code and this key space fit together; the first call founds the key space.
--
-- Uses: keys, register
--
-- KEYS 1  the partition's layout
-- ARGV 1  the layout this code writes (a number); without it nothing is founded: a probe that Redis answers only while it
--         accepts writes, and that leaves it to a heartbeat to detect that Redis lost its memory
--      2  the number of partitions the caller is configured for
-- Returns {layout, partitions, features} as stored; all are nil where nothing is founded. The caller stops if layout or
-- partitions are not its own, or if it lacks one of the features that are used.
-- Touches `layout` only. Repeating the call changes nothing.
local function open(p, argv)
  local name = key.layout(p)
  if argv[1] and redis.call('EXISTS', name) == 0 then
    redis.call('HSET', name, 'layout', argv[1], 'partitions', argv[2])
  end
  return redis.call('HMGET', name, 'layout', 'partitions', 'features')
end

register('open', open, { 'allow-oom' })
