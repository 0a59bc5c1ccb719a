-- retry: run a failed or canceled job again, by hand. `redrive` does the same for many dead letters.
--
-- Uses: register, core, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  id
-- Returns  1  queued again
--          0  not failed or canceled
--         -2  no such job, or only its tombstone
-- Touches the job's hash, log and events, `queues`, `queues:side`, its error group, and its queue's ready, ghosts, failed,
-- finished and wake.
local function retry(p, argv)
  local id, now, w = argv[1], now_ms(), writes()
  local job = read_job(p, id)
  if not job then return -2 end
  if job.status ~= 'failed' and job.status ~= 'canceled' then return 0 end
  revive(w, p, id, job, now)
  wake(w, p, { job.queue })
  w:commit()
  return 1
end

register('retry', retry, {})
