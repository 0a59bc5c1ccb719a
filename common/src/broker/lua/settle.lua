-- settle_one(w, p, now, worker, id, epoch, outcome, a, b): end one attempt. Called inside `exchange`.
--
--   outcome    a               b
--   complete   result          its content type
--   retry      error (JSON)    milliseconds until the next attempt
--   fail       error (JSON)
--   canceled   error (JSON)
--   release    cause           (cause 'unroutable' waits 1 s, doubling to 30 s; others go to the front at once)
--
-- Returns  1  settled
--          2  this very attempt was settled before: the reply got lost, and asking again is safe
--         -1  stale: another attempt holds the job, or the lease was taken back
--         -2  no such job (deleted meanwhile, or its record cannot be read)
--
-- A cancel that was asked for wins over retry and release, never over an end that the handler reached.

-- Results up to this size, if JSON, stand in `result` and travel with the status; others in `result_large`.
local INLINE_RESULT_BYTES = 65536

-- From this percent of `maxmemory` on a result that does not stand inline makes its own room: an older ended job goes.
local MEMORY_ALL_BUT_FULL = 95

local settle = {}

function settle.complete(w, p, id, job, now, result, content_type)
  local inline = content_type == 'application/json' and #result <= INLINE_RESULT_BYTES
  local fields = { 'settled_epoch', job.epoch, 'result_size', int(#result), inline and 'result' or 'result_large', result }
  if content_type ~= 'application/json' then
    fields[#fields + 1] = 'result_type'
    fields[#fields + 1] = content_type
  end
  local memory = memory(w, p)
  if memory.used >= MEMORY_ALL_BUT_FULL and #result > INLINE_RESULT_BYTES then make_room(w, p, job.queue, 1) end
  to_terminal(w, p, id, job, 'succeeded', now, unpack(fields))
  if job.error then w:call('HDEL', key.job(p, id), 'error') end
  -- In a nearly full Redis what went in makes room for what came out: so a full one drains.
  if memory.used >= memory.watermark then w:call('HDEL', key.job(p, id), 'payload') end
end

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

function settle.release(w, p, id, job, now, cause)
  if job.cancel_requested then return settle.canceled(w, p, id, job, now, CANCELED) end
  if cause == 'unroutable' then
    local times = num(job.unroutable)
    local delay = math.min(1000 * 2 ^ math.min(times, 10), 30000)
    return to_delayed(w, p, id, job, 'scheduled', now + delay, 'settled_epoch', job.epoch, 'attempt', uncharged(job),
      'unroutable', int(times + 1))
  end
  local history = remember_attempt(p, id, job, now, cause)
  to_ready(w, p, id, job, 'RPUSH', 'settled_epoch', job.epoch, 'attempt', uncharged(job), 'history', history)
end

local function settle_one(w, p, now, worker, id, epoch, outcome, a, b)
  local job = read_job(p, id, MOVES)
  if not job then return -2 end
  if job.settled_epoch == epoch then return 2 end
  if not holds(job, epoch, worker) then return -1 end
  w:add('ZREM', key.running(p, job.queue), id)
  settle[outcome](w, p, id, job, now, a, b)
  return 1, job.queue
end
