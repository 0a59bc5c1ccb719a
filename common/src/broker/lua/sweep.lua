-- sweep: take back expired leases, promote due jobs, forget expired ones, leave wake-up tokens. Idempotent.
--
-- KEYS 1  the partition's root
-- ARGV 1  percent of `maxmemory` from which ended jobs are forgotten early; absent inside a heartbeat: as last time
-- Returns {swept, requeued, failed, promoted, trimmed, more}; swept = 0 if the last sweep is younger than a second and
-- left nothing undone. `more` = 1: stopped by budget (32 queues, 100 jobs in all), ask again at once.
-- Touches `sweep`, `queues`, `unusual`, `workers`, `leases`, jobs' hashes, and per queue every list and set.
--
-- After Redis was away every lease has expired though most workers live. So when sweeps were silent for longer than a
-- third of the shortest registered lease, or the clock went back, nothing is taken back for one longest lease: time for
-- the living to beat. A third, because workers without any API sweep with their beats, every quarter of a lease, and
-- because a worker that beat just before the silence must have time left to beat after it.
local SWEEP_MS, SWEEP_QUEUES, SWEEP_IDS = 1000, 32, 100
local SILENCE_SHARE = 0.35
local DEFAULT_LEASE_MS, DEFAULT_WATERMARK = 10000, 70
-- An unused queue leaves the index after an hour.
local QUEUE_KEPT_MS = 3600000

local function sweep_running(w, p, now, queue, guard, swept)
  local name = key.running(p, queue)
  -- Scores beyond any lease come from a clock that has been set back since.
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', name, '(' .. int(now + guard.longest), '+inf', 'LIMIT', 0, swept.left)) do
    w:add('ZADD', name, int(now + guard.longest), id)
    swept.left = swept.left - 1
  end
  if now < guard.grace_until then return end
  local expired = redis.call('ZRANGEBYSCORE', name, '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, swept.left)
  for at = 1, #expired, 2 do
    take_back(w, p, now, queue, expired[at], tonumber(expired[at + 1]), swept)
    swept.left = swept.left - 1
  end
end

-- Sweeps one queue as far as the budget goes; with nothing left of it there may be more to do here.
local function sweep_queue(w, p, now, queue, guard, swept)
  sweep_running(w, p, now, queue, guard, swept)
  local promoted = promote(w, p, queue, now, swept.left)
  swept.left = swept.left - promoted
  local trimmed = trim(w, p, queue, now, swept.left)
  swept.left = swept.left - trimmed
  swept.promoted, swept.trimmed = swept.promoted + promoted, swept.trimmed + trimmed
  w:commit()
  if swept.memory >= swept.watermark and swept.left > 0 then
    local forgotten = make_room(w, p, queue, swept.left)
    w:commit()
    swept.left, swept.trimmed = swept.left - forgotten, swept.trimmed + forgotten
  end
  look_for_unusual(w, p, queue)
  wake_if_claimable(w, p, queue)
  w:commit()
end

-- How much of `maxmemory` is used, in percent.
local function measure_memory()
  local info = redis.call('INFO', 'memory')
  local used, most = string.match(info, 'used_memory:(%d+)'), num(string.match(info, 'maxmemory:(%d+)'))
  return most > 0 and math.floor(num(used) * 100 / most) or 0
end

-- When leases may be taken back again, and how long the longest registered lease is.
local function silence_guard(p, now, last, grace_until)
  local shortest = redis.call('ZRANGE', key.leases(p), 0, 0, 'WITHSCORES')
  local longest = redis.call('ZRANGE', key.leases(p), -1, -1, 'WITHSCORES')
  local guard = { longest = num(longest[2] or DEFAULT_LEASE_MS) }
  guard.grace_until = math.min(num(grace_until), now + guard.longest)
  local silence = math.max(num(shortest[2] or DEFAULT_LEASE_MS) * SILENCE_SHARE, 1.5 * SWEEP_MS)
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
    if is_empty(p, queue) then
      w:add('ZREM', key.queues(p), queue)
      w:add('SREM', key.unusual(p), queue)
      w:call('DEL', key.wake(p, queue), key.ghosts(p, queue))
    else
      w:add('ZADD', key.queues(p), int(now), queue)
    end
  end
  w:commit()
end

-- Sweeps the queues from `first` on until the budget is spent; returns where the next call goes on, 0 at the end.
local function sweep_from(w, p, now, first, guard, swept)
  local queues = redis.call('ZRANGE', key.queues(p), first, first + SWEEP_QUEUES - 1)
  for at, queue in ipairs(queues) do
    sweep_queue(w, p, now, queue, guard, swept)
    if swept.left <= 0 then return first + at - 1, true end
  end
  if #queues == SWEEP_QUEUES then return first + SWEEP_QUEUES, true end
  return 0, false
end

-- A queue that changes its place in the index meanwhile may be met only in the next round.
local function sweep_if_due(p, now, w, watermark)
  local state = redis.call('HMGET', key.sweep(p), 'last', 'grace_until', 'cursor', 'more', 'watermark')
  local swept = { requeued = 0, failed = 0, promoted = 0, trimmed = 0, left = SWEEP_IDS }
  local age = now - num(state[1])
  if state[4] ~= '1' and age >= 0 and age < SWEEP_MS then return { 0, 0, 0, 0, 0, 0 } end
  swept.memory, swept.watermark = measure_memory(), num(watermark or state[5] or DEFAULT_WATERMARK)
  local guard = silence_guard(p, now, state[1], state[2])
  local cursor, more = sweep_from(w, p, now, num(state[3]), guard, swept)
  w:call('HSET', key.sweep(p), 'last', int(now), 'grace_until', int(guard.grace_until), 'cursor', int(cursor),
    'more', more and 1 or 0, 'memory', swept.memory, 'watermark', swept.watermark)
  count_ended(w, p, now)
  if not more then forget_the_gone(w, p, now) end
  w:commit()
  return { 1, swept.requeued, swept.failed, swept.promoted, swept.trimmed, more and 1 or 0 }
end

local function sweep(keys, argv) return sweep_if_due(keys[1], now_ms(), writes(), argv[1]) end

register('sweep', sweep, { 'allow-oom' })
