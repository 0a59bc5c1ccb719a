-- exchange: settle what ended, promote what is due, claim what fits; a busy worker's one call a batch.
--
-- KEYS 1  the partition's root
-- ARGV 1  worker   2  number of this exchange   3  lease, ms   4  how many jobs it wants
--      5  how many it goes on running   6  how many queues follow; their names, in the order to look at them
--      then five a settlement: id, epoch, outcome, a, b (see settle.lua)
-- Returns {now, {code, …}, {claim, …}, ms until the next delayed job | -1, more, drain}, or {-1} if a later exchange
-- of this worker was answered before. `more` = 1: stopped by budget, ask again at once. `drain` = 1: a job waits that
-- must run alone, and this worker was chosen for it: nothing is handed out until it runs nothing else.
--
-- The same number again settles again (harmless) and returns the claims of the first time: a lost reply loses nothing.
-- Touches the jobs' hashes, the worker's hash, `workers`, `leases`, `reserved`, and per queue every list and set.
local PROMOTE_LIMIT, CLAIM_LOOKS, CLAIM_BYTES = 100, 200, 4194304
-- Ended jobs are counted in buckets of ten seconds, which live a little longer than the minute they are summed over.
local BUCKET_MS, BUCKET_KEPT_MS = 10000, 80000

local function read_exchange(argv)
  local call = { worker = argv[1], number = num(argv[2]), lease = num(argv[3]), want = num(argv[4]),
    idle = argv[5] == '0', queues = {}, named = {}, settlements = 7 + num(argv[6]), claims = {},
    bytes = CLAIM_BYTES, looks = CLAIM_LOOKS }
  for at = 7, call.settlements - 1 do
    call.queues[#call.queues + 1] = argv[at]
    call.named[argv[at]] = true
  end
  return call
end

-- A worker that shuts down names no queues any more, but what it gives back must be found at once.
local function settle_all(w, p, now, call, argv)
  local codes, ended = {}, {}
  for at = call.settlements, #argv, 5 do
    local code, queue = settle_one(w, p, now, call.worker, unpack(argv, at, at + 4))
    codes[#codes + 1] = code
    if queue then ended[queue] = (ended[queue] or 0) + 1 end
    w:commit()
  end
  for queue, count in pairs(ended) do
    local bucket = key.ended(p, queue, int(math.floor(now / BUCKET_MS)))
    w:call('INCRBY', bucket, count)
    w:call('PEXPIRE', bucket, BUCKET_KEPT_MS)
    if not call.named[queue] and has_ready(p, queue) then wake(w, p, queue) end
  end
  w:commit()
  return codes
end

-- Whether this worker is to hand in its slots for a job that must run alone. One worker at a time is chosen, for one
-- lease; the others go on.
local function drains(w, p, call)
  if call.idle then return false end
  local lanes = {}
  for at, queue in ipairs(call.queues) do lanes[at] = key.ready(p, queue, SOLITARY) end
  if #lanes == 0 or redis.call('EXISTS', unpack(lanes)) == 0 then return false end
  local chosen = redis.call('GET', key.reserved(p))
  if not chosen then w:call('SET', key.reserved(p), call.worker, 'PX', int(call.lease)) end
  return not chosen or chosen == call.worker
end

local function promote_and_claim(w, p, now, call, paused)
  local more = 0
  for at, queue in ipairs(call.queues) do
    if promote(w, p, queue, now, PROMOTE_LIMIT) == PROMOTE_LIMIT then more = 1 end
    w:commit()
    if paused[at] == 0 and call.want > 0 then
      claim(w, p, now, call, queue)
      w:commit()
    end
  end
  local claimed = {}
  for at, claim in ipairs(call.claims) do claimed[at] = claim[1] .. ' ' .. claim[2] end
  w:call('HSET', key.worker(p, call.worker), 'exchange', int(call.number), 'claims', table.concat(claimed, '\n'))
  w:call('PEXPIRE', key.worker(p, call.worker), WORKER_KEPT_MS)
  w:commit()
  return more
end

-- The claims of the first time this number was used, as far as this worker still holds them.
local function claims_again(p, worker, claimed)
  local claims, fields = {}, { 'worker', unpack(CLAIM) }
  for id, epoch in string.gmatch(claimed or '', '(%S+) (%S+)') do
    local job = read_job(p, id, fields)
    if job and job.status == 'running' and job.epoch == epoch and job.worker == worker then
      claims[#claims + 1] = handed_out(id, job)
    end
  end
  return claims
end

-- Wakes somebody else for what this call left behind, and tells when the next delayed job is due.
local function look_ahead(w, p, now, queues, paused)
  local soonest
  for at, queue in ipairs(queues) do
    if paused[at] == 0 then
      if has_ready(p, queue) then wake(w, p, queue) end
      local due = next_due(p, queue, now)
      if due then soonest = math.min(soonest or due, due) end
    end
  end
  w:commit()
  return soonest and int(soonest) or '-1'
end

-- A worker that claims before its first beat is known from here on, with its lease.
local function register_worker(w, p, now, call)
  w:call('HSET', key.worker(p, call.worker), 'lease', int(call.lease))
  w:call('ZADD', key.workers(p), int(now), call.worker)
  w:call('ZADD', key.leases(p), int(call.lease), call.worker)
end

local function exchange(keys, argv)
  local p, now, w, call = keys[1], now_ms(), writes(), read_exchange(argv)
  local last = redis.call('HMGET', key.worker(p, call.worker), 'exchange', 'claims', 'lease')
  if num(last[1]) > call.number then return { -1 } end
  if not last[3] then register_worker(w, p, now, call) end
  local codes = settle_all(w, p, now, call, argv)
  local paused = #call.queues > 0 and redis.call('SMISMEMBER', key.paused(p), unpack(call.queues)) or {}
  local more, drain = 0, false
  if num(last[1]) == call.number then
    call.claims = claims_again(p, call.worker, last[2])
  else
    drain = drains(w, p, call)
    if drain then call.want = 0 end
    more = promote_and_claim(w, p, now, call, paused)
  end
  local due = drain and '-1' or look_ahead(w, p, now, call.queues, paused)
  return { int(now), codes, call.claims, due, more, drain and 1 or 0 }
end

register('exchange', exchange, { 'allow-oom' })
