-- announce: a worker declares its tasks, and the queues it serves.
--
-- KEYS 1  the partition's root
-- ARGV 1  number of queues that follow; their names
--      then two a task: name, descriptor (JSON, opaque)
-- Returns the names of the tasks that were not taken: new ones, where as many are declared as may be. The newest declaration of
-- a task counts; one is kept 30 days after the last worker that made it. Queues are taken beyond the limit of enqueue: whoever
-- runs workers names them, and their jobs must be taken whatever strangers have named.
-- Touches `tasks`, `tasks:seen`, `tasks:version`, `queues`, `queues:names`. Asking again changes nothing but the times.
local TASK_KEPT_MS = 2592000000
-- Far beyond what a fleet has code for. Each API reads all of them after every change.
local TASKS_MOST = 10000

-- Whoever has read all tasks need not read them again while this stays the same. Never the same twice, not even after Redis lost
-- its memory.
local function tasks_changed(w, p, now)
  local version = num(redis.call('GET', key.tasks_version(p)))
  w:call('SET', key.tasks_version(p), int(math.max(version + 1, now)))
end

local function forget_old_tasks(w, p, now)
  local old = redis.call('ZRANGEBYSCORE', key.tasks_seen(p), '-inf', int(now - TASK_KEPT_MS), 'LIMIT', 0, 100)
  if #old == 0 then return end
  w:call('HDEL', key.tasks(p), unpack(old))
  w:call('ZREM', key.tasks_seen(p), unpack(old))
  tasks_changed(w, p, now)
  w:commit()
end

local function announce(keys, argv)
  local p, now, w = keys[1], now_ms(), writes()
  local tasks, refused, changed = 2 + num(argv[1]), {}, false
  for at = 2, tasks - 1 do list_queue(w, p, now, argv[at]) end
  if argv[tasks] then forget_old_tasks(w, p, now) end
  local count = argv[tasks] and redis.call('ZCARD', key.tasks_seen(p))
  for at = tasks, #argv, 2 do
    local name, descriptor = argv[at], argv[at + 1]
    local known = redis.call('HGET', key.tasks(p), name)
    if not known and count >= TASKS_MOST then
      refused[#refused + 1] = name
    else
      if not known then count = count + 1 end
      if known ~= descriptor then
        w:add('HSET', key.tasks(p), name, descriptor)
        changed = true
      end
      w:add('ZADD', key.tasks_seen(p), int(now), name)
    end
  end
  if changed then tasks_changed(w, p, now) end
  w:commit()
  return refused
end

register('announce', announce, { 'allow-oom' })
