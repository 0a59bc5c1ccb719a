-- The moves of a job, each in one place. They collect writes and never read: the caller has read and checked.
-- A `job` here is what `read_job` returned with at least the fields of `MOVES`.

-- Ready lists of a queue: the lanes of the four priorities, highest first. Jobs that took workers down with them wait
-- in a lane of their own (`SOLITARY`) and are handed out alone.
local LANES = { 'urgent', 'high', 'normal', 'low' }
local SOLITARY = 'solitary'
-- Losses from which a job runs alone, and with which it fails for good.
local SOLITARY_LOSSES, MAX_LOSSES = 2, 5
-- How long finished jobs are kept unless they say otherwise: 24 h, 30 days, 24 h.
local RETENTION_MS = { succeeded = 86400000, failed = 2592000000, canceled = 86400000 }

local MOVES = {
  'status', 'queue', 'priority', 'version', 'attempt', 'losses', 'epoch', 'worker', 'settled_epoch', 'cancel_requested',
  'retention', 'keep_until', 'started_at', 'history', 'error', 'log_bytes', 'generation', 'unroutable',
}

local CANCELED = '{"code":"canceled","message":"canceled on request","retryable":false}'
local WORKER_LOST = '{"code":"worker_lost","message":"the workers that ran this job stopped beating","retryable":false}'

-- Every change of a job ends here: the fields, and the version that grows with each of them.
local function change(w, p, id, job, ...)
  job.version = num(job.version) + 1
  w:call('HSET', key.job(p, id), 'version', int(job.version), ...)
end

local function lane_of(job)
  if num(job.losses) >= SOLITARY_LOSSES then return SOLITARY end
  return job.priority or 'normal'
end

-- Into the ready list, at the end (`LPUSH`) or, for a job that had been claimed before, at the front (`RPUSH`).
local function to_ready(w, p, id, job, push, ...)
  w:add(push, key.ready(p, job.queue, lane_of(job)), id)
  change(w, p, id, job, 'status', 'queued', ...)
end

local function to_delayed(w, p, id, job, status, due, ...)
  w:add('ZADD', key.delayed(p, job.queue), int(due), id)
  change(w, p, id, job, 'status', status, 'run_at', int(due), ...)
end

-- The terminal transition. `finished` lists every ended job until it expires; `failed` the dead letters among them.
local function to_terminal(w, p, id, job, status, now, ...)
  local keep = num(job.retention)
  if not job.retention then keep = RETENTION_MS[status] end
  local expires = math.max(now + keep, num(job.keep_until))
  change(w, p, id, job, 'status', status, 'finished_at', int(now), 'expires_at', int(expires), ...)
  w:call('PEXPIREAT', key.job(p, id), int(expires))
  if job.log_bytes then w:call('PEXPIREAT', key.log(p, id), int(expires)) end
  w:add('ZADD', key.finished(p, job.queue), int(expires), id)
  if status == 'failed' then w:add('ZADD', key.failed(p, job.queue), int(now), id) end
end

-- Remembers how the current attempt ended, the last ten of them; one JSON object a line. A succeeded attempt is not
-- written: the job's own fields tell.
local function remember_attempt(job, now, outcome, error)
  local line = string.format('{"attempt":%d,"worker":"%s","started_at_ms":%s,"finished_at_ms":%s,"outcome":"%s","error":%s}',
    num(job.attempt), job.worker or '', int(num(job.started_at)), int(now), outcome, error or 'null')
  local history = (job.history and job.history .. '\n' or '') .. line
  local _, breaks = string.gsub(history, '\n', '\n')
  if breaks >= 10 then history = string.sub(history, string.find(history, '\n', 1, true) + 1) end
  job.history = history
  return history
end

-- Ends a run that is not to be charged: released by its worker, or lost with it.
local function uncharged(job) return int(math.max(num(job.attempt) - 1, 0)) end

-- Whether a job stands in one of the queue's lanes that any worker may claim from.
local function has_ready(p, queue)
  local lanes = {}
  for at, lane in ipairs(LANES) do lanes[at] = key.ready(p, queue, lane) end
  return redis.call('EXISTS', unpack(lanes)) > 0
end

-- Whether nothing at all is left of the queue.
local function is_empty(p, queue)
  return not has_ready(p, queue) and redis.call('EXISTS', key.ready(p, queue, SOLITARY), key.delayed(p, queue),
    key.running(p, queue), key.finished(p, queue)) == 0 and redis.call('SISMEMBER', key.paused(p), queue) == 0
end
