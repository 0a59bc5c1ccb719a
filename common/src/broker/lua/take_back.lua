-- take_back(w, p, now, queue, id, lease_end, taken): take a running job back from a worker that will not settle it. Called by
-- `sweep`, whose evidence is that the lease has expired, and by `reclaim`, which knows that the worker is dead and passes no
-- `lease_end`.
--
-- Uses: keys, core, groups, waits, lifecycle
--
-- The job becomes ready again, uncharged, at the front, and it is counted: as a loss, of which the fifth fails it, or as a
-- failed hand-over, of which the eighth fails it. If its cancel was requested, it is canceled. Adds to `taken.requeued` and
-- `taken.failed`. Touches the job's hash, `queues:side`, `queues:ended`, and its queue's running, ready, finished and failed.

-- Whether the hand-over failed, and the job did not run: its worker sends heartbeats but never extended the lease, so it did
-- not receive the job (the reply was lost).
local function handover_failed(p, now, job, lease_end)
  local alive, lease = beats(p, now, job.worker)
  return alive and lease_end <= num(job.started_at) + lease
end

-- The error with which the job fails for good, or nil if it runs again.
local function final_error(job)
  if num(job.losses) >= MAX_LOSSES then return WORKER_LOST end
  if num(job.unheard) >= MAX_UNHEARD then return NOT_DELIVERED end
end

local function take_back(w, p, now, queue, id, lease_end, taken)
  local job, unreadable = read_job(p, id)
  w:add('ZREM', key.running(p, queue), id)
  if unreadable or (job and not job.worker) then return quarantine(w, p, id, now) end
  if not job or job.status ~= 'running' then return end
  if job.group then groups.stop(w, p, queue, id, job.group) end
  local outcome, count = 'lost', 'losses'
  if lease_end and handover_failed(p, now, job, lease_end) then outcome, count = 'unheard', 'unheard' end
  job[count] = int(num(job[count]) + 1)
  local history = history_with(p, id, job, now, outcome)
  if job.cancel_requested then
    to_terminal(w, p, id, job, 'canceled', now, count, job[count], 'error', CANCELED)
  elseif final_error(job) then
    taken.failed = taken.failed + 1
    to_failed(w, p, id, job, now, final_error(job), nil, count, job[count])
  else
    taken.requeued = taken.requeued + 1
    uncharge(job)
    if outcome == 'lost' then
      to_ready(w, p, id, job, 'RPUSH', count, job[count], 'history', history, waits.started(job))
    else
      -- Its worker did not receive it.
      waits.list_again(w, p, id, job)
      to_ready(w, p, id, job, 'RPUSH', count, job[count], 'history', history)
    end
  end
end
