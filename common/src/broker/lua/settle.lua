-- settle_one(w, p, now, call, id, epoch, outcome, …): end one attempt. Called inside `exchange`.
--
-- Uses: keys, core, errors, waits, lifecycle
--
--   outcome       a               b                  c
--   complete      result (JSON)
--   complete_as   result          its content type
--   retry         error (JSON)    its kind           milliseconds until the next attempt
--   fail          error (JSON)    its kind
--   canceled      error (JSON)
--   release       cause           detail, or ''
--   snooze        milliseconds until the next attempt
--
-- Returns  1  settled
--          2  this same attempt was settled before: the reply was lost, and repeating the call is safe
--         -1  stale: another attempt holds the job, or the lease was taken back
--         -2  no such job (deleted meanwhile, or its record cannot be read)
--
-- A release is never charged. With the cause 'released' the job returns to the front at once; with 'worker_with_task' it is
-- parked: it waits, ready, in the lane of its task, from which only workers with that task claim. Any other cause names what
-- the job waits for, and the job is tried again after 1 s, doubling to 30 s, as often as needed; the same applies to a job
-- that cannot be parked, because it must run alone or too many tasks are parked. `waiting_for` has the cause and the detail.
--
-- A snooze is not charged either: the handler puts its job off. It is counted, and the job fails instead with the 1001st, or if it
-- would be due at its deadline or later.
--
-- A requested cancel has precedence over retry, release and snooze, never over an end that the handler reached.

-- Results up to this size, if JSON, are in `result` and are read with the status; others are in `result_large`.
local INLINE_RESULT_BYTES = 65536

-- How many arguments each outcome has.
local OUTCOME = { complete = 1, complete_as = 2, retry = 3, fail = 2, canceled = 1, release = 2, snooze = 1 }

local settle = {}

-- How the result is stored: names and values of the fields.
local function result_fields(result, content_type)
  if content_type then return 'result_large', result, 'result_size', int(#result), 'result_type', content_type end
  if #result > INLINE_RESULT_BYTES then return 'result_large', result, 'result_size', int(#result) end
  return 'result', result
end

function settle.complete(w, p, id, job, now, result, content_type)
  local redis_memory = memory(w, p)
  if redis_memory.used >= MEMORY_ALL_BUT_FULL and #result > INLINE_RESULT_BYTES then
    -- Each result removes other ended jobs: the removals for results before it are written first.
    w:commit()
    make_room(w, p, job.queue, 1)
  end
  to_terminal(w, p, id, job, 'succeeded', now, result_fields(result, content_type))
  if job.error then w:call('HDEL', job.key, 'error') end
  -- In a nearly full Redis the input is deleted to make room for the result: so a full Redis drains.
  if redis_memory.used >= redis_memory.watermark then w:call('HDEL', job.key, 'payload', 'payload_large') end
end

settle.complete_as = settle.complete

function settle.fail(w, p, id, job, now, error, kind)
  to_failed(w, p, id, job, now, error, kind, 'settled_epoch', job.epoch)
end

function settle.canceled(w, p, id, job, now, error)
  to_terminal(w, p, id, job, 'canceled', now, 'settled_epoch', job.epoch, 'error', error)
end

function settle.retry(w, p, id, job, now, error, kind, delay)
  if job.cancel_requested then return settle.canceled(w, p, id, job, now, CANCELED) end
  errors.count(w, p, now, id, job, error, kind)
  local history = history_with(p, id, job, now, 'failed', error)
  to_delayed(w, p, id, job, 'retrying', now + num(delay), 'settled_epoch', job.epoch, 'error', error, 'history', history,
    waits.started(job))
end

-- The task for which a job may be parked, or nil.
local function parking_task(p, job)
  job.waiting_for = nil
  if lane_of(job) == SOLITARY then return nil end
  job.spec = redis.call('HGET', job.key, 'spec')
  local task, parked = task_of(job), key.parked(p, job.queue)
  if redis.call('SCARD', parked) < PARKED_TASKS or redis.call('SISMEMBER', parked, task or '') == 1 then return task end
end

-- Releases a job that cannot run now, for a reason that is not its fault. `waiting_for` counts how often that happened.
local function release_later(w, p, id, job, now, cause, detail)
  local times = num(string.match(job.waiting_for or '', '^%d+'))
  local task = cause == 'worker_with_task' and parking_task(p, job)
  job.waiting_for = int(times + 1) .. ' ' .. cause .. ' ' .. (task or detail)
  if task then
    to_ready(w, p, id, job, 'LPUSH', 'settled_epoch', job.epoch, 'waiting_for', job.waiting_for)
    return task
  end
  local delay = math.min(1000 * 2 ^ math.min(times, 10), 30000)
  to_delayed(w, p, id, job, 'scheduled', now + delay, 'settled_epoch', job.epoch, 'waiting_for', job.waiting_for)
end

function settle.release(w, p, id, job, now, cause, detail)
  if job.cancel_requested then return settle.canceled(w, p, id, job, now, CANCELED) end
  if cause ~= 'released' then
    uncharge(job)
    waits.list_again(w, p, id, job)
    return release_later(w, p, id, job, now, cause, detail)
  end
  local history = history_with(p, id, job, now, cause)
  uncharge(job)
  to_ready(w, p, id, job, 'RPUSH', 'settled_epoch', job.epoch, 'history', history, waits.started(job))
end

do
  -- How often a job may be put off in a generation.
  local MAX_SNOOZES = 1000
  local TOO_OFTEN = '{"code":"snoozed_too_often","message":"the handler put the job off 1000 times","retryable":false}'
  local TOO_LONG = '{"code":"deadline_exceeded","message":"the handler put the job off beyond its deadline","retryable":false}'

  function settle.snooze(w, p, id, job, now, delay)
    if job.cancel_requested then return settle.canceled(w, p, id, job, now, CANCELED) end
    local due, snoozes = now + num(delay), num(job.snoozes) + 1
    if snoozes > MAX_SNOOZES then return settle.fail(w, p, id, job, now, TOO_OFTEN) end
    if job.deadline and due >= num(job.deadline) then return settle.fail(w, p, id, job, now, TOO_LONG) end
    local history = history_with(p, id, job, now, 'snoozed')
    uncharge(job)
    job.waiting_for = int(num(string.match(job.waiting_for or '', '^%d+'))) .. ' snooze '
    to_delayed(w, p, id, job, 'scheduled', due, 'settled_epoch', job.epoch, 'snoozes', int(snoozes), 'waiting_for',
      job.waiting_for, 'history', history, waits.started(job))
  end
end

-- Whether the job was last settled under that epoch. Only settling makes a job succeed, so success needs no `settled_epoch`.
local function was_settled(job, epoch)
  return epoch == (job.status == 'succeeded' and job.epoch or job.settled_epoch)
end

local function settle_one(w, p, now, call, id, epoch, outcome, a, b, c)
  local name = key.job(p, id)
  local values = redis.pcall('HMGET', name, 'state', 'optional', 'group')
  local queue = outcome == 'complete' and fast.complete and fast.complete(w, p, now, call.worker, id, name, values, epoch, a)
  if queue then return 1, queue end
  local job = job_of(name, values)
  if not job then return -2 end
  if not holds(job, epoch, call.worker) then return was_settled(job, epoch) and 2 or -1 end
  leave_running(w, p, id, job)
  settle[outcome](w, p, id, job, now, a, b, c)
  return 1, job.queue
end
