-- settle_one(w, p, now, call, id, epoch, outcome, a, b): end one attempt. Called inside `exchange`.
--
--   outcome       a               b
--   complete      result (JSON)
--   complete_as   result          its content type
--   retry         error (JSON)    milliseconds until the next attempt
--   fail          error (JSON)
--   canceled      error (JSON)
--   release       cause           detail, or ''
--
-- Returns  1  settled
--          2  this very attempt was settled before: the reply got lost, and asking again is safe
--         -1  stale: another attempt holds the job, or the lease was taken back
--         -2  no such job (deleted meanwhile, or its record cannot be read)
--
-- A release is never charged. With the cause 'released' the job goes to the front at once; with 'worker_with_task' it is parked:
-- it waits, ready, in the lane of its task, from which only workers with that task claim. Any other cause names what the job
-- waits for, and it is tried again after 1 s, doubling to 30 s, as often as it takes; so is one that cannot be parked, because it
-- must run alone or too many tasks are. `waiting_for` shows cause and detail.
--
-- A cancel that was asked for wins over retry and release, never over an end that the handler reached.

-- Results up to this size, if JSON, stand in `result` and travel with the status; others in `result_large`.
local INLINE_RESULT_BYTES = 65536

-- Of how many arguments an outcome is made.
local OUTCOME = { complete = 1, complete_as = 2, retry = 2, fail = 1, canceled = 1, release = 2 }

-- Rare fields that the success of a job has to do with: how long it is kept, what is deleted, and who is told.
local COMPLETED_OPTIONAL = { 'deadline', 'retention', 'keep_until', 'error', 'log_bytes', 'watched', 'webhook' }

local settle = {}

-- How the result is kept: which fields, and what is in them.
local function result_fields(result, content_type)
  if content_type then return 'result_large', result, 'result_size', int(#result), 'result_type', content_type end
  if #result > INLINE_RESULT_BYTES then return 'result_large', result, 'result_size', int(#result) end
  return 'result', result
end

function settle.complete(w, p, id, job, now, result, content_type)
  local memory = memory(w, p)
  if memory.used >= MEMORY_ALL_BUT_FULL and #result > INLINE_RESULT_BYTES then
    -- Each finds its own: what those before it make room with is written first.
    w:commit()
    make_room(w, p, job.queue, 1)
  end
  to_terminal(w, p, id, job, 'succeeded', now, result_fields(result, content_type))
  if job.error then w:call('HDEL', job.key, 'error') end
  -- In a nearly full Redis what went in makes room for what came out: so a full one drains.
  if memory.used >= memory.watermark then w:call('HDEL', job.key, 'payload', 'payload_large') end
end

settle.complete_as = settle.complete

function settle.fail(w, p, id, job, now, error)
  to_terminal(w, p, id, job, 'failed', now, 'settled_epoch', job.epoch, 'error', error)
end

function settle.canceled(w, p, id, job, now, error)
  to_terminal(w, p, id, job, 'canceled', now, 'settled_epoch', job.epoch, 'error', error)
end

function settle.retry(w, p, id, job, now, error, delay)
  if job.cancel_requested then return settle.canceled(w, p, id, job, now, CANCELED) end
  local history = remember_attempt(p, id, job, now, 'failed', error)
  to_delayed(w, p, id, job, 'retrying', now + num(delay), 'settled_epoch', job.epoch, 'error', error, 'history', history)
end

-- The task of a job that may be parked, or nil.
local function parking_task(p, job)
  job.waiting_for = nil
  if lane_of(job) == SOLITARY then return nil end
  job.spec = redis.call('HGET', job.key, 'spec')
  local task, parked = task_of(job), key.parked(p, job.queue)
  if redis.call('SCARD', parked) < PARKED_TASKS or redis.call('SISMEMBER', parked, task or '') == 1 then return task end
end

-- Gives a job back that cannot run now, which is not its fault. `waiting_for` counts how often that was.
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
    return release_later(w, p, id, job, now, cause, detail)
  end
  local history = remember_attempt(p, id, job, now, cause)
  uncharge(job)
  to_ready(w, p, id, job, 'RPUSH', 'settled_epoch', job.epoch, 'history', history)
end

local function write_completed(w, group)
  local call, names, results, state, expires = redis.call, group.names, group.results, group.state, group.expires
  for at = 1, group.count do
    call('HSET', names[at], 'state', state, 'result', results[at])
    call('PEXPIREAT', names[at], expires)
  end
  call(unpack(group.leases))
  call(unpack(group.finished))
  w:end_of(group.queue, group.count)
end

-- Jobs that were claimed in one call, and that nothing else has happened to, are in the same state, word for word: one
-- group. How they succeed while there is memory is worked out once; false if these words are not of that kind.
local function completed_alike(w, p, now, call, state)
  local job, memory = read_state(state), memory(w, p)
  if memory.used >= memory.watermark or not holds(job, job and job.epoch, call.worker) then return w:group(state, false) end
  complete_state(job, 'succeeded', now)
  job.version = num(job.version) + 1
  return w:group(state, { write = write_completed, count = 0, names = {}, results = {}, state = state_of(job),
    epoch = job.epoch, queue = job.queue, expires = job.expires_at, leases = variadic('ZREM', key.running(p, job.queue)),
    finished = variadic('ZADD', key.finished(p, job.queue)) })
end

-- A job with nothing rare that its success has to do with, whose result stands inline: what `settle.complete` comes to. Returns
-- its queue.
local function complete_plain(w, p, now, call, id, name, values, epoch, result)
  local state, optional = values[1], values[2]
  if not (state and has_none(optional, COMPLETED_OPTIONAL)) then return nil end
  local group = w.groups[state]
  if group == nil then group = completed_alike(w, p, now, call, state) end
  if not group or group.epoch ~= epoch then return nil end
  local count = group.count + 1
  group.names[count], group.results[count], group.count = name, result, count
  put(group.leases, id)
  put(group.finished, group.expires, id)
  return group.queue
end

-- Whether the job was last settled under that epoch. Only settling makes a job succeed, so that need not be written down.
local function was_settled(job, epoch)
  return epoch == (job.status == 'succeeded' and job.epoch or job.settled_epoch)
end

local function settle_one(w, p, now, call, id, epoch, outcome, a, b)
  local name = key.job(p, id)
  local values = redis.pcall('HMGET', name, 'state', 'rare')
  if outcome == 'complete' and #a <= INLINE_RESULT_BYTES then
    local queue = complete_plain(w, p, now, call, id, name, values, epoch, a)
    if queue then return 1, queue end
  end
  local job = job_of(name, values)
  if not job then return -2 end
  if not holds(job, epoch, call.worker) then return was_settled(job, epoch) and 2 or -1 end
  w:add('ZREM', key.running(p, job.queue), id)
  settle[outcome](w, p, id, job, now, a, b)
  return 1, job.queue
end
