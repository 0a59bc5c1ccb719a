-- enqueue: take many jobs.
--
-- KEYS 1  the partition's root
-- ARGV 1  percent of `maxmemory` from which nothing new is taken   2  how many jobs may wait in a queue
--      then thirteen a job: id, task, queue, priority, start ('now' | 'after' | 'at'), milliseconds of that, payload,
--         options (JSON, opaque), retention in ms or '', idempotency digest or '', fingerprint, how long the key is kept
--         in ms, and the webhook or '' (see `deliver`)
-- Returns {now, reply, …}, one reply a job in its order:
--   {1, status, run_at | ''}  taken
--   {2, id}                   this very id is known: the reply got lost, and asking again is safe
--   {3, id}                   the same idempotency key with the same fingerprint made that job before
--   {-1, id}                  the same idempotency key was used for another request
--   {-2}                      not taken: Redis is nearly full
--   {-3}                      not taken: as many jobs as may wait in its queue
-- Touches the jobs' hashes, idempotency keys, `queues`, and per queue ready, delayed and wake.
-- Without `allow-oom`: a full Redis refuses the whole call before it starts.
local ENQUEUE_STRIDE = 13

-- The answer if this submission was seen before, in Redis or earlier in this very call; else nil.
local function seen_before(p, seen, id, digest, fingerprint)
  if seen[id] or redis.call('EXISTS', key.job(p, id)) == 1 then return { 2, id } end
  if digest == '' then return nil end
  local claimed = seen[digest] or redis.call('GET', key.idempotency(p, digest))
  if not claimed then return nil end
  local known, print = string.match(claimed, '^(%S+) (%S+)$')
  return { print == fingerprint and 3 or -1, known }
end

-- How many jobs may still be added to a queue. Ghosts count until they are dropped.
local function room_in(p, queue, bound)
  local waiting = redis.call('ZCARD', key.delayed(p, queue))
  for _, lane in ipairs(LANES) do waiting = waiting + redis.call('LLEN', key.ready(p, queue, lane)) end
  return bound - waiting
end

-- Why a new job is not taken, or nil. `gate` is {full, bound, room by queue}.
local function refused(p, gate, queue)
  if gate.full then return { -2 } end
  local room = gate.room[queue] or room_in(p, queue, gate.bound)
  if room <= 0 then return { -3 } end
  gate.room[queue] = room - 1
  return nil
end

local function due_of(now, start, ms)
  if start == 'after' then return now + ms end
  if start == 'at' then return ms end
  return now
end

local function enqueue_one(w, p, now, seen, gate, id, task, queue, priority, start, ms, payload, options, retention, digest,
    fingerprint, keep_ms, webhook)
  local before = seen_before(p, seen, id, digest, fingerprint)
  before = before or refused(p, gate, queue)
  if before then return before end
  local fields = { 'task', task, 'payload', payload, 'options', options, 'created_at', int(now), 'queue', queue }
  if priority ~= 'normal' then fields[#fields + 1] = 'priority' fields[#fields + 1] = priority end
  if retention ~= '' then fields[#fields + 1] = 'retention' fields[#fields + 1] = retention end
  if webhook ~= '' then fields[#fields + 1] = 'webhook' fields[#fields + 1] = webhook end
  if digest ~= '' then
    seen[digest] = id .. ' ' .. fingerprint
    w:call('SET', key.idempotency(p, digest), seen[digest], 'PX', keep_ms)
    fields[#fields + 1] = 'keep_until'
    fields[#fields + 1] = int(now + num(keep_ms))
  end
  seen[id] = true
  local job, due = { queue = queue, priority = priority }, due_of(now, start, num(ms))
  if due > now then
    to_delayed(w, p, id, job, 'scheduled', due, unpack(fields))
    return { 1, 'scheduled', int(due) }, queue, due
  end
  to_ready(w, p, id, job, 'LPUSH', unpack(fields))
  return { 1, 'queued', '' }, queue, now
end

-- Wakes a worker for what became claimable, or will within 2 s and is the queue's new earliest.
local function wake_for(w, p, now, queue, due)
  if due > now then
    if due > now + 2000 then return end
    local first = redis.call('ZRANGE', key.delayed(p, queue), 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) <= due then return end
  end
  wake(w, p, queue)
end

local function enqueue(keys, argv)
  local p, now, w = keys[1], now_ms(), writes()
  local replies, seen, earliest = { int(now) }, {}, {}
  local gate = { full = memory(w, p).used >= num(argv[1]), bound = num(argv[2]), room = {} }
  for at = 3, #argv, ENQUEUE_STRIDE do
    local reply, queue, due = enqueue_one(w, p, now, seen, gate, unpack(argv, at, at + ENQUEUE_STRIDE - 1))
    replies[#replies + 1] = reply
    if queue then earliest[queue] = math.min(earliest[queue] or due, due) end
  end
  for queue, due in pairs(earliest) do
    w:add('ZADD', key.queues(p), int(now), queue)
    wake_for(w, p, now, queue, due)
  end
  w:commit()
  return replies
end

register('enqueue', enqueue, {})
