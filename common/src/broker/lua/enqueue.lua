-- enqueue: accept many jobs.
--
-- Uses: keys, register, core, indexes, locks, limits, groups, waits, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  percent of `maxmemory` from which no new job is accepted   2  how many jobs may wait in a queue
--      3  how many queues may be known; known ones may be used beyond that
--      then runs of jobs: their queue, how many jobs, how many extras each has;
--         a job: id, its spec ('<task> <options>', the options are opaque JSON), payload; two an extra: its name and value.
--         `priority`; `after` or `at`, milliseconds; `deadline`, ms from now; `start_within`, ms from now or from when it is
--         due; `retention`, ms; `digest` of an idempotency key, with it `fingerprint` and `keep`, how long the key is kept, in
--         ms, or `keep` alone if the key was reserved in another partition; `webhook` (see `deliver`); `prestored`: the
--         payload is in `payload_large` already, put there in the same transaction, and the argument is empty; `indexes`: the
--         names of those that list it, separated by blanks; `group`: the group in which it waits; `schedule`: '<name> <tick>';
--         `unique`: '<digest> <until> <on conflict> <ms>', its lock (see locks.lua): what happens if another job holds it, and for
--         how long it is held, or a replaced job may wait since it was submitted
-- Returns {now, reply, …}, one reply a job in its order:
--   1                         accepted, and queued
--   {1, run_at}               accepted, and scheduled for that time
--   {2, id}                   this same id is known: the reply was lost, and repeating the call is safe
--   {3, id}                   the same idempotency key with the same fingerprint created that job before
--   {4, id}                   that job holds its lock, and no other was created
--   {5, id}                   that job waits, and has its payload and options now
--   {-1, id}                  the same idempotency key was used for another request
--   {-2}                      rejected: Redis is nearly full
--   {-3}                      rejected: its queue has as many jobs as may wait in it
--   {-4}                      rejected: its queue is not known, and as many queues are known as may be
--   {-5}                      rejected: its group has as many jobs as may wait in it
--   {-6, home}                rejected: its queue has a limit, and that partition has its jobs
--   {-7, id}                  rejected: that job holds its lock
-- Touches `layout`, the jobs' hashes, idempotency keys, locks, indexes, `recent`, `queues`, `queues:side`, `due`, and per queue
-- ready, delayed, deadlines, wake, and the sets of its groups.
-- Without `allow-oom`: a full Redis rejects the whole call before it starts.

-- The runs, and the keys of all jobs in their order.
local function read_runs(p, argv)
  local runs, names, at, jobs = {}, {}, 4, 0
  while argv[at] do
    local run = { queue = argv[at], count = num(argv[at + 1]), extras = num(argv[at + 2]), at = at + 3 }
    runs[#runs + 1], at = run, at + 3
    for _ = 1, run.count do
      jobs = jobs + 1
      names[jobs] = key.job(p, argv[at])
      at = at + 3 + 2 * run.extras
    end
  end
  return runs, names
end

-- Whether any of these jobs is known, and whether there is any side queue. Usually there is neither, and one read is enough.
local function find_known(p, names)
  local found = redis.call('EXISTS', key.side_queues(p), unpack(names))
  if found == 0 then return false, false end
  local side_queues = redis.call('EXISTS', key.side_queues(p))
  return found > side_queues, side_queues == 1
end

-- The extras of a job, by name.
local function read_extras(argv, at, count)
  local extras = {}
  for extra = at + 3, at + 1 + 2 * count, 2 do extras[argv[extra]] = argv[extra + 1] end
  return extras
end

-- Whether there is, or was, a job with that key. A payload alone is none.
local function is_known(name, extras)
  if not extras or not extras.prestored then return redis.call('EXISTS', name) == 1 end
  local job = redis.call('HMGET', name, 'state', 'tombstone')
  return job[1] or job[2]
end

-- The reply if this submission was seen before, in Redis or earlier in this same call; else nil.
local function seen_before(p, call, id, name, extras)
  if call.seen[id] or (call.any_known and is_known(name, extras)) then return { 2, id } end
  if not extras or not extras.digest then return nil end
  local claimed = call.seen[extras.digest] or redis.call('GET', key.idempotency(p, extras.digest))
  if not claimed then return nil end
  local known, print = string.match(claimed, '^(%S+) (%S+)$')
  if print ~= extras.fingerprint then return { -1, known } end
  -- Reserved for this id, but not submitted yet.
  return known ~= id and { 3, known } or nil
end

-- How many jobs wait in a side queue outside its normal lane. Ghosts count until they are dropped.
local function count_outside(p, queue)
  local waiting = redis.call('ZCARD', key.delayed(p, queue)) + redis.call('ZCARD', key.grouped(p, queue))
  for _, lane in ipairs(all_lanes(p, queue)) do
    if lane ~= NORMAL then waiting = waiting + redis.call('LLEN', key.ready(p, queue, lane)) end
  end
  return waiting
end

-- What a call needs to know of its queues, read once: how many jobs may still be added, whether any waits in the normal lane,
-- whether it is known, and whether its last use is recent enough. `due` becomes the time when the first of the new jobs is
-- due.
local function read_queues(p, call, runs)
  local queues, names, ready = {}, {}, {}
  for _, run in ipairs(runs) do
    local name = run.queue
    if not queues[name] then
      names[#names + 1], ready[#ready + 1] = name, key.ready(p, name, NORMAL)
      queues[name] = { name = name, ready = ready[#ready], due = math.huge }
    end
  end
  local used = redis.call('ZMSCORE', key.queues(p), unpack(names))
  local all_empty = #names > 1 and redis.call('EXISTS', unpack(ready)) == 0
  for at, name in ipairs(names) do
    local queue = queues[name]
    local waiting = all_empty and 0 or redis.call('LLEN', ready[at])
    queue.waits, queue.known, queue.fresh = waiting > 0, used[at], is_recent(call.time, used[at])
    if call.side_queues and redis.call('SISMEMBER', key.side_queues(p), name) == 1 then
      waiting = waiting + count_outside(p, name)
      queue.home = limits.home_elsewhere(p, name)
    end
    queue.room = call.bound - waiting
  end
  return queues
end

-- Makes a queue known if the limit allows it. A client can make up any number of names, and each makes every list and every
-- round of sweeps slower; so they are limited as jobs and bytes are.
local function make_known(p, call, queue)
  call.known = call.known or redis.call('ZCARD', key.queues(p))
  if call.known >= call.most_queues then return false end
  call.known, queue.known = call.known + 1, true
  return true
end

-- Whether the group of a new job has room for it, by its rule. Read once for the jobs of a call.
local function has_room(p, call, name, group)
  local queue = call.queues[name]
  if queue.has_rules == nil then queue.has_rules = redis.call('EXISTS', key.rules(p, name)) == 1 end
  if not queue.has_rules then return true end
  local known = key.group(p, name, group)
  local room = call.rooms[known]
  if not room then
    local most = groups.rules(p, name, { group })[1].most
    room = most and most - redis.call('ZCARD', known) or math.huge
  end
  call.rooms[known] = room - 1
  return room > 0
end

-- When a job is due that does not start now; else nil.
local function due_of(now, extras)
  local due = extras.after and now + num(extras.after) or num(extras.at)
  return due > now and due or nil
end

-- Writes what was collected so far. What jobs in the same state share begins anew.
local function write_so_far(w, call)
  w:commit()
  call.enqueued = nil
  for _, queue in pairs(call.queues) do queue.fresh_state = nil end
end

-- What a submission says of its job: names and values of fields. `job` gets those that decide where it waits.
local function fields_of(w, p, call, job, extras, due, spec, payload)
  local fields = { 'spec', spec }
  local function add(field, value)
    if value then fields[#fields + 1] = field fields[#fields + 1] = value end
  end
  if not extras.prestored then add('payload', payload) end
  job.priority, job.indexes = extras.priority, extras.indexes
  job.deadline = extras.deadline and int(call.time + num(extras.deadline))
  if extras.start_within then
    use_feature(w, p, 'expiry')
    job.start_by = waits.start_by(due or call.time, extras.start_within)
  end
  if extras.webhook then use_feature(w, p, 'webhooks') end
  if extras.indexes then use_feature(w, p, 'indexes') end
  add('priority', extras.priority)
  add('deadline', job.deadline)
  add('start_by', job.start_by)
  add('retention', extras.retention)
  add('webhook', extras.webhook)
  add('indexes', extras.indexes)
  return fields
end

-- Claims an idempotency key for a job.
local function claim_key(w, p, call, id, extras)
  local claimed = id .. ' ' .. extras.fingerprint
  call.seen[extras.digest] = claimed
  w:call('SET', key.idempotency(p, extras.digest), claimed, 'PX', extras.keep)
end

-- The fields that a submission may leave out.
local OMITTED = { 'payload', 'payload_large', 'priority', 'deadline', 'start_by', 'retention', 'webhook', 'indexes' }

-- Gives a job that waits, and that no worker ever claimed, all that a new submission says, so that it is the latest. It keeps
-- its id, the time of its submission and, if it is ready, its place and priority; else it is due when the new one would be, but
-- no later than its longest time after its submission. Its lock is held until when the new one says, unless that is for a time. The
-- idempotency key of the new one is its key too.
local function replace(w, p, call, id, job, name, extras, spec, payload, most)
  local created, queue = int(created_at(job)), call.queues[job.queue]
  local due = math.min(due_of(call.time, extras) or 0, num(created) + num(most))
  due = math.max(due, call.time)
  local follows, had_limit, before = locks.follows(job), waits.limit(job), job.indexes
  if job.status == 'queued' then extras.priority = job.priority end
  job.start_by = nil
  local fields = fields_of(w, p, call, job, extras, due, created .. string.match(spec, ' .*'), payload)
  if extras.prestored then
    fields[#fields + 1], fields[#fields + 2] = 'payload_large', redis.call('HGET', name, 'payload_large')
  end
  if select(2, locks.of(job)) ~= 'time' and select(2, locks.of(extras)) ~= 'time' then
    job.unique = string.match(extras.unique, '^%S+ %S+')
    fields[#fields + 1], fields[#fields + 2] = 'unique', job.unique
  end
  if extras.digest then claim_key(w, p, call, id, extras) end
  if extras.keep then
    job.keep_until = int(math.max(num(job.keep_until), call.time + num(extras.keep)))
    fields[#fields + 1], fields[#fields + 2] = 'keep_until', job.keep_until
  end
  indexes.change(w, p, id, before, job.indexes)
  if had_limit or waits.limit(job) then waits.list_instead(w, p, id, job) end
  w:call('HDEL', job.key, unpack(OMITTED))
  if job.status == 'queued' or follows then return change(w, p, id, job, unpack(fields)) end
  queue.due = math.min(queue.due, due)
  if due > call.time then return to_delayed(w, p, id, job, 'scheduled', due, unpack(fields)) end
  w:add('ZREM', key.delayed(p, job.queue), id)
  to_ready(w, p, id, job, 'LPUSH', unpack(fields))
end

-- The reply to a new job whose lock is held. Nil if it is free, or if the new job waits for its holder: then it is `extras.follows`.
local function conflict(w, p, call, name, extras, spec, payload)
  local digest, _, on_conflict, ms = string.match(extras.unique, '^(%x+) (%l+) (%S+) (%d+)$')
  if call.locked[digest] then write_so_far(w, call) end
  call.locked[digest] = true
  local holder, job, follower = locks.holder(p, digest)
  if not holder then return nil end
  if on_conflict == 'existing' then return { 4, holder } end
  if on_conflict == 'reject' then return { -7, holder } end
  local target, replaced = holder, job
  local latest = on_conflict == 'keep_latest' and follower and read_job(p, follower, SPEC)
  if latest then target, replaced = follower, latest end
  if replaced.status ~= 'running' and not replaced.epoch and not replaced.finished_at then
    replace(w, p, call, target, replaced, name, extras, spec, payload, ms)
    return { 5, target }
  end
  if on_conflict ~= 'keep_latest' or select(2, locks.of(job)) == 'time' then return { -7, holder } end
  extras.follows = holder
end

-- The reply if a new job is rejected, or is another one; else nil and its queue.
local function rejection(w, p, call, name, run, extras, spec, payload)
  if call.full then return { -2 } end
  call.queues = call.queues or read_queues(p, call, call.runs)
  local queue, group = call.queues[run.queue], extras and extras.group
  if queue.home then return { -6, queue.home } end
  local other = extras and extras.unique and conflict(w, p, call, name, extras, spec, payload)
  if other then return other end
  if queue.room <= 0 then return { -3 } end
  if group and not has_room(p, call, run.queue, group) then return { -5 } end
  if not queue.known and not make_known(p, call, queue) then return { -4 } end
  queue.room = queue.room - 1
  return nil, queue
end

-- Gives a new job its lock. If another job holds it, returns when this one is looked at, which waits for that.
local function lock(w, p, call, id, job, extras)
  use_feature(w, p, 'locks')
  job.unique = string.match(extras.unique, '^%S+ %S+')
  if extras.follows then return locks.follow(w, p, call.time, id, job, extras.follows) end
  local ends, ms = string.match(extras.unique, '^%S+ (%S+) %S+ (%d+)$')
  locks.take(w, p, id, job, ms)
  -- While the lock names it, it is not deleted.
  if ends == 'time' then extras.keep = int(math.max(num(extras.keep), num(ms))) end
end

-- Accepts a job that may have extras. Returns the reply, and when it is due.
local function enqueue_general(w, p, call, name, queue, id, extras, spec, payload)
  local job, due = { key = name, queue = queue.name, attempt = '0' }, due_of(call.time, extras)
  local fields = fields_of(w, p, call, job, extras, due, spec, payload)
  local function add(field, value)
    if value then fields[#fields + 1] = field fields[#fields + 1] = value end
  end
  waits.list(w, p, id, job)
  if job.indexes then indexes.enter(w, p, id, job.indexes) end
  if extras.group then
    use_feature(w, p, 'groups')
    job.group = groups.numbered(w, p, queue.name, extras.group)
    add('group', job.group)
  end
  add('schedule', extras.schedule)
  if extras.digest then claim_key(w, p, call, id, extras) end
  if extras.unique then
    due = lock(w, p, call, id, job, extras) or due
    add('unique', job.unique)
    add('waiting_for', job.waiting_for)
  end
  if extras.keep then add('keep_until', int(call.time + num(extras.keep))) end
  if not due then
    to_ready(w, p, id, job, 'LPUSH', unpack(fields))
    return 1, call.time
  end
  to_delayed(w, p, id, job, 'scheduled', due, unpack(fields))
  return { 1, int(due), extras.follows }, due
end

-- Accepts or rejects the job whose arguments begin there. Returns the reply.
local function enqueue_one(w, p, call, name, run, at)
  local argv = call.argv
  local id, spec, payload = argv[at], call.now .. ' ' .. argv[at + 1], argv[at + 2]
  local extras = run.extras > 0 and read_extras(argv, at, run.extras)
  local before, queue = seen_before(p, call, id, name, extras), nil
  if not before then before, queue = rejection(w, p, call, name, run, extras, spec, payload) end
  if before then
    if extras and extras.prestored and not redis.call('HGET', name, 'state') then w:call('HDEL', name, 'payload_large') end
    return before
  end
  call.seen[id] = true
  local reply, due
  if not extras and fast.enqueue then
    reply, due = fast.enqueue(w, p, call, name, queue, id, spec, payload)
  else
    reply, due = enqueue_general(w, p, call, name, queue, id, extras or NONE, spec, payload)
  end
  if due < queue.due then queue.due = due end
  w:add('LPUSH', key.recent(p), id)
  return reply
end

-- Whether to wake a worker: for jobs that are claimable, or will be within 2 s and are the earliest of the queue. Where jobs
-- waited before, there is a token, or a worker took it and leaves another one if anything is left.
local function wakes(p, now, queue)
  if queue.due <= now then return not queue.waits end
  if queue.due > now + 2000 then return false end
  local first = redis.call('ZRANGE', key.delayed(p, queue.name), 0, 0, 'WITHSCORES')
  return not first[2] or tonumber(first[2]) >= queue.due
end

-- Accepts or rejects the jobs of a call, and wakes workers for them. Returns the reply of the call.
local function submit_jobs(w, p, now, argv)
  local runs, names = read_runs(p, argv)
  local any_known, side_queues = find_known(p, names)
  local replies, at = { int(now) }, 0
  local call = { argv = argv, time = now, now = int(now), seen = {}, rooms = {}, locked = {}, runs = runs, queues = false, bound = num(argv[2]),
    most_queues = num(argv[3]), full = memory(w, p).used >= num(argv[1]), side_queues = side_queues, any_known = any_known }
  for _, run in ipairs(runs) do
    for job = 0, run.count - 1 do
      at = at + 1
      replies[at + 1] = enqueue_one(w, p, call, names[at], run, run.at + job * (3 + 2 * run.extras))
    end
  end
  local used, listed = variadic('ZADD', key.queues(p)), variadic('ZADD', key.names(p))
  local woken = {}
  for name, queue in pairs(call.queues or NONE) do
    if queue.due < math.huge then
      if not queue.fresh then
        put(used, call.now, name)
        put(listed, '0', name)
      end
      if wakes(p, now, queue) then woken[#woken + 1] = name end
    end
  end
  wake(w, p, woken)
  if used.size > 2 then
    w:later(used)
    w:later(listed)
  end
  return replies
end

local function enqueue(p, argv)
  local now = now_ms()
  local answer = fast.submit and fast.submit(p, now, argv)
  if answer then return answer end
  local w = writes()
  local replies = submit_jobs(w, p, now, argv)
  w:commit()
  return replies
end

register('enqueue', enqueue, {})
