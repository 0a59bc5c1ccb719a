-- take_back(w, p, now, queue, id, lease_end, taken): take a running job back from a worker that will not bring it back.
-- Called by `sweep`, whose evidence is that the lease has ended, and by `reclaim`, which knows that the worker is dead and
-- needs no `lease_end`.
--
-- The job is made ready again, uncharged, at the front, and it is counted: as a loss, with the fifth of which it fails, or as a
-- failed hand-over, with the eighth of which it fails. One that was to be canceled is canceled. Adds to `taken.requeued` and
-- `taken.failed`. Touches the job's hash, `unusual`, and its queue's running, ready, finished and failed.

-- Whether the hand-over failed, and nobody ran the job: its worker still beats but never extended the lease, so it did not
-- receive the job (the reply got lost).
local function went_unheard(p, now, job, lease_end)
  local alive, lease = beats(p, now, job.worker)
  return alive and lease_end <= num(job.started_at) + lease
end

-- Why the job does not run again, or nil.
local function spent(job)
  if num(job.losses) >= MAX_LOSSES then return WORKER_LOST end
  if num(job.unheard) >= MAX_UNHEARD then return NOT_DELIVERED end
end

local function take_back(w, p, now, queue, id, lease_end, taken)
  local job, unreadable = read_job(p, id)
  w:add('ZREM', key.running(p, queue), id)
  if unreadable or (job and not job.worker) then return quarantine(w, p, id, now) end
  if not job or job.status ~= 'running' then return end
  local outcome, count = 'lost', 'losses'
  if lease_end and went_unheard(p, now, job, lease_end) then outcome, count = 'unheard', 'unheard' end
  job[count] = int(num(job[count]) + 1)
  local history = remember_attempt(p, id, job, now, outcome)
  if job.cancel_requested then
    to_terminal(w, p, id, job, 'canceled', now, count, job[count], 'error', CANCELED)
  elseif spent(job) then
    taken.failed = taken.failed + 1
    to_terminal(w, p, id, job, 'failed', now, count, job[count], 'error', spent(job))
  else
    taken.requeued = taken.requeued + 1
    uncharge(job)
    to_ready(w, p, id, job, 'RPUSH', count, job[count], 'history', history)
  end
end
