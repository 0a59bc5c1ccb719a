-- announce: declare a worker's tasks, and the queues it serves.
--
-- Uses: keys, register, core, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  number of queues that follow; their names
--      then two for each task: name, descriptor (JSON, opaque)
-- Returns {the names of rejected tasks, the names of tasks whose declaration was another one before}. Rejected are new
-- ones, where as many are declared as may be. The newest declaration of a task counts; one is kept 30 days after the last
-- worker that made it. Queues are accepted beyond the limit of enqueue: the
-- operator of the workers names them, and their jobs must be accepted however many queues other clients have named.
-- Touches `tasks`, `tasks:seen`, `tasks:version`, `queues`, `queues:names`. Repeating the call changes only the times.
local TASK_KEPT_MS = 2592000000
-- Far more than a fleet has code for. Each API process reads all of them after every change.
local TASKS_MOST = 10000

-- A process that has read all tasks need not read them again while this version is unchanged. No version is used twice, not
-- even after Redis lost its memory.
local function tasks_changed(w, p, now)
  local version = num(redis.call('GET', key.tasks_version(p)))
  w:call('SET', key.tasks_version(p), int(math.max(version + 1, now)))
end

local function remove_old_tasks(w, p, now)
  local old = redis.call('ZRANGEBYSCORE', key.tasks_seen(p), '-inf', int(now - TASK_KEPT_MS), 'LIMIT', 0, 100)
  if #old == 0 then return end
  w:call('HDEL', key.tasks(p), unpack(old))
  w:call('ZREM', key.tasks_seen(p), unpack(old))
  tasks_changed(w, p, now)
  w:commit()
end

local function announce(p, argv)
  local now, w = now_ms(), writes()
  local tasks, rejected, replaced, changed = 2 + num(argv[1]), {}, {}, false
  for at = 2, tasks - 1 do list_queue(w, p, now, argv[at]) end
  if argv[tasks] then remove_old_tasks(w, p, now) end
  local count = argv[tasks] and redis.call('ZCARD', key.tasks_seen(p))
  for at = tasks, #argv, 2 do
    local name, descriptor = argv[at], argv[at + 1]
    local known = redis.call('HGET', key.tasks(p), name)
    if not known and count >= TASKS_MOST then
      rejected[#rejected + 1] = name
    else
      if not known then count = count + 1 end
      if known ~= descriptor then
        w:add('HSET', key.tasks(p), name, descriptor)
        if known then replaced[#replaced + 1] = name end
        changed = true
      end
      w:add('ZADD', key.tasks_seen(p), int(now), name)
    end
  end
  if changed then tasks_changed(w, p, now) end
  w:commit()
  return { rejected, replaced }
end

register('announce', announce, { 'allow-oom' })
