-- redrive: run the dead letters of a queue again, the oldest first.
--
-- Uses: keys, register, core, locks, limits, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  queue   2  how many at most (this call reads 100)   3  task, or '' for every
--      4  how many of the oldest to skip (those that an earlier call met and skipped)
--      5  '' in the first call; in further ones, when the first was made: a job that failed again since is left
-- A job whose lock is held by another one is skipped.
-- Returns {redriven, skipped, read, when the first call was made}; redriven = -1 if the queue is not known here,
--         -2 if its dead letters here cannot run again: the queue has a limit, and its home is elsewhere now.
-- Touches what `retry` touches.
local REDRIVE_LOOKS = 100

-- Whether another job holds the lock of this one. Those that this call revived hold theirs once that is written.
local function is_locked_out(w, p, id, job)
  if not job.unique then return false end
  w:commit()
  return locks.conflict(p, id, job) ~= nil
end

local function redrive(p, argv)
  local now, w = now_ms(), writes()
  local queue, most, task, skip = argv[1], num(argv[2]), argv[3], num(argv[4])
  local since = argv[5] == '' and int(now) or argv[5]
  if not is_listed(p, queue) then return { -1, 0, 0, since } end
  if limits.home_elsewhere(p, queue) then return { -2, 0, 0, since } end
  local redriven, passed, looked = 0, 0, 0
  local dead = redis.call('ZRANGEBYSCORE', key.failed(p, queue), '-inf', since, 'LIMIT', skip, REDRIVE_LOOKS)
  for _, id in ipairs(dead) do
    if redriven == most then break end
    local job, unreadable = read_job(p, id, SPEC)
    looked = looked + 1
    if unreadable then quarantine(w, p, id, now) end
    if not job or job.status ~= 'failed' then
      w:call('ZREM', key.failed(p, queue), id)
    elseif (task ~= '' and task_of(job) ~= task) or is_locked_out(w, p, id, job) then
      passed = passed + 1
    else
      revive(w, p, id, job, now)
      redriven = redriven + 1
    end
  end
  if redriven > 0 then wake(w, p, { queue }) end
  w:commit()
  return { redriven, passed, looked, since }
end

register('redrive', redrive, {})
