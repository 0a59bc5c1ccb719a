-- retry: give a failed or canceled job a second life, by hand. `redrive` does the same for many dead letters.
--
-- KEYS 1  the partition's root
-- ARGV 1  id
-- Returns  1  queued again
--          0  not failed or canceled
--         -2  no such job
-- Touches the job's hash and log, and its queue's ready, ghosts, failed, finished and wake.
--
-- The epoch stays, so that no worker of the first life can settle the second; the generation grows.
local ENDED = { 'error', 'result', 'result_large', 'result_size', 'result_type', 'cancel_requested', 'finished_at',
  'expires_at', 'started_at', 'worker', 'progress', 'progress_message', 'unroutable' }

local function revive(w, p, id, job, now)
  local history = job.history
  if job.started_at then history = remember_attempt(job, now, job.status, job.error) end
  w:call('PERSIST', key.job(p, id))
  if job.log_bytes then w:call('PERSIST', key.log(p, id)) end
  w:call('ZREM', key.finished(p, job.queue), id)
  w:call('ZREM', key.failed(p, job.queue), id)
  w:call('HDEL', key.job(p, id), unpack(ENDED))
  job.losses = 0
  local fields = { 'attempt', '0', 'losses', '0', 'generation', int(num(job.generation) + 1) }
  if history then fields[#fields + 1] = 'history' fields[#fields + 1] = history end
  if redis.call('SISMEMBER', key.ghosts(p, job.queue), id) == 1 then
    -- It never left its ready list: it keeps its place, and only stops being a ghost.
    w:call('SREM', key.ghosts(p, job.queue), id)
    change(w, p, id, job, 'status', 'queued', unpack(fields))
  else
    to_ready(w, p, id, job, 'LPUSH', unpack(fields))
  end
  w:add('ZADD', key.queues(p), int(now), job.queue)
end

local function retry(keys, argv)
  local p, id, now, w = keys[1], argv[1], now_ms(), writes()
  local job = read_job(p, id, MOVES)
  if not job then return -2 end
  if job.status ~= 'failed' and job.status ~= 'canceled' then return 0 end
  revive(w, p, id, job, now)
  wake(w, p, job.queue)
  w:commit()
  return 1
end

register('retry', retry, {})
