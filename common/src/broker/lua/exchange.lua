-- exchange: settle attempts that ended, promote what is due, claim what fits; the one call per batch of a busy worker.
--
-- Uses: keys, register, core, limits, groups, lifecycle, promote, settle, claim, turns
--
-- KEYS 1  the partition's layout
-- ARGV 1  worker   2  number of this exchange   3  its sequence   4  lease, ms   5  how many jobs it wants
--      6  how many it continues to run   7  the tasks it can run now, separated by blanks
--      8  how many queues follow; their names, in the order in which to read them
--      then the settlements: id, epoch, outcome, and its one to three arguments (see settle.lua)
-- Returns {now, {code, …}, claims, ms until it must send another | -1, more, reserved, expired}, or {-1} if a later exchange of this
-- worker and sequence was answered before, or the worker was declared dead (`dead`). `claims` has four elements for each job:
-- '<queue> <epoch> <attempt> <priority> <run_at>', '-' for none, or '' if equal to that of the job before; its id; spec;
-- payload, nil if it is to be fetched from `payload_large`. `more` = 1: stopped by budget, call again at once.
-- `reserved` = 1: this worker runs a job that must run alone, or was chosen for one that waits; nothing (more) is handed out
-- until it runs nothing else. `expired`: how many jobs were canceled instead of being claimed, because they are too late.
--
-- The same number again settles again (harmless) and returns the claims of the first time: a lost reply loses nothing. Each
-- sequence has its own numbers, and each pool of slots of a worker has two sequences, so that several exchanges of a worker
-- may be in flight. The sequence `unnumbered` carries settlements only, always with the number 0, which is never recorded: so
-- any number of them may be in flight, and repeated.
-- Touches the jobs' hashes, the worker's hash, `workers`, `leases`, `reserved`, `queues`, `queues:side`, `queues:ended`,
-- `recent`, error groups, indexes, and per queue every list and set.
local PROMOTE_LIMIT, PROMOTE_LEAST, CLAIM_LOOKS = 100, 32, 100
-- Of how many queues one read finds out whether they are empty.
local QUEUES_AT_ONCE = 8
-- What one call hands out, and what is fetched after it, in bytes.
local CLAIM_BYTES, LARGE_BYTES = 131072, 4194304
-- A worker that is reserved for a job that must run alone is let off after this long: the jobs it still runs may take hours.
local RESERVED_MS = 600000

local function read_exchange(argv, now)
  local call = { worker = argv[1], number = num(argv[2]), numbered = 'exchange:' .. argv[3], handed = 'claims:' .. argv[3],
    lease = num(argv[4]), want = num(argv[5]), idle = argv[6] == '0', names = argv[7], queues = {}, settlements = 9 + num(argv[8]),
    claims = {}, claimed = 0, held = { int(now) }, header = false, bytes = CLAIM_BYTES, large_bytes = LARGE_BYTES,
    looks = CLAIM_LOOKS, full = false, now = int(now), lease_end = int(now + num(argv[4])), lease_ends = now + num(argv[4]),
    open = false, expired = 0, side_queues = NONE, alone = false, emptied = {}, blocked_lanes = {} }
  for at = 9, call.settlements - 1 do call.queues[#call.queues + 1] = argv[at] end
  return call
end

-- Reads all, then writes all. Trims two expired entries for every job that ended, so that indexes keep up at any rate.
local function settle_all(w, p, now, call, argv)
  local codes, settled, seen, at = {}, {}, {}, call.settlements
  while argv[at] do
    local id, outcome = argv[at], argv[at + 2]
    -- The same job twice: the second settlement is checked against the result of the first.
    if seen[id] then w:commit() end
    seen[id] = true
    local code, queue = settle_one(w, p, now, call, id, argv[at + 1], outcome, argv[at + 3],
      OUTCOME[outcome] > 1 and argv[at + 4], OUTCOME[outcome] > 2 and argv[at + 5])
    codes[#codes + 1] = code
    if queue then settled[queue] = true end
    at = at + 3 + OUTCOME[outcome]
  end
  w:commit()
  for queue, count in pairs(w.ended) do trim(w, p, queue, now, 2 * count) end
  count_ended(w, p, now)
  w:commit()
  return codes, settled
end

-- Whether the next solitary job of a queue may start now, as far as its group is concerned.
local function may_start_solitary(w, p, now, queue)
  local id = redis.call('LINDEX', key.ready(p, queue, SOLITARY), -1)
  local group = id and redis.call('HGET', key.job(p, id), 'group')
  local turn = group and groups.turn_of_job(w, p, queue, { group = group })
  return id and limits.room(w, p, now, queue) > 0 and (not turn or groups.may_start(w, p, now, queue, turn) == now)
end

-- Whether a solitary job waits in one of the call's queues for a worker that is free.
local function solitary_waits(w, p, now, call)
  for _, queue in ipairs(call.open) do
    if call.side_queues[queue] and has_solitary(p, queue) and may_start_solitary(w, p, now, queue) then return true end
  end
  return false
end

-- The job that this worker was given alone, if it still runs it: '<id> <epoch>'.
local function still_alone(p, call, alone)
  local id, epoch = string.match(alone or '', '^(%S+) (%S+)$')
  if not id then return nil end
  return holds(read_job(p, id), epoch, call.worker) and alone or nil
end

-- Whether this worker is reserved for a solitary job. One worker at a time is chosen; the others continue.
local function reserve(w, p, now, call)
  if call.alone then return true end
  if call.idle or not solitary_waits(w, p, now, call) then return false end
  local chosen, since = string.match(redis.call('GET', key.reserved(p)) or '', '^(%S+) (%d+)$')
  if not chosen then
    w:call('SET', key.reserved(p), call.worker .. ' ' .. int(now), 'PX', int(call.lease))
  elseif chosen == call.worker and now - num(since) < RESERVED_MS then
    w:call('PEXPIRE', key.reserved(p), int(call.lease))
  end
  return not chosen or chosen == call.worker
end

-- Promotes what is due: at most PROMOTE_LIMIT jobs over all queues, and fewer together with settled and claimed jobs, each of
-- which takes as long as two promotions; but as many as a worker wants at most, which would otherwise believe that no more
-- wait. Returns whether the limit was reached.
local function promote_all(w, p, now, call, settled)
  local left = math.max(PROMOTE_LIMIT - 2 * (settled + call.want), PROMOTE_LEAST)
  for _, queue in ipairs(call.side_queues ~= NONE and call.queues or NONE) do
    if left > 0 and call.side_queues[queue] then
      local promoted, given = promote(w, p, queue, now, left)
      left = left - promoted - given
    end
  end
  w:commit()
  return left <= 0
end

-- Whether a job may wait in one of these queues. One read for several of them, most of which may be empty.
local function may_have_jobs(p, call, queues)
  local names = {}
  for at, queue in ipairs(queues) do
    if call.side_queues[queue] then return true end
    names[at] = key.ready(p, queue, NORMAL)
  end
  if #names < 3 or redis.call('EXISTS', unpack(names)) > 0 then return true end
  for _, queue in ipairs(queues) do call.emptied[queue] = true end
  return false
end

local function claim_all(w, p, now, call)
  for _, queue in ipairs(call.idle and call.side_queues ~= NONE and call.open or NONE) do
    if call.want > 0 and call.side_queues[queue] then claim_solitary(w, p, now, call, queue) end
  end
  local first = 1
  while call.want > 0 and call.open[first] do
    local queues = { unpack(call.open, first, math.min(first + QUEUES_AT_ONCE - 1, #call.open)) }
    first = first + QUEUES_AT_ONCE
    for _, queue in ipairs(may_have_jobs(p, call, queues) and queues or NONE) do
      if call.want > 0 then claim(w, p, now, call, queue) end
    end
  end
  w:call('HSET', key.worker(p, call.worker), call.numbered, int(call.number), call.handed, table.concat(call.held, '\n'),
    'solitary', call.alone or '')
  count_ended(w, p, now)
  w:commit()
  return call.want > 0 and (call.full or call.looks <= 0)
end

-- Checks more when there is nothing else to do: a version that lists no side queues may have put a job outside a normal lane.
-- Returns whether to call again.
local function find_overlooked(w, p, call)
  if call.claimed > 0 or call.want == 0 then return false end
  local queues, found = {}, false
  for _, queue in ipairs(call.open) do
    if not call.side_queues[queue] then queues[#queues + 1] = queue end
  end
  if not queues[1] or not has_side(p, queues) then return false end
  for _, queue in ipairs(queues) do found = refresh_side_queue(w, p, queue) or found end
  w:commit()
  return found
end

-- Adds the claims of the first call with this number, as far as this worker still holds them.
local function repeat_claims(p, call, claimed)
  local time, held = string.match(claimed or '', '^(%d+)(.*)$')
  for id, epoch in string.gmatch(held or '', '\n(%S+) ?(%d*)') do
    if epoch == '' then epoch = time end
    local job = read_job(p, id, CLAIM)
    if holds(job, epoch, call.worker) then add_claim(call, id, claim_header(job), epoch, job.spec, job.payload) end
  end
end

local comes_in
do
  -- A timekeeper is late this long after the time.
  local LATE_MS = 100

  -- Whether this worker must send an exchange when a rate of a queue allows the next start. One worker with idle slots does, the
  -- timekeeper of the queue, since few jobs may start then. If it has none left, it wakes another one to replace it. If it dies, a
  -- sweep leaves a token within a second.
  local function keeps_time(w, p, now, call, queue, next_time)
    local worker, time = string.match(redis.call('HGET', key.turns(p, queue), 'timekeeper') or '', '^(%S+) (%d+)$')
    local is_own = worker == call.worker
    if call.want <= 0 then
      if is_own then
        w:call('HDEL', key.turns(p, queue), 'timekeeper')
        wake(w, p, { queue })
      end
      return false
    end
    if worker and not is_own and num(time) <= next_time and now <= num(time) + LATE_MS then return false end
    w:call('HSET', key.turns(p, queue), 'timekeeper', call.worker .. ' ' .. int(next_time))
    return true
  end

  -- When this worker must send an exchange for a queue without being woken: milliseconds from now, or nil.
  function comes_in(w, p, now, call, queue)
    local due, next_time = next_due(p, queue), next_start(w, p, queue, now)
    if next_time and keeps_time(w, p, now, call, queue, next_time) then due = earlier(due, next_time) end
    return due and math.max(due - now, 0)
  end
end

-- The queues of which jobs ended and that this call does not claim from, and those that share a limit with any of which jobs ended.
local function other_queues(p, call, settled)
  local is_open, found, others = {}, {}, {}
  for _, queue in ipairs(call.open) do is_open[queue] = true end
  for queue in pairs(settled) do
    if not is_open[queue] then found[queue] = true end
    if not is_open[queue] or call.side_queues[queue] then
      for _, sibling in ipairs(limits.siblings(p, queue)) do found[sibling] = true end
    end
  end
  for queue in pairs(found) do others[#others + 1] = queue end
  return others
end

-- Wakes another worker for what this call left, and returns when this one must send another exchange. A worker that shuts down names
-- no queues any more, but the jobs it releases must be found at once.
local function wake_others(w, p, now, call, settled)
  local soonest
  local queues = {}
  for _, queue in ipairs(call.open) do
    if call.side_queues[queue] or not call.emptied[queue] then queues[#queues + 1] = queue end
  end
  wake(w, p, queues, function(_, queue)
    if not call.side_queues[queue] then return has_usual(p, queue) end
    return (has_ready(p, queue) or w.parked[queue] or has_parked_for(p, call, queue)) and limits.may_start(w, p, queue)
  end)
  for _, queue in ipairs(call.open) do
    soonest = earlier(soonest, call.side_queues[queue] and comes_in(w, p, now, call, queue) or nil)
  end
  wake(w, p, other_queues(p, call, settled), is_claimable)
  w:commit()
  return soonest and int(soonest) or '-1'
end

-- A worker that claims before its first heartbeat is registered here, with its lease. Heartbeats keep it registered.
local function register_worker(w, p, now, call)
  w:call('HSET', key.worker(p, call.worker), 'lease', int(call.lease))
  w:call('PEXPIRE', key.worker(p, call.worker), WORKER_KEPT_MS)
  w:call('ZADD', key.workers(p), int(now), call.worker)
  w:call('ZADD', key.leases(p), int(call.lease), call.worker)
end

-- Which of the call's queues are not paused, in its order, and which of them are side queues. Usually none is either, and one
-- read is enough.
local function read_queues(p, call)
  call.open = call.queues
  if #call.queues == 0 or redis.call('EXISTS', key.paused(p), key.side_queues(p)) == 0 then return end
  local paused = redis.call('SMISMEMBER', key.paused(p), unpack(call.queues))
  local side_queues = redis.call('SMISMEMBER', key.side_queues(p), unpack(call.queues))
  call.open, call.side_queues = {}, {}
  for at, queue in ipairs(call.queues) do
    if paused[at] == 0 then call.open[#call.open + 1] = queue end
    if side_queues[at] == 1 then call.side_queues[queue] = true end
  end
end

local function exchange(p, argv)
  local now, w = now_ms(), writes()
  local call = read_exchange(argv, now)
  local last = redis.call('HMGET', key.worker(p, call.worker), call.numbered, call.handed, 'lease', 'solitary', 'dead')
  if last[5] or num(last[1]) > call.number then return { -1 } end
  if not last[3] then register_worker(w, p, now, call) end
  local codes, settled = settle_all(w, p, now, call, argv)
  read_queues(p, call)
  if num(last[1]) == call.number then
    repeat_claims(p, call, last[2])
    return { int(now), codes, call.claims, wake_others(w, p, now, call, settled), 0, 0, 0 }
  end
  call.alone = still_alone(p, call, last[4])
  local more, reserved = promote_all(w, p, now, call, #codes), reserve(w, p, now, call)
  if reserved then call.want = 0 end
  more = claim_all(w, p, now, call) or find_overlooked(w, p, call) or more
  local due = wake_others(w, p, now, call, settled)
  reserved = reserved or call.alone
  return { int(now), codes, call.claims, reserved and '-1' or due, more and 1 or 0, reserved and 1 or 0, call.expired }
end

register('exchange', exchange, { 'allow-oom' })
