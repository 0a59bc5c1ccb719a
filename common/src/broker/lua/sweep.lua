-- sweep: take back expired leases, end jobs that did not run before their deadline or start in time, promote due jobs, trim expired ones,
-- leave wake-up tokens. Idempotent.
--
-- Uses: keys, register, core, errors, limits, groups, waits, lifecycle, promote, take_back
--
-- KEYS 1  the partition's layout
-- ARGV 1  percent of `maxmemory` from which ended jobs are removed early; absent inside a heartbeat: as last time
--      2  when the caller saw `due` empty: no lease is older than that; '' if it never did
-- Returns {swept, requeued, failed, promoted, trimmed, more, overdue, expired, features}; swept = 0 if the last sweep is younger
-- than a second and left nothing undone. `more` = 1: stopped by budget (32 queues, 100 jobs in all), call again at once.
-- `overdue`, `expired`: how many jobs failed at their deadline, and were canceled because they did not start in time.
-- `features`: see `open`.
-- Touches `sweep`, `queues`, `queues:names`, `due`, `queues:side`, `queues:ended`, `workers`, `leases`, `recent`, error groups,
-- indexes, jobs' hashes, and per queue every list and set.
--
-- Called every second where something may be due, and every ten seconds elsewhere (`Broker::to_sweep`).
--
-- Every second the queues are visited in which a lease has expired or a job is due: `due` lists them. Other queues cannot
-- need more than a new token or a trimmed index, neither of which is urgent: tokens are seldom lost, and an expired job is
-- only kept a little longer. So those are visited in rounds, one every ten seconds (or at once
-- after a call that was stopped by budget), and only the next few of a round each second, until it is 32 queues in all: a
-- second of an idle Redis costs the same whether there are 32 queues or 50 000, and next to nothing between two rounds. While
-- Redis is nearly full every queue is visited at once, because each may have ended jobs to remove; and after the clock went
-- back, because then every time in `due` is wrong. A version without `due` lists nothing there: its jobs are found in rounds.
--
-- After Redis was unavailable every lease has expired though most workers are alive. So when no sweep ran for longer than a
-- third of the shortest registered lease, or the clock went back, nothing is taken back for one longest lease: time for live
-- workers to send a heartbeat. A third, because workers without any API sweep with their heartbeats, every quarter of a
-- lease, and because a worker that sent one just before the silence must have time left to send one after it.
local SWEEP_QUEUES, SWEEP_IDS = 32, 100
-- From the start of one round through all queues to the start of the next.
local ROUND_MS = 10000
local SILENCE_SHARE = 0.35
local DEFAULT_LEASE_MS, DEFAULT_WATERMARK = 10000, 70
-- When a process of this version last swept or sent a heartbeat. It is in the memory of this Redis only, for `used`.
local used_at
-- How many of the newest jobs of a partition a list can show first.
local RECENT_JOBS = 1000
-- An unused queue is removed from the index after an hour.
local QUEUE_KEPT_MS = 3600000
-- A job that runs at its deadline is checked again after this long. Its worker knows the deadline; but the worker may be
-- lost, and the job ready again.
local OVERDUE_LOOK_MS = 10000
-- Lanes of parked jobs that one visit tidies, and how many ids of a lane it reads at once.
local TIDIED_LANES, TIDIED_IDS = 8, 20

-- Scores beyond any lease come from a clock that has been set back since.
local function cap_leases(w, p, now, queue, guard, swept)
  local name, last = key.running(p, queue), int(now + guard.longest)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', name, '(' .. last, '+inf', 'LIMIT', 0, swept.left)) do
    w:add('ZADD', name, last, id)
    swept.left = swept.left - 1
  end
end

local function sweep_running(w, p, now, queue, guard, swept)
  if now < guard.grace_until then return end
  local name = key.running(p, queue)
  local expired = redis.call('ZRANGEBYSCORE', name, '-inf', int(now), 'WITHSCORES', 'LIMIT', 0, swept.left)
  for at = 1, #expired, 2 do
    take_back(w, p, now, queue, expired[at], tonumber(expired[at + 1]), swept)
    swept.left = swept.left - 1
  end
end

local function sweep_deadlines(w, p, now, queue, swept)
  local name = key.deadlines(p, queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', name, '-inf', int(now), 'LIMIT', 0, swept.left)) do
    local job, unreadable = read_job(p, id)
    local limit, status, error = waits.next_look(job)
    if unreadable then quarantine(w, p, id, now) end
    if not limit then
      w:add('ZREM', name, id)
    elseif limit > now then
      w:add('ZADD', name, int(limit), id)
    elseif job.status == 'running' then
      w:add('ZADD', name, int(now + OVERDUE_LOOK_MS), id)
    else
      remove_waiting(w, p, id, job)
      if status == 'canceled' then
        to_terminal(w, p, id, job, status, now, 'error', error)
        swept.expired = swept.expired + 1
      else
        to_failed(w, p, id, job, now, error)
        swept.overdue = swept.overdue + 1
      end
    end
    swept.left = swept.left - 1
  end
end

-- Drops ghosts from the end of a lane that is claimed from: if no worker claims from it they would stay for ever.
local function drop_ghosts(w, p, queue, lane, most)
  local name, ghosts, dropped, continues = key.ready(p, queue, lane), key.ghosts(p, queue), 0, true
  while continues do
    local looks = math.min(most - dropped, TIDIED_IDS)
    local ids = redis.call('LRANGE', name, -dropped - looks, -dropped - 1)
    continues = #ids == looks and dropped + looks < most
    for at = #ids, 1, -1 do
      if redis.call('SISMEMBER', ghosts, ids[at]) == 0 then
        continues = false
        break
      end
      w:add('SREM', ghosts, ids[at])
      dropped = dropped + 1
    end
  end
  if dropped > 0 then w:call('RPOP', name, dropped) end
  return dropped
end

-- Drops ghosts, and then the names of tasks for which no job is parked any more: of some tasks, chosen at random in each
-- visit.
local function tidy_lanes(w, p, queue, swept)
  local tasks = redis.call('SRANDMEMBER', key.parked(p, queue), TIDIED_LANES)
  local lanes = redis.call('EXISTS', key.ghosts(p, queue)) == 1 and { SOLITARY, unpack(LANES) } or {}
  for at, task in ipairs(lanes[1] and tasks or NONE) do lanes[#LANES + 1 + at] = lane_for(task) end
  for _, lane in ipairs(lanes) do
    if swept.left > 0 then swept.left = swept.left - drop_ghosts(w, p, queue, lane, swept.left) end
  end
  w:commit()
  for _, task in ipairs(tasks) do
    if redis.call('EXISTS', key.ready(p, queue, lane_for(task))) == 0 then w:add('SREM', key.parked(p, queue), task) end
  end
end

-- Lists when the queue is to be visited next. Not before the next sweep: while leases are not taken back, expired ones
-- remain.
local function list_next_due(w, p, now, queue)
  local first = earlier(first_due(p, queue), limits.waits_until(w, p, now, queue))
  if first then
    w:call('ZADD', key.due(p), int(math.max(first, now + SWEEP_MS)), queue)
  else
    w:call('ZREM', key.due(p), queue)
  end
end

-- Sweeps one queue as far as the budget allows; if none is left there may be more to do here, and the queue stays listed.
-- What is not urgent is done only in rounds (`in_turn`).
local function sweep_queue(w, p, now, queue, guard, swept, in_turn)
  if in_turn then cap_leases(w, p, now, queue, guard, swept) end
  local left = swept.left
  sweep_running(w, p, now, queue, guard, swept)
  local has_taken_back = swept.left < left
  w:commit()
  sweep_deadlines(w, p, now, queue, swept)
  w:commit()
  local promoted, given = promote(w, p, queue, now, swept.left)
  swept.left = swept.left - promoted - given
  local trimmed = trim(w, p, queue, now, swept.left)
  swept.left = swept.left - trimmed
  swept.promoted, swept.trimmed = swept.promoted + promoted, swept.trimmed + trimmed
  w:commit()
  if swept.memory >= swept.watermark and swept.left > 0 then
    local removed = make_room(w, p, queue, swept.left)
    w:commit()
    swept.left, swept.trimmed = swept.left - removed, swept.trimmed + removed
  end
  if in_turn then
    tidy_lanes(w, p, queue, swept)
    swept.left = swept.left - groups.tidy(w, p, queue, now)
    w:commit()
    refresh_side_queue(w, p, queue)
    refresh_ended_queue(w, p, queue)
  end
  wake(w, p, { queue, unpack(has_taken_back and limits.siblings(p, queue) or NONE) }, is_claimable)
  if swept.left > 0 then list_next_due(w, p, now, queue) end
  w:commit()
end

-- How much of `maxmemory` is used, in percent.
local function measure_memory()
  local info = redis.call('INFO', 'memory')
  local used, most = string.match(info, 'used_memory:(%d+)'), num(string.match(info, 'maxmemory:(%d+)'))
  return most > 0 and math.floor(num(used) * 100 / most) or 0
end

-- From when leases may be taken back again, and how long the longest registered lease is.
local function silence_guard(p, now, last, grace_until, quiet_at)
  local shortest = redis.call('ZRANGE', key.leases(p), 0, 0, 'WITHSCORES')
  local longest = redis.call('ZRANGE', key.leases(p), -1, -1, 'WITHSCORES')
  local guard = { longest = num(longest[2] or DEFAULT_LEASE_MS) }
  guard.grace_until = math.min(num(grace_until), now + guard.longest)
  local silence = math.max(num(shortest[2] or DEFAULT_LEASE_MS) * SILENCE_SHARE, 1.5 * SWEEP_MS)
  -- Where nothing was due sweeps were rare for another reason, and every lease there is younger than that look.
  local seen = math.max(num(last), num(quiet_at))
  if not last or now < seen or now - seen > silence then guard.grace_until = now + guard.longest end
  return guard
end

-- A version without `queues:names` adds nothing to it and removes nothing from it. So if the two indexes differ in size,
-- which never happens where one version runs, the names are copied: about a microsecond each, once after an upgrade, and
-- while two versions run as often as the other one lists or removes a queue.
local function correct_names(w, p)
  if redis.call('ZCARD', key.names(p)) == redis.call('ZCARD', key.queues(p)) then return end
  w:call('ZUNIONSTORE', key.names(p), 1, key.queues(p), 'WEIGHTS', 0)
  w:commit()
end

-- Removes workers that stopped sending heartbeats and can hold no lease any more.
local function remove_workers(w, p, now)
  local silent = redis.call('ZRANGEBYSCORE', key.workers(p), '-inf', int(now - WORKER_KEPT_MS), 'WITHSCORES', 'LIMIT', 0,
    SWEEP_IDS)
  for at = 1, #silent, 2 do
    if now - tonumber(silent[at + 1]) >= num(redis.call('ZSCORE', key.leases(p), silent[at])) then
      w:add('ZREM', key.workers(p), silent[at])
      w:add('ZREM', key.leases(p), silent[at])
      w:call('HDEL', key.worker(p, silent[at]), 'lease')
    end
  end
end

-- Removes queues that were not used for an hour.
local function remove_queues(w, p, now)
  local unused = redis.call('ZRANGEBYSCORE', key.queues(p), '-inf', int(now - QUEUE_KEPT_MS), 'LIMIT', 0, SWEEP_QUEUES)
  for _, queue in ipairs(unused) do
    if is_empty(p, queue) then
      w:add('ZREM', key.queues(p), queue)
      w:add('ZREM', key.names(p), queue)
      w:add('SREM', key.side_queues(p), queue)
      w:add('SREM', key.ended_queues(p), queue)
      w:add('ZREM', key.due(p), queue)
      w:call('HDEL', key.confined(p), queue)
      w:call('DEL', key.wake(p, queue), key.ghosts(p, queue), key.turns(p, queue), key.rates(p, queue))
    else
      list_queue(w, p, now, queue)
    end
  end
  w:commit()
end

-- Sweeps the queues in which something is due. Returns whether there may be more of them, and how many it visited.
local function sweep_due(w, p, now, guard, swept)
  local queues = redis.call('ZRANGEBYSCORE', key.due(p), '-inf', int(now), 'LIMIT', 0, SWEEP_QUEUES)
  for _, queue in ipairs(queues) do
    sweep_queue(w, p, now, queue, guard, swept)
    if swept.left <= 0 then return true, 0 end
  end
  return #queues == SWEEP_QUEUES, #queues
end

-- Sweeps the next `most` queues of all, due or not, until the budget is spent. Returns where the next call continues, 0 at
-- the end, and whether it stopped within these. A queue that changes its place in the index meanwhile may be visited only in
-- the next round.
local function sweep_in_turn(w, p, now, first, most, guard, swept)
  local queues = redis.call('ZRANGE', key.queues(p), first, first + most - 1)
  for at, queue in ipairs(queues) do
    sweep_queue(w, p, now, queue, guard, swept, true)
    if swept.left <= 0 then return first + at - 1, true end
  end
  return #queues == most and first + most or 0, false
end

-- Whether every queue is to be visited at once, until the round ends.
local function sweeps_all(state, now, swept)
  return state.all == '1' or swept.memory >= swept.watermark or (state.last and now < num(state.last))
end

local function read_state_of_sweeps(p)
  local values = redis.call('HMGET', key.sweep(p), 'last', 'grace_until', 'cursor', 'more', 'watermark', 'all', 'round',
    'errors')
  return { last = values[1], grace_until = values[2], cursor = values[3], more = values[4], watermark = values[5],
    all = values[6], round = values[7], errors = values[8] }
end

local function sweep_if_due(p, now, w, watermark, quiet_at)
  used_at = now
  local state = read_state_of_sweeps(p)
  local swept = { requeued = 0, failed = 0, promoted = 0, trimmed = 0, overdue = 0, expired = 0, left = SWEEP_IDS }
  local age = now - num(state.last)
  if state.more ~= '1' and age >= 0 and age < SWEEP_MS then return { 0, 0, 0, 0, 0, 0, 0, 0 } end
  swept.memory, swept.watermark = measure_memory(), num(watermark or state.watermark or DEFAULT_WATERMARK)
  local guard = silence_guard(p, now, state.last, state.grace_until, quiet_at)
  local all, cursor, round = sweeps_all(state, now, swept), num(state.cursor), num(state.round)
  -- The first call that visits all starts with the first queue.
  if all and state.all ~= '1' then cursor = 0 end
  -- First: whatever fails later, this list does not grow for ever.
  w:call('LTRIM', key.recent(p), 0, RECENT_JOBS - 1)
  w:commit()
  local more, visited = sweep_due(w, p, now, guard, swept)
  local has_turn = cursor > 0 or all or state.more == '1' or now < round or now - round >= ROUND_MS
  local round_ends = false
  if has_turn and not more then
    if cursor == 0 then round = now end
    cursor, more = sweep_in_turn(w, p, now, cursor, SWEEP_QUEUES - visited, guard, swept)
    round_ends = cursor == 0 and not more
    if round_ends then all = false end
  end
  more = more or all
  w:call('HSET', key.sweep(p), 'last', int(now), 'grace_until', int(guard.grace_until), 'cursor', int(cursor),
    'more', more and 1 or 0, 'all', all and 1 or 0, 'round', int(round), 'memory', swept.memory, 'watermark',
    swept.watermark)
  count_ended(w, p, now)
  if not more then remove_workers(w, p, now) end
  if round_ends then
    remove_queues(w, p, now)
    correct_names(w, p)
    w:call('HSET', key.sweep(p), 'errors', int(errors.tidy(w, p, now, num(state.errors))))
  end
  w:commit()
  return { 1, swept.requeued, swept.failed, swept.promoted, swept.trimmed, more and 1 or 0, swept.overdue, swept.expired }
end

local function sweep(p, argv)
  local reply = sweep_if_due(p, now_ms(), writes(), argv[1], argv[2])
  reply[9] = features(p)
  return reply
end

register('sweep', sweep, { 'allow-oom' })
