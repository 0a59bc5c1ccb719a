-- sweep: take back expired leases, promote due jobs, forget expired ones, leave wake-up tokens. Idempotent.
--
-- KEYS 1  the partition's root
-- Returns {swept, requeued, failed, promoted, trimmed, more}; swept = 0 if the last sweep is younger than a second.
-- `more` = 1: stopped by budget (32 queues, 100 jobs a kind and queue), ask again at once.
-- Touches `sweep`, `queues`, `workers`, `leases`, jobs' hashes, and per queue every list and set.
--
-- After Redis was away every lease has expired though most workers live. So when sweeps were silent for longer than
-- three quarters of the shortest registered lease, or the clock went back, nothing is taken back for one longest lease:
-- time for the living to beat.
local SWEEP_MS, SWEEP_QUEUES, SWEEP_IDS = 1000, 32, 100
local DEFAULT_LEASE_MS = 10000
-- An unused queue leaves the index after an hour.
local QUEUE_KEPT_MS = 3600000

-- Takes a job back from a worker that let its lease expire. A worker that still beats but never extended this lease
-- did not hear that it was given the job (its reply got lost): nobody is to blame, and no loss is counted.
local function take_back(w, p, now, queue, id, lease_end, swept)
  local job, unreadable = read_job(p, id, MOVES)
  w:add('ZREM', key.running(p, queue), id)
  if unreadable then return quarantine(w, p, id, now) end
  if not job or job.status ~= 'running' then return end
  local beat = redis.call('HMGET', key.worker(p, job.worker), 'seen', 'lease')
  local beats = beat[1] and now - tonumber(beat[1]) <= num(beat[2])
  local unheard = beats and lease_end <= num(job.started_at) + num(beat[2])
  if not unheard then job.losses = num(job.losses) + 1 end
  local losses, history = int(num(job.losses)), remember_attempt(job, now, unheard and 'unheard' or 'lost')
  if job.cancel_requested then
    to_terminal(w, p, id, job, 'canceled', now, 'losses', losses, 'error', CANCELED)
  elseif num(job.losses) >= MAX_LOSSES then
    swept.failed = swept.failed + 1
    to_terminal(w, p, id, job, 'failed', now, 'losses', losses, 'error', WORKER_LOST)
  else
    swept.requeued = swept.requeued + 1
    to_ready(w, p, id, job, 'RPUSH', 'losses', losses, 'attempt', uncharged(job), 'history', history)
  end
end

local function sweep_running(w, p, now, queue, guard, swept)
  local name = key.running(p, queue)
  -- Scores beyond any lease come from a clock that has been set back since.
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', name, '(' .. int(now + guard.longest), '+inf', 'LIMIT', 0, SWEEP_IDS)) do
    w:add('ZADD', name, int(now + guard.longest), id)
  end
  if now < guard.grace_until then return end
  local expired = redis.call('ZRANGEBYSCORE', name, '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, SWEEP_IDS)
  for at = 1, #expired, 2 do
    take_back(w, p, now, queue, expired[at], tonumber(expired[at + 1]), swept)
  end
  if #expired == 2 * SWEEP_IDS then swept.more = true end
end

local function sweep_queue(w, p, now, queue, guard, swept)
  sweep_running(w, p, now, queue, guard, swept)
  local promoted = promote(w, p, queue, now, SWEEP_IDS)
  local expired = redis.call('ZRANGEBYSCORE', key.finished(p, queue), '-inf', int(now), 'LIMIT', 0, SWEEP_IDS)
  if #expired > 0 then
    w:call('ZREM', key.finished(p, queue), unpack(expired))
    w:call('ZREM', key.failed(p, queue), unpack(expired))
  end
  swept.promoted, swept.trimmed = swept.promoted + promoted, swept.trimmed + #expired
  if promoted == SWEEP_IDS or #expired == SWEEP_IDS then swept.more = true end
  w:commit()
  local claimable = has_ready(p, queue) or redis.call('EXISTS', key.ready(p, queue, SOLITARY)) == 1
  if claimable and redis.call('SISMEMBER', key.paused(p), queue) == 0 then wake(w, p, queue) end
  w:commit()
end

-- When leases may be taken back again, and how long the longest registered lease is.
local function silence_guard(w, p, now, last, grace_until)
  local shortest = redis.call('ZRANGE', key.leases(p), 0, 0, 'WITHSCORES')
  local longest = redis.call('ZRANGE', key.leases(p), -1, -1, 'WITHSCORES')
  local guard = { longest = num(longest[2] or DEFAULT_LEASE_MS) }
  guard.grace_until = math.min(num(grace_until), now + guard.longest)
  local silence = math.max(num(shortest[2] or DEFAULT_LEASE_MS) * 0.75, 1.5 * SWEEP_MS)
  if not last or now < num(last) or now - num(last) > silence then guard.grace_until = now + guard.longest end
  return guard
end

-- Once a round: workers that are gone and can hold no lease any more, and queues nobody used for an hour.
local function forget_the_gone(w, p, now)
  local silent = redis.call('ZRANGEBYSCORE', key.workers(p), '-inf', int(now - WORKER_KEPT_MS), 'WITHSCORES', 'LIMIT', 0,
    SWEEP_IDS)
  for at = 1, #silent, 2 do
    if now - tonumber(silent[at + 1]) >= num(redis.call('ZSCORE', key.leases(p), silent[at])) then
      w:add('ZREM', key.workers(p), silent[at])
      w:add('ZREM', key.leases(p), silent[at])
      w:call('HDEL', key.worker(p, silent[at]), 'lease')
    end
  end
  local unused = redis.call('ZRANGEBYSCORE', key.queues(p), '-inf', int(now - QUEUE_KEPT_MS), 'LIMIT', 0, 8)
  for _, queue in ipairs(unused) do
    if is_empty(p, queue) then w:add('ZREM', key.queues(p), queue) else w:add('ZADD', key.queues(p), int(now), queue) end
  end
  w:commit()
end

-- A queue that changes its place in the index meanwhile may be met only in the next round.
local function sweep_if_due(p, now, w)
  local state = redis.call('HMGET', key.sweep(p), 'last', 'grace_until', 'cursor')
  local swept = { requeued = 0, failed = 0, promoted = 0, trimmed = 0, more = false }
  local first, age = num(state[3]), now - num(state[1])
  if first == 0 and age >= 0 and age < SWEEP_MS then return { 0, 0, 0, 0, 0, 0 } end
  local guard = silence_guard(w, p, now, state[1], state[2])
  local queues = redis.call('ZRANGE', key.queues(p), first, first + SWEEP_QUEUES - 1)
  for _, queue in ipairs(queues) do sweep_queue(w, p, now, queue, guard, swept) end
  local next_first = swept.more and first or (#queues == SWEEP_QUEUES and first + SWEEP_QUEUES or 0)
  w:call('HSET', key.sweep(p), 'last', int(now), 'grace_until', int(guard.grace_until), 'cursor', int(next_first))
  if next_first == 0 then forget_the_gone(w, p, now) end
  w:commit()
  local more = (swept.more or next_first > 0) and 1 or 0
  return { 1, swept.requeued, swept.failed, swept.promoted, swept.trimmed, more }
end

local function sweep(keys) return sweep_if_due(keys[1], now_ms(), writes()) end

register('sweep', sweep, { 'allow-oom' })
