-- cancel: end a waiting job, or ask the worker of a running one to stop.
--
-- Uses: register, core, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  id
-- Returns  1  canceled now
--          2  running: the cancel is recorded, its worker is notified (also if requested twice)
--          3  was canceled before
--          0  ended otherwise before
--         -2  no such job, or only its tombstone
-- Touches the job's hash, log and events, `queues:ended`, and its queue's delayed, ghosts, finished. Publishes to the worker's
-- control channel.
local function cancel(p, argv)
  local id, now, w = argv[1], now_ms(), writes()
  local job = read_job(p, id)
  if not job then return -2 end
  if job.status == 'canceled' then return 3 end
  if job.status == 'succeeded' or job.status == 'failed' then return 0 end
  local ended = cancel_job(w, p, id, job, now)
  count_ended(w, p, now)
  w:commit()
  return ended and 1 or 2
end

register('cancel', cancel, { 'allow-oom' })
