-- take_back(w, p, now, queue, id, lease_end, taken): take a running job back from a worker that will not bring it back.
-- Called by `sweep`, whose evidence is that the lease has ended, and by `bury`, which knows that the worker is dead and
-- needs no `lease_end`.
--
-- The job is made ready again, uncharged, at the front, and a loss is counted; with the fifth it fails, and one that was
-- to be canceled is canceled. Adds to `taken.requeued` and `taken.failed`. Touches the job's hash, `unusual`, and its queue's
-- running, ready, finished and failed.

-- Whether nobody is to blame for an expired lease: its worker still beats but never extended it, so it did not hear that
-- it was given the job (the reply got lost).
local function went_unheard(p, now, job, lease_end)
  local beat = redis.call('HMGET', key.worker(p, job.worker), 'seen', 'lease')
  local beats = beat[1] and now - tonumber(beat[1]) <= num(beat[2])
  return beats and lease_end <= num(job.started_at) + num(beat[2])
end

local function take_back(w, p, now, queue, id, lease_end, taken)
  local job, unreadable = read_job(p, id)
  w:add('ZREM', key.running(p, queue), id)
  if unreadable or (job and not job.worker) then return quarantine(w, p, id, now) end
  if not job or job.status ~= 'running' then return end
  local unheard = lease_end and went_unheard(p, now, job, lease_end)
  if not unheard then job.losses = num(job.losses) + 1 end
  local losses, history = int(num(job.losses)), remember_attempt(p, id, job, now, unheard and 'unheard' or 'lost')
  if job.cancel_requested then
    to_terminal(w, p, id, job, 'canceled', now, 'losses', losses, 'error', CANCELED)
  elseif num(job.losses) >= MAX_LOSSES then
    taken.failed = taken.failed + 1
    to_terminal(w, p, id, job, 'failed', now, 'losses', losses, 'error', WORKER_LOST)
  else
    taken.requeued = taken.requeued + 1
    uncharge(job)
    to_ready(w, p, id, job, 'RPUSH', 'losses', losses, 'history', history)
  end
end
