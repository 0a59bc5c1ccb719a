-- The moves of a job, each in one place. They collect writes: the caller has read and checked. A `job` here is what
-- `read_job` returned; a move sets what changes of its state, and names what changes of its other fields.

-- Ready lists of a queue: the lanes of the four priorities, highest first. Jobs that took workers down with them wait
-- in a lane of their own (`SOLITARY`) and are handed out alone.
local LANES = { 'urgent', 'high', 'normal', 'low' }
local SOLITARY = 'solitary'
-- Jobs that a worker gave back because it lacks their task wait in a lane of that task, for workers that have it: they are
-- *parked*. The set `parked` of a queue names those tasks; of no more than this many, because calls read it.
local PARKED_TASKS = 256
-- The lane that most jobs take, and the others.
local NORMAL, OTHER_LANES = 'normal', { SOLITARY, 'urgent', 'high', 'low' }
-- Losses from which a job runs alone, and with which it fails for good.
local SOLITARY_LOSSES, MAX_LOSSES = 2, 5
-- Failed hand-overs from which a job runs alone, and with which it fails for good. More than losses: a line that lost some
-- replies is to blame more often than the job, and nothing of it has run.
local SOLITARY_UNHEARD, MAX_UNHEARD = 3, 8
-- How long finished jobs are kept unless they say otherwise: 24 h, 30 days, 24 h.
local RETENTION_MS = { succeeded = 86400000, failed = 2592000000, canceled = 86400000 }
-- And at least: were a job forgotten before its submitter asked again for a lost reply, it would be taken twice.
local RETENTION_LEAST_MS = 60000
-- How long it is told that there was a job.
local TOMBSTONE_KEPT_MS = 86400000
-- How many attempts are remembered, and in how many bytes; the newest is kept whatever its size.
local HISTORY_LINES, HISTORY_BYTES = 10, 16384
-- How many changes of a watched job are kept, and how much of a progress message: at most 64 KiB together.
local EVENTS, EVENT_MESSAGE_BYTES = 256, 180
-- Ended jobs are counted in buckets of ten seconds, which live a little longer than the minute they are summed over.
local BUCKET_MS, BUCKET_KEPT_MS = 10000, 80000

local CANCELED = '{"code":"canceled","message":"canceled on request","retryable":false}'
local WORKER_LOST = '{"code":"worker_lost","message":"the workers that ran this job died or stopped beating","retryable":false}'
local DEADLINE_EXCEEDED = '{"code":"deadline_exceeded","message":"the job was not wanted any more","retryable":false}'
local NOT_DELIVERED =
  '{"code":"not_delivered","message":"no worker received this job in time, though they were alive: its payload may be too large for the network","retryable":false}'

-- Says on the channel `changes` where a watched job stands.
local function publish_change(w, p, id, job)
  w:publish(key.changes(p), id .. ' ' .. int(num(job.version)) .. ' ' .. job.status)
end

-- The beginning of a text, of at most so many bytes and without a part of a character at its end.
local function cut(text, most)
  local short, splits = string.sub(text, 1, most), string.find(text, '^[\128-\191]', most + 1)
  if splits then short = string.gsub(short, '[\192-\255][\128-\191]*$', '') end
  return short
end

-- Keeps a change to be read one by one: `<version> <at> <status> <attempt> [<progress> <message>]`.
local function keep_event(w, p, id, job, news)
  local event = string.format('%s %s %s %s', int(job.version), int(now_ms()), job.status, job.attempt)
  if news.progress then
    event = event .. ' ' .. news.progress .. ' ' .. cut(news.progress_message, EVENT_MESSAGE_BYTES)
  end
  w:add('RPUSH', key.events(p, id), event)
  w:call('LTRIM', key.events(p, id), -EVENTS, -1)
end

-- What whoever watches a job is told of a change of these fields.
local function report_change(w, p, id, job, ...)
  local news = {}
  for at = 1, select('#', ...), 2 do news[select(at, ...)] = select(at + 1, ...) end
  if job.watched == 'events' then keep_event(w, p, id, job, news) end
  publish_change(w, p, id, job)
end

-- Every change of a job ends here: its state, the fields named, which of them are rare, and the version that grows with each
-- change. Nobody is told of it unless somebody watches the job.
local function change(w, p, id, job, ...)
  job.version = num(job.version) + 1
  local optional = optional_with(job.optional, ...)
  if optional == job.optional then
    w:call('HSET', job.key, 'state', state_of(job), ...)
  else
    job.optional = optional
    w:call('HSET', job.key, 'state', state_of(job), 'rare', optional, ...)
  end
  if job.watched then report_change(w, p, id, job, ...) end
end

-- The lane of jobs that wait for workers with a task.
local function lane_for(task) return 'task:' .. task end

-- The lane of a job, and its task if it is parked. It stays parked when it becomes ready again: workers that lack its task may
-- still be there.
local function lane_of(job)
  if num(job.losses) >= SOLITARY_LOSSES or num(job.unheard) >= SOLITARY_UNHEARD then return SOLITARY end
  local task = job.waiting_for and string.match(job.waiting_for, '^%d+ worker_with_task (%S+)$')
  if task then return lane_for(task), task end
  return job.priority or NORMAL
end

-- A queue with a job where few stand, delayed or in another lane than the usual one, is listed: so calls about other queues
-- need not look there. Whoever moves such a job on leaves it listed; sweeps look again.
local function add_side_queue(w, p, queue) w:add('SADD', key.side_queues(p), queue) end

-- Makes a queue known, or notes that it is used now. Sweeps and limits go by `queues`, whose order is that of use; lists go by
-- `queues:names`, of which they read a range by name. Both hold the same queues, so they change in one step.
local function list_queue(w, p, now, queue)
  w:add('ZADD', key.queues(p), int(now), queue)
  w:add('ZADD', key.names(p), '0', queue)
end

-- Into the ready list, at the end (`LPUSH`) or, for a job that had been claimed before, at the front (`RPUSH`).
local function to_ready(w, p, id, job, push, ...)
  local lane, task = lane_of(job)
  if lane ~= NORMAL then add_side_queue(w, p, job.queue) end
  if task then w:park(p, job.queue, task) end
  w:add(push, key.ready(p, job.queue, lane), id)
  job.status = 'queued'
  change(w, p, id, job, ...)
end

local function to_delayed(w, p, id, job, status, due, ...)
  add_side_queue(w, p, job.queue)
  w:due(p, job.queue, due)
  w:add('ZADD', key.delayed(p, job.queue), int(due), id)
  job.status = status
  change(w, p, id, job, 'run_at', int(due), ...)
end

-- A job with a deadline is listed in `deadlines` until it ends, so that a sweep fails it even if no worker claims it.
local function list_deadline(w, p, id, job)
  w:due(p, job.queue, num(job.deadline))
  w:add('ZADD', key.deadlines(p, job.queue), job.deadline, id)
end

-- Takes a job from where it waits, for it is to end. To take it from the middle of a list would cost its length: it stays there as a
-- ghost, which claims and sweeps drop when it comes to the front.
local function leave_waiting(w, p, id, job)
  if job.status == 'queued' then
    w:add('SADD', key.ghosts(p, job.queue), id)
  else
    w:add('ZREM', key.delayed(p, job.queue), id)
  end
end

-- Deliveries of webhooks are jobs of a task and queue of this name. How long they are kept once ended: not as long as other
-- dead letters, since a receiver that is gone for good gets one from every job. What the payload has beside the URL.
local WEBHOOK = { name = 'crunch.webhooks', kept_ms = 86400000, payload_bytes = 96 }

-- Tells of a job's end: makes a delivery in the very step that ends the job, so that no crash comes in between. The field
-- `webhook` has four lines: which ends are told, the first delivery's id, the options of deliveries, the URL as JSON. Each
-- life of a job has one end, so its generation makes the id of its delivery; 65 536 of them fit. The payload is padded
-- with blanks, because the options tell its size and were written when the job was submitted.
local function deliver(w, p, id, job, status, now)
  local header, first, options, url = string.match(job.webhook, '^([^\n]*)\n([^\n]+)\n([^\n]+)\n(.+)$')
  local generation = num(job.generation)
  if not first or generation > 65535 or not string.find(header, status, 1, true) then return end
  local delivery = string.sub(first, 1, 32) .. string.format('%04x', generation)
  local payload = string.format('{"job":"%s","status":"%s","at":%s,"url":%s}', id, status, int(now), url)
  payload = payload .. string.rep(' ', WEBHOOK.payload_bytes + #url - #payload)
  to_ready(w, p, delivery, { key = key.job(p, delivery), queue = WEBHOOK.name, attempt = '0' }, 'LPUSH',
    'spec', int(now) .. ' ' .. WEBHOOK.name .. ' ' .. options, 'payload', payload, 'retention', int(WEBHOOK.kept_ms))
  if w.delivers then return end
  w.delivers = true
  list_queue(w, p, now, WEBHOOK.name)
  wake(w, p, WEBHOOK.name)
end

-- The state of a job that ends, and how long it is kept.
local function complete_state(job, status, now)
  local expires = now + RETENTION_MS[status]
  if job.retention then expires = now + math.max(num(job.retention), RETENTION_LEAST_MS) end
  if job.keep_until then expires = math.max(expires, num(job.keep_until)) end
  job.status, job.finished_at, job.expires_at = status, int(now), int(expires)
end

-- The terminal transition. `finished` lists every ended job until it expires; `failed` the dead letters among them.
local function to_terminal(w, p, id, job, status, now, ...)
  complete_state(job, status, now)
  change(w, p, id, job, ...)
  w:call('PEXPIREAT', job.key, job.expires_at)
  if job.log_bytes then w:call('PEXPIREAT', key.log(p, id), job.expires_at) end
  if job.watched == 'events' then w:call('PEXPIREAT', key.events(p, id), job.expires_at) end
  if job.deadline then w:add('ZREM', key.deadlines(p, job.queue), id) end
  w:add('ZADD', key.finished(p, job.queue), job.expires_at, id)
  if status == 'failed' then w:add('ZADD', key.failed(p, job.queue), job.finished_at, id) end
  w:end_of(job.queue, 1)
  if job.webhook then deliver(w, p, id, job, status, now) end
end

local function write_ended(_, bucket)
  local count = redis.call('INCRBY', bucket.name, bucket.count)
  if count == bucket.count then redis.call('PEXPIRE', bucket.name, BUCKET_KEPT_MS) end
end

-- Writes down how many jobs came to their end in this call; once a call, not once a job.
local function count_ended(w, p, now)
  for queue, count in pairs(w.ended) do
    w:later({ write = write_ended, name = key.ended(p, queue, int(math.floor(now / BUCKET_MS))), count = count })
  end
  w.ended = NONE
end

-- Forgets an ended job but for a tombstone without payload, which says how it went: `deleted` or `trimmed`.
local function to_tombstone(w, p, id, job, how)
  w:call('DEL', key.job(p, id), key.log(p, id), key.events(p, id))
  w:call('ZREM', key.finished(p, job.queue), id)
  w:call('ZREM', key.failed(p, job.queue), id)
  w:call('HSET', key.job(p, id), 'gone', how)
  w:call('PEXPIRE', key.job(p, id), TOMBSTONE_KEPT_MS)
end

-- Makes room in a nearly full Redis: of the ended jobs of a queue the next to expire are forgotten early, but never the
-- dead letters. Returns how many.
local function make_room(w, p, queue, most)
  local forgotten = 0
  for _, id in ipairs(redis.call('ZRANGE', key.finished(p, queue), 0, most - 1)) do
    local job = read_job(p, id)
    if job and (job.status == 'succeeded' or job.status == 'canceled') then
      to_tombstone(w, p, id, job, 'trimmed')
      forgotten = forgotten + 1
    end
  end
  return forgotten
end

-- Forgets up to `most` expired entries of a queue's indexes; the jobs themselves have expired. Returns how many it found.
local function trim(w, p, queue, now, most)
  local expired = redis.call('ZRANGEBYSCORE', key.finished(p, queue), '-inf', int(now), 'LIMIT', 0, most)
  if #expired > 0 then
    w:call('ZREM', key.finished(p, queue), unpack(expired))
    w:call('ZREM', key.failed(p, queue), unpack(expired))
  end
  return #expired
end

-- Adds how the current attempt ended to the history, one JSON object a line, and returns it as the field's new value. The
-- one move that reads: few jobs have a history. A succeeded attempt is not written: the job's own fields tell.
local function remember_attempt(p, id, job, now, outcome, error)
  local line = string.format('{"attempt":%d,"worker":"%s","started_at_ms":%s,"finished_at_ms":%s,"outcome":"%s","error":%s}',
    num(job.attempt), job.worker or '', int(num(job.started_at)), int(now), outcome, error or 'null')
  local past = redis.call('HGET', key.job(p, id), 'history')
  if not past then return line end
  local history = past .. '\n' .. line
  local _, breaks = string.gsub(history, '\n', '\n')
  while breaks >= HISTORY_LINES or (breaks > 0 and #history > HISTORY_BYTES) do
    history = string.sub(history, string.find(history, '\n', 1, true) + 1)
    breaks = breaks - 1
  end
  return history
end

-- A run that is not charged: released by its worker, or lost with it.
local function uncharge(job) job.attempt = int(math.max(num(job.attempt) - 1, 0)) end

-- What a second life does not inherit, beside parts of the state.
local ENDED = { 'error', 'result', 'result_large', 'result_size', 'result_type', 'cancel_requested', 'progress',
  'progress_message', 'waiting_for', 'unheard' }

-- Gives an ended job a second life. The epoch stays, so that no worker of the first life can settle the second; the
-- generation grows.
local function revive(w, p, id, job, now)
  local fields = { 'losses', '0', 'generation', int(num(job.generation) + 1) }
  if job.started_at then
    fields[#fields + 1] = 'history'
    fields[#fields + 1] = remember_attempt(p, id, job, now, job.status, job.error)
  end
  w:call('PERSIST', job.key)
  if job.log_bytes then w:call('PERSIST', key.log(p, id)) end
  if job.watched == 'events' then w:call('PERSIST', key.events(p, id)) end
  if job.deadline then list_deadline(w, p, id, job) end
  w:call('ZREM', key.finished(p, job.queue), id)
  w:call('ZREM', key.failed(p, job.queue), id)
  w:call('HDEL', job.key, unpack(ENDED))
  job.status, job.attempt, job.losses, job.unheard, job.waiting_for = 'queued', '0', nil, nil, nil
  job.worker, job.started_at, job.finished_at, job.expires_at = nil, nil, nil, nil
  if redis.call('SISMEMBER', key.ghosts(p, job.queue), id) == 1 then
    -- It never left its ready list: it keeps its place, in whichever lane that is, and only stops being a ghost.
    add_side_queue(w, p, job.queue)
    w:call('SREM', key.ghosts(p, job.queue), id)
    change(w, p, id, job, unpack(fields))
  else
    to_ready(w, p, id, job, 'LPUSH', unpack(fields))
  end
  list_queue(w, p, now, job.queue)
end

-- Whether a job stands in the usual lane.
local function has_usual(p, queue) return redis.call('EXISTS', key.ready(p, queue, NORMAL)) == 1 end

-- Whether a job stands in one of the queue's lanes that any worker may claim from.
local function has_ready(p, queue)
  local names = {}
  for at, lane in ipairs(LANES) do names[at] = key.ready(p, queue, lane) end
  return redis.call('EXISTS', unpack(names)) > 0
end

-- The same for the lane of those that must run alone.
local function has_solitary(p, queue) return redis.call('EXISTS', key.ready(p, queue, SOLITARY)) == 1 end

-- Whether jobs may be parked in the queue: a sweep drops the names of tasks without any.
local function has_parked(p, queue) return redis.call('EXISTS', key.parked(p, queue)) == 1 end

-- Every lane of the queue.
local function all_lanes(p, queue)
  local lanes = { SOLITARY, unpack(LANES) }
  for _, task in ipairs(redis.call('SMEMBERS', key.parked(p, queue))) do lanes[#lanes + 1] = lane_for(task) end
  return lanes
end

local function is_paused(p, queue) return redis.call('SISMEMBER', key.paused(p), queue) == 1 end

-- Lists the queue if jobs stand where few do, and else no more. Returns whether they do.
local function refresh_side_queue(w, p, queue)
  local names = { key.delayed(p, queue), key.parked(p, queue) }
  for at, lane in ipairs(OTHER_LANES) do names[at + 2] = key.ready(p, queue, lane) end
  local is, listed = redis.call('EXISTS', unpack(names)) > 0, redis.call('SISMEMBER', key.side_queues(p), queue) == 1
  if is ~= listed then w:call(is and 'SADD' or 'SREM', key.side_queues(p), queue) end
  return is
end

-- Wakes a worker for whatever may be claimed from the queue.
local function wake_if_claimable(w, p, queue)
  local claimable = has_ready(p, queue) or has_solitary(p, queue) or has_parked(p, queue)
  if claimable and not is_paused(p, queue) then wake(w, p, queue) end
end

-- Whether the queue is known: it was used or served in the last hour, is paused, or holds anything.
local function is_listed(p, queue) return redis.call('ZSCORE', key.queues(p), queue) ~= false end

-- Whether lists show the queue as well.
local function is_listed_twice(p, queue)
  return is_listed(p, queue) and redis.call('ZSCORE', key.names(p), queue) ~= false
end

-- Whether nothing at all is left of the queue.
local function is_empty(p, queue)
  return not has_ready(p, queue) and not is_paused(p, queue) and redis.call('EXISTS', key.ready(p, queue, SOLITARY),
    key.parked(p, queue), key.delayed(p, queue), key.running(p, queue), key.finished(p, queue), key.deadlines(p, queue)) == 0
end
