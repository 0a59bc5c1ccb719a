-- enqueue: take many jobs.
--
-- KEYS 1  the partition's root
-- ARGV 1  percent of `maxmemory` from which nothing new is taken   2  how many jobs may wait in a queue
--      then runs of jobs: their queue, how many they are, how many terms each has;
--         a job: id, its spec ('<task> <options>', the options are opaque JSON), payload; two a term: its name and value.
--         `priority`; `after` or `at`, milliseconds; `retention`, ms; `digest` of an idempotency key, with it
--         `fingerprint` and `keep`, how long the key is kept, in ms; `webhook` (see `deliver`); `laid`: the payload lies
--         in `payload_large` already, put there in the same transaction, and the argument is empty
-- Returns {now, reply, …}, one reply a job in its order:
--   1                         taken, and queued
--   {1, run_at}               taken, and scheduled for that time
--   {2, id}                   this very id is known: the reply got lost, and asking again is safe
--   {3, id}                   the same idempotency key with the same fingerprint made that job before
--   {-1, id}                  the same idempotency key was used for another request
--   {-2}                      not taken: Redis is nearly full
--   {-3}                      not taken: as many jobs as may wait in its queue
-- Touches the jobs' hashes, idempotency keys, `queues`, and per queue ready, delayed and wake.
-- Without `allow-oom`: a full Redis refuses the whole call before it starts.

-- The jobs, in their order: where each begins in the arguments, how its key is called, and the run it is of. And the queues,
-- each once.
local function read_jobs(p, argv)
  local jobs, known, at, count = { places = {}, names = {}, runs = {}, queues = {} }, {}, 3, 0
  while argv[at] do
    local run, last = { queue = argv[at], terms = num(argv[at + 2]) }, count + num(argv[at + 1])
    if not known[run.queue] then jobs.queues[#jobs.queues + 1], known[run.queue] = run.queue, true end
    at = at + 3
    while count < last do
      count = count + 1
      jobs.places[count], jobs.names[count], jobs.runs[count] = at, key.job(p, argv[at]), run
      at = at + 3 + 2 * run.terms
    end
  end
  return jobs
end

-- What sets a job apart from most, by name.
local function read_terms(argv, at, count)
  local terms = {}
  for term = at + 3, at + 1 + 2 * count, 2 do terms[argv[term]] = argv[term + 1] end
  return terms
end

-- Whether there is, or was, a job of that name. A payload alone is none.
local function is_known(name, terms)
  if not terms or not terms.laid then return redis.call('EXISTS', name) == 1 end
  local job = redis.call('HMGET', name, 'state', 'gone')
  return job[1] or job[2]
end

-- The answer if this submission was seen before, in Redis or earlier in this very call; else nil.
local function seen_before(p, call, id, name, terms)
  if call.seen[id] or (call.any_known and is_known(name, terms)) then return { 2, id } end
  if not terms or not terms.digest then return nil end
  local claimed = call.seen[terms.digest] or redis.call('GET', key.idempotency(p, terms.digest))
  if not claimed then return nil end
  local known, print = string.match(claimed, '^(%S+) (%S+)$')
  return { print == terms.fingerprint and 3 or -1, known }
end

-- How many jobs may still be added to a queue, and whether any waits in its usual lane. Ghosts count until they are dropped.
local function look_into(p, call, queue)
  local usual = redis.call('LLEN', key.ready(p, queue, 'normal'))
  local waiting = usual
  if call.unusual then
    waiting = waiting + redis.call('ZCARD', key.delayed(p, queue))
    for _, lane in ipairs(UNUSUAL) do waiting = waiting + redis.call('LLEN', key.ready(p, queue, lane)) end
  end
  return { room = call.bound - waiting, waits = usual > 0 }
end

-- Why a new job is not taken, or nil.
local function refused(p, call, name)
  if call.full then return { -2 } end
  local queue = call.queues[name]
  if not queue then
    queue = look_into(p, call, name)
    call.queues[name] = queue
  end
  if queue.room <= 0 then return { -3 } end
  queue.room = queue.room - 1
  return nil
end

-- When a job is due that does not start now.
local function due_of(now, terms)
  local due = terms.after and now + num(terms.after) or num(terms.at)
  return due > now and due or nil
end

-- Claims an idempotency key for a job.
local function claim_key(w, p, call, id, now, terms)
  local claimed = id .. ' ' .. terms.fingerprint
  call.seen[terms.digest] = claimed
  w:call('SET', key.idempotency(p, terms.digest), claimed, 'PX', terms.keep)
  return int(now + num(terms.keep))
end

-- A job with terms of its own. Returns the reply, and when it is due.
local function enqueue_special(w, p, call, now, name, queue, id, terms, spec, payload)
  local job, due = { key = name, queue = queue, attempt = '0', priority = terms.priority }, due_of(now, terms)
  local fields = { 'spec', spec, 'rare', '1' }
  local function add(name, value)
    if value then fields[#fields + 1] = name fields[#fields + 1] = value end
  end
  if not terms.laid then add('payload', payload) end
  add('priority', terms.priority)
  add('retention', terms.retention)
  add('webhook', terms.webhook)
  if terms.digest then add('keep_until', claim_key(w, p, call, id, now, terms)) end
  if not due then
    to_ready(w, p, id, job, 'LPUSH', unpack(fields))
    return 1, now
  end
  to_delayed(w, p, id, job, 'scheduled', due, unpack(fields))
  return { 1, int(due) }, due
end

local function write_queued(_, group)
  local call, names, specs, payloads, state = redis.call, group.names, group.specs, group.payloads, group.state
  for at = 1, group.count do call('HSET', names[at], 'state', state, 'spec', specs[at], 'payload', payloads[at]) end
  call(unpack(group.ready))
end

-- Jobs of a queue without terms are all alike but for what was asked: one group.
local function queued_alike(w, p, queue)
  local job = { status = 'queued', version = 1, queue = queue, attempt = '0' }
  return w:group(queue, { write = write_queued, count = 0, names = {}, specs = {}, payloads = {}, state = state_of(job),
    ready = variadic('LPUSH', key.ready(p, queue, lane_of(job))) })
end

-- Returns the reply, and when the job is due if it was taken.
local function enqueue_one(w, p, call, now, name, run, argv, at)
  local id, queue, spec, payload = argv[at], run.queue, call.now .. ' ' .. argv[at + 1], argv[at + 2]
  local terms = run.terms > 0 and read_terms(argv, at, run.terms)
  local before = seen_before(p, call, id, name, terms) or refused(p, call, queue)
  if before and terms and terms.laid and not redis.call('HGET', name, 'state') then
    w:call('HDEL', name, 'payload_large')
  end
  if before then return before end
  call.seen[id] = true
  if terms then return enqueue_special(w, p, call, now, name, queue, id, terms, spec, payload) end
  local group = w.groups[queue] or queued_alike(w, p, queue)
  local count = group.count + 1
  group.names[count], group.specs[count], group.payloads[count], group.count = name, spec, payload, count
  put(group.ready, id)
  return 1, now
end

-- Wakes a worker for what became claimable, or will within 2 s and is the queue's new earliest. Where jobs waited before,
-- a token lies there, or somebody took it and leaves another one if anything is left.
local function wake_for(w, p, now, queue, due, waits)
  if due <= now and waits then return end
  if due > now then
    if due > now + 2000 then return end
    local first = redis.call('ZRANGE', key.delayed(p, queue), 0, 0, 'WITHSCORES')
    if first[2] and tonumber(first[2]) <= due then return end
  end
  wake(w, p, queue)
end

local function enqueue(keys, argv)
  local p, now, w = keys[1], now_ms(), writes()
  local replies, earliest, jobs = { int(now) }, {}, read_jobs(p, argv)
  local names, places, runs = jobs.names, jobs.places, jobs.runs
  local call = { now = int(now), seen = {}, queues = {}, bound = num(argv[2]), unusual = any_unusual(p, jobs.queues),
    any_known = #names > 0 and redis.call('EXISTS', unpack(names)) > 0, full = memory(w, p).used >= num(argv[1]) }
  for at = 1, #names do
    local queue = runs[at].queue
    local reply, due = enqueue_one(w, p, call, now, names[at], runs[at], argv, places[at])
    replies[at + 1] = reply
    if due and (earliest[queue] or math.huge) > due then earliest[queue] = due end
  end
  for queue, due in pairs(earliest) do
    w:add('ZADD', key.queues(p), int(now), queue)
    wake_for(w, p, now, queue, due, call.queues[queue].waits)
  end
  w:commit()
  return replies
end

register('enqueue', enqueue, {})
