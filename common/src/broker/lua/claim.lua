-- Claiming jobs from the lanes of a queue, and single ones. Called by `claim` (turns.lua) and inside `exchange`.
--
-- Uses: keys, core, locks, limits, groups, waits, lifecycle
--
-- `batch` has what the call may still claim, {worker, now, lease_end, lease_ends (the same as a number), side_queues, want,
-- bytes, large_bytes, looks, names, number}, and what it claimed, {claims, claimed, held}; `emptied` has the queues in whose
-- normal lane nothing is left, `blocked_lanes` the lanes that have only jobs whose groups may not start them now, and `full`
-- is set when a job did not fit into the bytes. Ids of jobs that were canceled or deleted or cannot be read are dropped on
-- the way.

local CLAIM = { 'spec', 'payload' }

-- What a worker receives of a job besides its id, spec and payload; the same for similar jobs.
local function claim_header(job)
  return job.queue .. ' ' .. job.epoch .. ' ' .. job.attempt .. ' ' .. (job.priority or '-') .. ' ' .. (job.run_at or '-')
end

-- Adds a job to the claims: four elements, in the order in which `broker/exchange.rs` reads them. The header is '' if it
-- equals that of the job before. `held` records the claims: the id, and the epoch unless it is the time of the call, which is
-- the first element.
local function add_claim(batch, id, header, epoch, spec, payload)
  local claims, claimed = batch.claims, batch.claimed
  local at = 4 * claimed
  claims[at + 1], claims[at + 2], claims[at + 3], claims[at + 4] = header ~= batch.header and header or '', id, spec, payload
  batch.header, batch.claimed = header, claimed + 1
  batch.held[claimed + 2] = epoch == batch.now and id or id .. ' ' .. epoch
end

-- Makes a job run under this claim.
local function start(now, batch, job)
  job.epoch = int(math.max(num(job.epoch) + 1, now))
  job.attempt = int(num(job.attempt) + 1)
  job.status, job.worker, job.started_at = 'running', batch.worker, int(now)
end

-- Whether the batch has room for a job; if so, its bytes are deducted. The payload is part of this call, or has `large` bytes
-- and is fetched afterwards.
local function fits(batch, spec, payload, large)
  local bytes, large_bytes = batch.bytes - #spec - #(payload or ''), batch.large_bytes - (large or 0)
  if (bytes < 0 or large_bytes < 0) and batch.claimed > 0 then return false end
  batch.bytes, batch.large_bytes, batch.want = bytes, large_bytes, batch.want - 1
  return true
end

local function take(w, p, now, batch, id, job)
  start(now, batch, job)
  change(w, p, id, job)
  if job.unique then locks.started(w, p, id, job) end
  w:due(p, job.queue, batch.lease_ends)
  w:add('ZADD', key.running(p, job.queue), batch.lease_end, id)
  add_claim(batch, id, claim_header(job), job.epoch, job.spec, job.payload)
end

-- Drops an id that must not be claimed.
local function drop(w, p, now, queue, id, unreadable)
  if unreadable then quarantine(w, p, id, now) end
  w:add('SREM', key.ghosts(p, queue), id)
end

-- Tries to claim the job of one id: at the front of a lane, or without one in the turn of its group. Returns false if the batch
-- has no room for it, and nil if it is in a lane, because it must run alone or is parked, and its group may not start it now.
local function try_claim(w, p, now, batch, queue, id, lane)
  local name = key.job(p, id)
  local values = redis.pcall('HMGET', name, 'state', 'optional', 'spec', 'payload')
  local claimed = fast.claim and fast.claim(w, p, now, batch, queue, id, name, values)
  if claimed ~= nil then return claimed end
  local spec, payload = values[3], values[4]
  local job, unreadable = job_of(name, values, CLAIM)
  local large = job and not payload and redis.call('HSTRLEN', name, 'payload_large')
  if job and not (spec and (payload or large > 0)) then unreadable = true end
  if unreadable or not job or job.status ~= 'queued' then
    drop(w, p, now, queue, id, unreadable)
    return true
  end
  local limit, ends, error = waits.limit(job)
  if ends == 'canceled' and limit <= now then
    -- Its time to start has passed, and no sweep has come since.
    to_terminal(w, p, id, job, ends, now, 'error', error)
    batch.expired = batch.expired + 1
    return true
  end
  local turn = lane and job.group and groups.turn_of_job(w, p, queue, job)
  if turn and groups.may_start(w, p, now, queue, turn) ~= now then return nil end
  if fits(batch, spec, payload, large) then
    if turn then groups.start(w, p, now, queue, turn, id) end
    if turn and lane == SOLITARY then groups.unblock_later(w, p, queue, turn.group) end
    take(w, p, now, batch, id, job)
  else
    return false
  end
  return true
end

-- Claims up to `most` jobs from one lane. A lane is read from its right end, where the oldest jobs are, and on past dropped
-- ids, until the batch has what it wants or has read as many ids as it may. A job whose group may not start it now moves to the
-- other end, so that it stops no others; a lane in which nothing else was found is noted, because nobody need look at it.
local function claim_lane(w, p, now, batch, queue, lane, most)
  local name, enough, looked, before, blocked = key.ready(p, queue, lane), batch.want - most, 0, batch.claimed, false
  while batch.want > enough and batch.looks > 0 and not batch.full do
    local width = math.min(batch.want - enough, batch.looks)
    local ids = redis.call('LRANGE', name, -looked - width, -looked - 1)
    for at = #ids, 1, -1 do
      local claimed = try_claim(w, p, now, batch, queue, ids[at], lane)
      batch.full = claimed == false
      if batch.full then break end
      if claimed == nil then
        w:add('LPUSH', name, ids[at])
        blocked = true
      end
      looked, batch.looks = looked + 1, batch.looks - 1
    end
    if #ids < width then
      if lane == NORMAL and not batch.full then batch.emptied[queue] = true end
      if blocked and batch.claimed == before then batch.blocked_lanes[name] = true end
      break
    end
  end
  if looked > 0 then w:call('RPOP', name, looked) end
end

-- Whether the worker can run a task now.
local function can_run(batch, task)
  if not batch.tasks then
    batch.tasks = {}
    for name in string.gmatch(batch.names, '%S+') do batch.tasks[name] = true end
  end
  return batch.tasks[task]
end

-- The lanes of parked jobs that the worker can run, in a different order in each call, so that no lane is always the last.
local function lanes_of_parked(p, batch, queue)
  local tasks, lanes = {}, {}
  for _, task in ipairs(redis.call('SMEMBERS', key.parked(p, queue))) do
    if can_run(batch, task) then tasks[#tasks + 1] = task end
  end
  table.sort(tasks)
  for at = 1, #tasks do lanes[at] = lane_for(tasks[(at + batch.number) % #tasks + 1]) end
  return lanes
end

-- Whether any of those lanes may have a job that may start.
local function has_parked_for(p, batch, queue)
  for _, lane in ipairs(lanes_of_parked(p, batch, queue)) do
    local name = key.ready(p, queue, lane)
    if not batch.blocked_lanes[name] and redis.call('EXISTS', name) == 1 then return true end
  end
  return false
end

-- The lanes of a queue from which the worker claims, in their order. Parked jobs are claimed before normal ones because they are
-- older: workers without their task claimed them from the front.
local function claimable_lanes(p, batch, queue)
  local lanes = { LANES[1], LANES[2], unpack(lanes_of_parked(p, batch, queue)) }
  lanes[#lanes + 1], lanes[#lanes + 2] = LANES[3], LANES[4]
  return lanes
end

-- How many ids are in these lanes.
local function count_in(p, queue, lanes)
  local count = 0
  for _, lane in ipairs(lanes) do count = count + redis.call('LLEN', key.ready(p, queue, lane)) end
  return count
end

local function claim_lanes(w, p, now, batch, queue, lanes)
  for _, lane in ipairs(lanes) do
    if batch.want > 0 then claim_lane(w, p, now, batch, queue, lane, batch.want) end
  end
end

-- Claims one of the jobs during which workers died, for a worker that runs nothing else, and nothing beside it: so the next
-- loss is counted against the right job.
local function claim_solitary(w, p, now, batch, queue)
  if limits.room(w, p, now, queue) <= 0 then return end
  claim_lane(w, p, now, batch, queue, SOLITARY, 1)
  if batch.claimed == 0 then return end
  limits.start(w, p, now, queue, 1)
  batch.want, batch.alone = 0, batch.claims[2] .. ' ' .. string.match(batch.header, '^%S+ (%S+)')
  w:call('DEL', key.reserved(p))
end
