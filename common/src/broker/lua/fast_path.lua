-- Fast paths: shorter ways for usual jobs. For speed only.
--
-- Uses: keys, core, groups, lifecycle, promote, settle, claim
--
-- Jobs of one queue that took only the usual steps have the same `state`, word for word. They form a group: the new state is
-- computed once for all of them, and written in one go. A job that is submitted alone forms no group.
--
-- Contract: each function here writes exactly what its general form writes, or returns nil for a job that is not of the usual
-- kind and has written nothing; the caller then uses the general form.
--
--   fast path        general form
--   fast.submit      enqueue (enqueue.lua)
--   fast.enqueue     enqueue_general (enqueue.lua)
--   fast.promote     to_ready (lifecycle.lua)
--   fast.claim       take (claim.lua)
--   fast.complete    settle.complete (settle.lua)
--
-- A test switches all of them off and compares whole key spaces after random histories. If in doubt, delete a function here:
-- everything still works.

-- Tests set this to false.
local FAST_PATHS = true

-- The group of jobs in that state, made by `make` at the first of them. False: jobs in that state are not of the usual kind.
-- A group that no job joined is not written.
local function group_of(w, state, make, ...)
  local group = w.groups[state]
  if group ~= nil then return group end
  if w.groups == NONE then w.groups = {} end
  group = make(state, w, ...)
  w.groups[state] = group
  if group then w:later(group) end
  return group
end

-- Writes the state of every job of a group.
local function write_states(_, group)
  local call, names, state = redis.call, group.names, group.state
  for at = 1, group.count do call('HSET', names[at], 'state', state) end
end

-- enqueue: jobs without extras differ only in what was submitted.

-- The state of every new job of a queue.
local fresh_state = cached(function(_, queue)
  return state_of({ status = 'queued', version = 1, queue = queue, attempt = '0' })
end)

local function write_enqueued(_, group)
  local call = redis.call
  for at = 1, group.count, 4 do
    call('HSET', group[at], 'state', group[at + 1], 'spec', group[at + 2], 'payload', group[at + 3])
  end
end

-- Returns the reply, and when the job is due.
local function fast_enqueue(w, p, call, name, queue, id, spec, payload)
  if not queue.fresh_state then
    queue.fresh_state = fresh_state(p, queue.name)
    -- One call a lane for all its jobs, including those with extras: so a batch keeps its order.
    queue.ids = w:one('LPUSH', queue.ready)
  end
  local group = call.enqueued
  if not group then
    group = { write = write_enqueued, count = 0 }
    call.enqueued = group
    w:later(group)
  end
  local count = group.count
  group[count + 1], group[count + 2], group[count + 3], group[count + 4] = name, queue.fresh_state, spec, payload
  group.count = count + 4
  put(queue.ids, id)
  return 1, call.time
end

-- submit: one job, alone in its call and without extras, for a queue that was used lately and is no side queue. It skips the
-- tables that a call with several jobs needs, and writes directly, after all reads; none of its writes can fail. Returns the
-- reply of the call.
local function fast_submit(p, now, argv)
  if argv[10] or argv[6] ~= '0' then return nil end
  local call, queue, id, created = redis.call, argv[4], argv[7], int(now)
  local name, ready = key.job(p, id), key.ready(p, queue, NORMAL)
  if call('EXISTS', key.side_queues(p), name) ~= 0 then
    if call('EXISTS', name) == 1 or call('SISMEMBER', key.side_queues(p), queue) == 1 then return nil end
  end
  if not is_recent(now, call('ZSCORE', key.queues(p), queue)) then return nil end
  if num(call('HGET', key.sweep(p), 'memory')) >= num(argv[1]) then return nil end
  local waiting = call('LLEN', ready)
  if waiting >= num(argv[2]) then return nil end
  local needs_token = waiting == 0 and call('EXISTS', key.wake(p, queue)) == 0
  call('HSET', name, 'state', fresh_state(p, queue), 'spec', created .. ' ' .. argv[8], 'payload', argv[9])
  call('LPUSH', ready, id)
  call('LPUSH', key.recent(p), id)
  if needs_token then call('LPUSH', key.wake(p, queue), '1') end
  return { created, 1 }
end

-- promote: delayed jobs that become ready.

-- Optional fields that decide the lane of a job, or because of which its changes are published.
local PROMOTED_OPTIONAL = { 'priority', 'losses', 'unheard', 'waiting_for', 'watched', 'group' }

local function promoted_group(state, w, p)
  local job = read_state(state)
  if not is_delayed(job) then return false end
  job.status, job.version = 'queued', num(job.version) + 1
  return { write = write_states, count = 0, names = {}, state = state_of(job),
    ids = w:one('LPUSH', key.ready(p, job.queue, NORMAL)) }
end

-- Returns true if it promoted the job.
local function fast_promote(w, p, id, name, values)
  local state, optional = values[1], values[2]
  if not (state and has_none(optional, PROMOTED_OPTIONAL)) then return nil end
  local group = group_of(w, state, promoted_group, p)
  if not group then return nil end
  local count = group.count + 1
  group.names[count], group.count = name, count
  put(group.ids, id)
  return true
end

-- claim: ready jobs that a worker claims.

-- Optional fields that are sent to the worker, because of which the job's changes are published, or which decide whether it waits
-- in a lane although it has a group, whether it may still start, or whether that frees a lock.
local CLAIMED_OPTIONAL = { 'priority', 'run_at', 'watched', 'losses', 'unheard', 'waiting_for', 'start_by', 'unique' }

local function write_claimed(w, group)
  write_states(w, group)
  redis.call(unpack(group.leases))
end

local function claimed_group(state, _, p, now, batch)
  local job = read_state(state)
  if not job or job.status ~= 'queued' then return false end
  start(now, batch, job)
  job.version = num(job.version) + 1
  return { write = write_claimed, count = 0, names = {}, state = state_of(job), epoch = job.epoch,
    header = claim_header(job), leases = variadic('ZADD', key.running(p, job.queue)) }
end

-- Returns true if it claimed the job, false if the batch has no room for it.
local function fast_claim(w, p, now, batch, queue, id, name, values)
  local state, optional, spec, payload = values[1], values[2], values[3], values[4]
  if not (state and spec and payload and has_none(optional, CLAIMED_OPTIONAL)) then return nil end
  local group = group_of(w, state, claimed_group, p, now, batch)
  if not group then return nil end
  if not fits(batch, spec, payload) then return false end
  local count = group.count + 1
  if count == 1 then w:due(p, queue, batch.lease_ends) end
  group.names[count], group.count = name, count
  put(group.leases, batch.lease_end, id)
  add_claim(batch, id, group.header, group.epoch, spec, payload)
  return true
end

-- complete: jobs that succeed with a small JSON result, while there is memory.

-- Optional fields on which the success of a job depends: how long it is kept, what is deleted, and where it is published.
local COMPLETED_OPTIONAL = { 'deadline', 'start_by', 'retention', 'keep_until', 'error', 'log_bytes', 'watched', 'webhook',
  'schedule', 'unique' }

local function write_completed(w, group)
  local call, names, results, state = redis.call, group.names, group.results, group.state
  for at = 1, group.count do
    call('HSET', names[at], 'state', state, 'result', results[at])
  end
  call(unpack(group.leases))
  w:end_of(group.queue, group.count)
end

local function completed_group(state, w, p, now, worker)
  local job, used = read_state(state), memory(w, p)
  if used.used >= used.watermark or not holds(job, job and job.epoch, worker) then return false end
  complete_state(job, 'succeeded', now)
  job.version = num(job.version) + 1
  return { write = write_completed, count = 0, names = {}, results = {}, state = state_of(job), epoch = job.epoch,
    queue = job.queue, expires = job.expires_at, leases = variadic('ZREM', key.running(p, job.queue)) }
end

-- Returns the job's queue if it completed the job.
local function fast_complete(w, p, now, worker, id, name, values, epoch, result)
  local state, optional = values[1], values[2]
  if #result > INLINE_RESULT_BYTES or not (state and has_none(optional, COMPLETED_OPTIONAL)) then return nil end
  local group = group_of(w, state, completed_group, p, now, worker)
  if not group or group.epoch ~= epoch then return nil end
  local count = group.count + 1
  group.names[count], group.results[count], group.count = name, result, count
  put(group.leases, id)
  if values[3] then groups.stop(w, p, group.queue, id, values[3]) end
  if count == 1 then group.finished = w:finishing(p, group.queue, group.expires) end
  group.finished[#group.finished + 1] = id
  return group.queue
end

if FAST_PATHS then
  fast.submit, fast.enqueue, fast.promote = fast_submit, fast_enqueue, fast_promote
  fast.claim, fast.complete = fast_claim, fast_complete
end
