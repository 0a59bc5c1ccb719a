-- announce: a worker declares its tasks, and the queues it serves.
--
-- KEYS 1  the partition's root
-- ARGV 1  number of queues that follow; their names
--      then two a task: name, descriptor (JSON, opaque)
-- Returns 1. The newest declaration of a task counts; one is kept 30 days after the last worker that made it.
-- Touches `tasks`, `tasks:seen`, `queues`. Asking again changes nothing but the time.
local TASK_KEPT_MS = 2592000000

local function announce(keys, argv)
  local p, now, w = keys[1], now_ms(), writes()
  local tasks = 2 + num(argv[1])
  for at = 2, tasks - 1 do w:add('ZADD', key.queues(p), int(now), argv[at]) end
  for at = tasks, #argv, 2 do
    w:add('HSET', key.tasks(p), argv[at], argv[at + 1])
    w:add('ZADD', key.tasks_seen(p), int(now), argv[at])
  end
  w:commit()
  local old = redis.call('ZRANGEBYSCORE', key.tasks_seen(p), '-inf', int(now - TASK_KEPT_MS), 'LIMIT', 0, 100)
  if #old > 0 then
    w:call('HDEL', key.tasks(p), unpack(old))
    w:call('ZREM', key.tasks_seen(p), unpack(old))
    w:commit()
  end
  return 1
end

register('announce', announce, { 'allow-oom' })
