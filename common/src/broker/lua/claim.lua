-- claim(w, p, now, batch, queue): take jobs of one queue for a worker. Called inside `exchange`.
--
-- `batch` is what the call may still take: {worker, lease, want, bytes, looks, idle, claims}. Jobs that took workers
-- down with them (see SOLITARY) go out alone, and only to a worker that reports nothing else running, so that blame
-- falls on the right one. Ids that were canceled, deleted or cannot be read are dropped on the way.

local CLAIM = {
  'status', 'queue', 'priority', 'version', 'attempt', 'losses', 'epoch', 'task', 'payload', 'options', 'created_at',
}

-- What the worker gets of a job, in the order `broker/exchange.rs` reads it.
local function handed_out(id, job)
  return { id, int(job.epoch), job.queue, job.priority or 'normal', job.task, int(job.attempt), job.payload, job.options,
    job.created_at }
end

local function take(w, p, now, batch, id, job)
  job.epoch = math.max(num(job.epoch) + 1, now)
  job.attempt = num(job.attempt) + 1
  change(w, p, id, job, 'status', 'running', 'epoch', int(job.epoch), 'worker', batch.worker, 'attempt', int(job.attempt),
    'started_at', int(now))
  w:add('ZADD', key.running(p, job.queue), int(now + batch.lease), id)
  batch.want = batch.want - 1
  batch.bytes = batch.bytes - #job.payload
  batch.claims[#batch.claims + 1] = handed_out(id, job)
end

-- Looks at one id at the front of a lane. Returns false if the batch has no room for it.
local function consider(w, p, now, batch, queue, id)
  local job, unreadable = read_job(p, id, CLAIM)
  if unreadable or (job and not (job.payload and job.options and job.task)) then
    quarantine(w, p, id, now)
  elseif job and job.status == 'queued' then
    if #job.payload > batch.bytes and #batch.claims > 0 then return false end
    take(w, p, now, batch, id, job)
  else
    w:add('SREM', key.ghosts(p, queue), id)
  end
  return true
end

-- Takes up to `most` jobs from one lane. A lane is read at its right end, where the oldest stand.
local function claim_lane(w, p, now, batch, queue, lane, most)
  local name = key.ready(p, queue, lane)
  local full = batch.want - most
  local looked, ids = 0, redis.call('LRANGE', name, -math.min(most, batch.looks), -1)
  for at = #ids, 1, -1 do
    if batch.want <= full or not consider(w, p, now, batch, queue, ids[at]) then break end
    looked = looked + 1
  end
  batch.looks = batch.looks - looked
  if looked > 0 then w:call('RPOP', name, looked) end
end

local function claim(w, p, now, batch, queue)
  if batch.idle and #batch.claims == 0 then
    claim_lane(w, p, now, batch, queue, SOLITARY, 1)
    if #batch.claims > 0 then batch.want = 0 end
  end
  for _, lane in ipairs(LANES) do
    if batch.want > 0 then claim_lane(w, p, now, batch, queue, lane, batch.want) end
  end
end
