-- claim(w, p, now, batch, queue): claim jobs of one queue for a worker. Called inside `exchange`.
--
-- Uses: keys, core, lifecycle
--
-- `batch` has what the call may still claim, {worker, now, lease_end, lease_ends (the same as a number), side_queues, want,
-- bytes, large_bytes, looks, names, number}, and what it claimed, {claims, claimed, held}; `emptied` has the queues in whose
-- normal lane nothing is left, and `full` is set when a job did not fit into the bytes. Ids of jobs that were canceled or
-- deleted or cannot be read are dropped on the way.

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
  w:due(p, job.queue, batch.lease_ends)
  w:add('ZADD', key.running(p, job.queue), batch.lease_end, id)
  add_claim(batch, id, claim_header(job), job.epoch, job.spec, job.payload)
end

-- Drops an id that must not be claimed.
local function drop(w, p, now, queue, id, unreadable)
  if unreadable then quarantine(w, p, id, now) end
  w:add('SREM', key.ghosts(p, queue), id)
end

-- Tries to claim the job of one id at the front of a lane. Returns false if the batch has no room for it.
local function try_claim(w, p, now, batch, queue, id)
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
  elseif fits(batch, spec, payload, large) then
    take(w, p, now, batch, id, job)
  else
    return false
  end
  return true
end

-- Claims up to `most` jobs from one lane. A lane is read from its right end, where the oldest jobs are, and on past dropped
-- ids, until the batch has what it wants or has read as many ids as it may.
local function claim_lane(w, p, now, batch, queue, lane, most)
  local name, enough, looked = key.ready(p, queue, lane), batch.want - most, 0
  while batch.want > enough and batch.looks > 0 and not batch.full do
    local width = math.min(batch.want - enough, batch.looks)
    local ids = redis.call('LRANGE', name, -looked - width, -looked - 1)
    for at = #ids, 1, -1 do
      batch.full = not try_claim(w, p, now, batch, queue, ids[at])
      if batch.full then break end
      looked, batch.looks = looked + 1, batch.looks - 1
    end
    if #ids < width then
      if lane == NORMAL and not batch.full then batch.emptied[queue] = true end
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

-- Whether any of those lanes has a job.
local function has_parked_for(p, batch, queue)
  for _, lane in ipairs(lanes_of_parked(p, batch, queue)) do
    if redis.call('EXISTS', key.ready(p, queue, lane)) == 1 then return true end
  end
  return false
end

-- Parked jobs are claimed before normal ones because they are older: workers without their task claimed them from the front.
local function claim(w, p, now, batch, queue)
  if not batch.side_queues[queue] then return claim_lane(w, p, now, batch, queue, NORMAL, batch.want) end
  local lanes = { LANES[1], LANES[2], unpack(lanes_of_parked(p, batch, queue)) }
  lanes[#lanes + 1], lanes[#lanes + 2] = LANES[3], LANES[4]
  for _, lane in ipairs(lanes) do
    if batch.want > 0 then claim_lane(w, p, now, batch, queue, lane, batch.want) end
  end
end

-- Claims one of the jobs during which workers died, for a worker that runs nothing else, and nothing beside it: so the next
-- loss is counted against the right job.
local function claim_solitary(w, p, now, batch, queue)
  claim_lane(w, p, now, batch, queue, SOLITARY, 1)
  if batch.claimed == 0 then return end
  batch.want, batch.alone = 0, batch.claims[2] .. ' ' .. string.match(batch.header, '^%S+ (%S+)')
  w:call('DEL', key.reserved(p))
end
