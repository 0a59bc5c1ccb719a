-- retry: run a failed or canceled job again, by hand. `redrive` does the same for many dead letters.
--
-- Uses: register, core, locks, limits, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  id
-- Returns  1  queued again
--          {-3, id}  its lock is held by that job
--          0  not failed or canceled
--         -1  its queue has a limit, and its home is elsewhere now
--         -2  no such job, or only its tombstone
-- Touches the job's hash, log and events, `queues`, `queues:side`, its lock, its error group, and its queue's ready, ghosts, failed,
-- finished and wake.
local function retry(p, argv)
  local id, now, w = argv[1], now_ms(), writes()
  local job = read_job(p, id)
  if not job then return -2 end
  if job.status ~= 'failed' and job.status ~= 'canceled' then return 0 end
  if limits.home_elsewhere(p, job.queue) then return -1 end
  local holder = locks.conflict(p, id, job)
  if holder then return { -3, holder } end
  revive(w, p, id, job, now)
  wake(w, p, { job.queue })
  w:commit()
  return 1
end

register('retry', retry, {})
