-- claim(w, p, now, batch, queue): take jobs of one queue for a worker. Called inside `exchange`.
--
-- `batch` is what the call may still take, {worker, now, lease_end, want, bytes, looks, alike}, and what it has taken, {claims,
-- claimed, held}; `full` once a job did not fit the bytes. Ids that were canceled, deleted or cannot be read are dropped on
-- the way.

local CLAIM = { 'spec', 'payload' }

-- Adds to the claims what the worker gets of a job, in the order `broker/exchange.rs` reads it. What goes without saying is
-- empty: an epoch that is the call's own time, the usual priority, no time to wait for.
local function hand_out(batch, id, job, spec, payload)
  local claimed = batch.claimed + 1
  local epoch = job.epoch ~= batch.now and job.epoch or ''
  batch.claims[claimed] = { id, epoch, job.queue, job.priority or '', job.attempt, spec, payload, job.run_at or '' }
  batch.claimed, batch.held[claimed] = claimed, id .. ' ' .. job.epoch
end

-- Has a job run under this claim.
local function start(now, batch, job)
  job.epoch = int(math.max(num(job.epoch) + 1, now))
  job.attempt = int(num(job.attempt) + 1)
  job.status, job.worker, job.started_at = 'running', batch.worker, int(now)
end

-- Jobs of one queue that nothing has happened to are in the same state, word for word. What becomes of it is worked out once
-- a call: returns a job that stands for all of them, false if it does not wait.
local function started_alike(p, now, batch, state)
  local job = batch.alike[state]
  if job == nil then
    job = read_state(state) or false
    if job and job.status == 'queued' then
      start(now, batch, job)
      job.version = num(job.version) + 1
      job.state, job.running = state_of(job), key.running(p, job.queue)
    else
      job = false
    end
    batch.alike[state] = job
  end
  return job
end

-- Whether the batch has room for a job; then it takes it.
local function fits(batch, spec, payload)
  local left = batch.bytes - #spec - #payload
  if left < 0 and batch.claimed > 0 then return false end
  batch.bytes, batch.want = left, batch.want - 1
  return true
end

local function take(w, p, now, batch, id, job)
  start(now, batch, job)
  change(w, p, id, job)
  w:add('ZADD', key.running(p, job.queue), batch.lease_end, id)
  hand_out(batch, id, job, job.spec, job.payload)
end

-- Drops an id that is not to be claimed.
local function drop(w, p, now, queue, id, unreadable)
  if unreadable then quarantine(w, p, id, now) end
  w:add('SREM', key.ghosts(p, queue), id)
end

-- Looks at one id at the front of a lane. Returns false if the batch has no room for it.
local function consider(w, p, now, batch, queue, id)
  local name = key.job(p, id)
  local values = redis.pcall('HMGET', name, 'state', 'rare', 'spec', 'payload')
  local state, rare, spec, payload = values[1], values[2], values[3], values[4]
  local job = state and not rare and spec and payload and started_alike(p, now, batch, state)
  if job then
    if not fits(batch, spec, payload) then return false end
    w:call('HSET', name, 'state', job.state)
    w:add('ZADD', job.running, batch.lease_end, id)
    hand_out(batch, id, job, spec, payload)
    return true
  end
  local unreadable
  job, unreadable = job_of(name, values, CLAIM)
  if job and not (spec and payload) then unreadable = true end
  if unreadable or not job or job.status ~= 'queued' then
    drop(w, p, now, queue, id, unreadable)
  elseif fits(batch, spec, payload) then
    take(w, p, now, batch, id, job)
  else
    return false
  end
  return true
end

-- Takes up to `most` jobs from one lane. A lane is read at its right end, where the oldest stand, on and on behind what
-- was dropped, until the batch has what it wants or may look no more.
local function claim_lane(w, p, now, batch, queue, lane, most)
  local name, enough, looked = key.ready(p, queue, lane), batch.want - most, 0
  while batch.want > enough and batch.looks > 0 and not batch.full do
    local width = math.min(batch.want - enough, batch.looks)
    local ids = redis.call('LRANGE', name, -looked - width, -looked - 1)
    for at = #ids, 1, -1 do
      batch.full = not consider(w, p, now, batch, queue, ids[at])
      if batch.full then break end
      looked, batch.looks = looked + 1, batch.looks - 1
    end
    if #ids < width then break end
  end
  if looked > 0 then w:call('RPOP', name, looked) end
end

local function claim(w, p, now, batch, queue)
  for _, lane in ipairs(LANES) do
    if batch.want > 0 then claim_lane(w, p, now, batch, queue, lane, batch.want) end
  end
end

-- Takes one job of those that took workers down with them, for a worker that runs nothing else, and nothing beside it: so
-- blame falls on the right one.
local function claim_solitary(w, p, now, batch, queue)
  claim_lane(w, p, now, batch, queue, SOLITARY, 1)
  if batch.claimed == 0 then return end
  batch.want, batch.alone = 0, batch.held[1]
  w:call('DEL', key.reserved(p))
end
