-- claim(w, p, now, batch, queue): take jobs of one queue for a worker. Called inside `exchange`.
--
-- `batch` is what the call may still take: {worker, lease, want, bytes, looks, claims}; `full` once a job did not fit the
-- bytes. Ids that were canceled, deleted or cannot be read are dropped on the way.

local CLAIM = {
  'status', 'queue', 'priority', 'version', 'attempt', 'losses', 'epoch', 'task', 'payload', 'options', 'created_at',
  'run_at', 'watched',
}

-- What the worker gets of a job, in the order `broker/exchange.rs` reads it.
local function handed_out(id, job)
  return { id, int(job.epoch), job.queue, job.priority or 'normal', job.task, int(job.attempt), job.payload, job.options,
    job.created_at, job.run_at or job.created_at }
end

local function take(w, p, now, batch, id, job)
  job.epoch = math.max(num(job.epoch) + 1, now)
  job.attempt = num(job.attempt) + 1
  change(w, p, id, job, 'status', 'running', 'epoch', int(job.epoch), 'worker', batch.worker, 'attempt', int(job.attempt),
    'started_at', int(now))
  w:add('ZADD', key.running(p, job.queue), int(now + batch.lease), id)
  batch.want = batch.want - 1
  batch.bytes = batch.bytes - #job.payload - #job.options
  batch.claims[#batch.claims + 1] = handed_out(id, job)
end

-- Looks at one id at the front of a lane. Returns false if the batch has no room for it.
local function consider(w, p, now, batch, queue, id)
  local job, unreadable = read_job(p, id, CLAIM)
  if unreadable or (job and not (job.payload and job.options and job.task and job.created_at)) then
    quarantine(w, p, id, now)
    w:add('SREM', key.ghosts(p, queue), id)
  elseif job and job.status == 'queued' then
    if #job.payload + #job.options > batch.bytes and #batch.claims > 0 then return false end
    take(w, p, now, batch, id, job)
  else
    w:add('SREM', key.ghosts(p, queue), id)
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
  if #batch.claims == 0 then return end
  local claim = batch.claims[1]
  batch.want, batch.alone = 0, claim[1] .. ' ' .. claim[2]
  w:call('DEL', key.reserved(p))
end
