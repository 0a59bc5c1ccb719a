-- Until when a job may wait: until its deadline, and for its first attempt no longer than it has to start.
--
-- Uses: keys, core
--
-- The field `deadline` has that time. `start_by` has until when the job must start, and how long each generation has to start,
-- both in ms: it is canceled if no worker has claimed it by then. An attempt that was begun, whether or not it is charged, is a
-- start: then the time is `-`, and the job need not start in time again.
--
-- A job that may not wait for ever is in the set `deadlines` of its queue, with the time when a sweep looks at it: so it ends in
-- time even if no worker claims it. It stays there while it runs, until a sweep finds that it started in time.

local waits = {}
do
  local WAITING = { queued = true, scheduled = true, retrying = true }
  local DEADLINE_EXCEEDED = '{"code":"deadline_exceeded","message":"the deadline of the job has passed","retryable":false}'
  local EXPIRED = '{"code":"expired","message":"no worker claimed the job in the time that it had to start","retryable":false}'

  -- Until when a job may wait, and with which status and error it ends then; nil if it may wait for ever.
  function waits.limit(job)
    local start_by = job.start_by and tonumber(string.match(job.start_by, '^%d+') or nil)
    local deadline = tonumber(job.deadline or nil)
    if start_by and (not deadline or start_by < deadline) then return start_by, 'canceled', EXPIRED end
    return deadline, 'failed', DEADLINE_EXCEEDED
  end

  -- When a sweep must look at a job, with the same as above: nil if it has ended or may wait for ever. One that runs has started.
  function waits.next_look(job)
    if job and job.status == 'running' then return tonumber(job.deadline or nil) end
    if job and WAITING[job.status] then return waits.limit(job) end
  end

  -- Lists a job that may not wait for ever.
  function waits.list(w, p, id, job)
    local limit = waits.limit(job)
    if not limit then return end
    w:due(p, job.queue, limit)
    w:add('ZADD', key.deadlines(p, job.queue), int(limit), id)
  end

  -- Lists a job again that a worker had and that did not start: a sweep may have found it running.
  function waits.list_again(w, p, id, job)
    if job.start_by then waits.list(w, p, id, job) end
  end

  -- Lists a job that was given other times by the ones it has now.
  function waits.list_instead(w, p, id, job)
    if waits.limit(job) then return waits.list(w, p, id, job) end
    w:add('ZREM', key.deadlines(p, job.queue), id)
  end

  -- Removes a job that ended.
  function waits.remove(w, p, id, job)
    if job.deadline or job.start_by then w:add('ZREM', key.deadlines(p, job.queue), id) end
  end

  -- What `start_by` of a job contains that has this many ms to start.
  function waits.start_by(time, ms) return int(time + num(ms)) .. ' ' .. ms end

  -- The field of a job whose attempt was begun and has ended: it has started. Nothing for others.
  function waits.started(job)
    if job.start_by then return 'start_by', (string.gsub(job.start_by, '^%d+', '-')) end
  end

  -- The field of a job that runs again from the beginning, and has its time to start again.
  function waits.renew(job, now, fields)
    local ms = string.match(job.start_by or '', '%d+$')
    if not ms then return end
    job.start_by = waits.start_by(now, ms)
    fields[#fields + 1], fields[#fields + 2] = 'start_by', job.start_by
  end
end
