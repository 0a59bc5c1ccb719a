-- The transitions of a job, each in one place. They collect writes: the caller has read and checked. A `job` here is what
-- `read_job` returned; a transition changes its state in place, and is passed the other fields that change.
--
-- Uses: keys, core, errors, indexes, locks, limits, groups, waits, schedules

-- Ready lists of a queue: the lanes of the four priorities, highest first. Jobs during which workers died wait in a separate
-- lane (`SOLITARY`) and are handed out alone.
local LANES = { 'urgent', 'high', 'normal', 'low' }
local SOLITARY = 'solitary'
-- Jobs that a worker released because it lacks their task wait in a lane of that task, for workers that have it: they are
-- *parked*. The set `parked` of a queue names those tasks, at most this many, because calls read it.
local PARKED_TASKS = 256
-- The lane of most jobs, and the others.
local NORMAL, OTHER_LANES = 'normal', { SOLITARY, 'urgent', 'high', 'low' }
-- Losses from which a job runs alone, and with which it fails for good.
local SOLITARY_LOSSES, MAX_LOSSES = 2, 5
-- Failed hand-overs from which a job runs alone, and with which it fails for good. More than losses: a connection that lost
-- some replies is the cause more often than the job, and nothing of it has run.
local SOLITARY_UNHEARD, MAX_UNHEARD = 3, 8
-- How long ended jobs are kept by default: 24 h, 30 days, 24 h.
local RETENTION_MS = { succeeded = 86400000, failed = 2592000000, canceled = 86400000 }
-- The minimum: if a job were removed before its submitter retried after a lost reply, it would be accepted twice.
local RETENTION_LEAST_MS = 60000
-- How long a tombstone is kept.
local TOMBSTONE_KEPT_MS = 86400000
-- How many attempts the history keeps, and in how many bytes; the newest is kept whatever its size.
local HISTORY_LINES, HISTORY_BYTES = 10, 16384
-- How many changes of a watched job are kept, and how much of a progress message: at most 64 KiB together.
local EVENTS, EVENT_MESSAGE_BYTES = 256, 180

local CANCELED = '{"code":"canceled","message":"canceled on request","retryable":false}'
local WORKER_LOST = '{"code":"worker_lost","message":"the workers that ran this job died or stopped beating","retryable":false}'
local NOT_DELIVERED =
  '{"code":"not_delivered","message":"no worker received this job in time, though they were alive: its payload may be too large '
  .. 'for the network","retryable":false}'

-- Publishes the version and status of a watched job on the channel `changes`.
local function publish_change(w, p, id, job)
  w:publish(key.changes(p), id .. ' ' .. int(num(job.version)) .. ' ' .. job.status)
end

-- The beginning of a text, at most `most` bytes and without a part of a character at its end.
local function cut(text, most)
  local short, splits = string.sub(text, 1, most), string.find(text, '^[\128-\191]', most + 1)
  if splits then short = string.gsub(short, '[\192-\255][\128-\191]*$', '') end
  return short
end

-- Keeps a change as an event, to be read one by one: `<version> <at> <status> <attempt> [<progress> <message>]`.
local function keep_event(w, p, id, job, fields)
  local event = string.format('%s %s %s %s', int(job.version), int(now_ms()), job.status, job.attempt)
  if fields.progress then
    event = event .. ' ' .. fields.progress .. ' ' .. cut(fields.progress_message, EVENT_MESSAGE_BYTES)
  end
  w:add('RPUSH', key.events(p, id), event)
  w:call('LTRIM', key.events(p, id), -EVENTS, -1)
end

-- Reports a change of these fields to the clients that watch the job.
local function report_change(w, p, id, job, ...)
  local fields = {}
  for at = 1, select('#', ...), 2 do fields[select(at, ...)] = select(at + 1, ...) end
  if job.watched == 'events' then keep_event(w, p, id, job, fields) end
  publish_change(w, p, id, job)
end

-- Every change of a job ends here: it writes the state, the fields passed, which of them are in `optional`, and the version,
-- which grows with each change. It is published only if the job is watched.
local function change(w, p, id, job, ...)
  job.version = num(job.version) + 1
  local optional = optional_with(job.optional, ...)
  if optional == job.optional then
    w:call('HSET', job.key, 'state', state_of(job), ...)
  else
    job.optional = optional
    w:call('HSET', job.key, 'state', state_of(job), 'optional', optional, ...)
  end
  if job.watched then report_change(w, p, id, job, ...) end
end

-- The lane of jobs that wait for workers with a task.
local function lane_for(task) return 'task:' .. task end

-- Whether a job must run alone.
local function is_solitary(job) return num(job.losses) >= SOLITARY_LOSSES or num(job.unheard) >= SOLITARY_UNHEARD end

-- The lane of a job that does not wait in a group, and its task if it is parked. It stays parked when it becomes ready again:
-- there may still be workers without its task.
local function lane_of(job)
  if is_solitary(job) then return SOLITARY end
  local task = job.waiting_for and string.match(job.waiting_for, '^%d+ worker_with_task (%S+)$')
  if task then return lane_for(task), task end
  return job.priority or NORMAL
end

-- Whether a job that is ready waits in its group: not if it must run alone, or is parked; then it is in a lane. One whose group
-- cannot be read is in a lane, so that it is found.
local GROUP = '^%x+ %d+$'
local function waits_in_group(job)
  if not (job.group and string.find(job.group, GROUP)) then return false end
  local lane, task = lane_of(job)
  return lane ~= SOLITARY and not task
end

-- A queue that has a job outside its normal lane, delayed or in another lane, is listed: so calls about other queues need not
-- read those places. A step that takes such a job away leaves the queue listed; sweeps check it again.
local function add_side_queue(w, p, queue) w:add('SADD', key.side_queues(p), queue) end

-- A queue with failed jobs or ghosts is listed too: so metrics need not ask every queue for them. The rest is as above.
local function add_ended_queue(w, p, queue) w:add('SADD', key.ended_queues(p), queue) end

-- Makes a queue known, or records that it is used now. Sweeps and limits use `queues`, which is ordered by last use; lists
-- use `queues:names`, of which they read a range by name. Both hold the same queues, so they change in one step.
local function list_queue(w, p, now, queue)
  w:add('ZADD', key.queues(p), int(now), queue)
  w:add('ZADD', key.names(p), '0', queue)
end

-- A queue's last use is written again after this long: a sixtieth of the hour for which it matters.
local LAST_USE_MS = 60000
-- Whether the recorded last use is recent enough to stay. A time in the future is not: the clock was set back.
local function is_recent(now, used)
  local age = used and now - tonumber(used)
  return age and age >= 0 and age < LAST_USE_MS
end

-- Adds an id to its lane, at the end (`LPUSH`) or at the front (`RPUSH`).
local function enter_lane(w, p, id, job, push)
  local lane, task = lane_of(job)
  if lane ~= NORMAL then add_side_queue(w, p, job.queue) end
  if task then w:park(p, job.queue, task) end
  w:add(push, key.ready(p, job.queue, lane), id)
end

-- Moves a job to its group, or to the ready list: at the end (`LPUSH`) or, if it had been claimed before, at the front (`RPUSH`).
local function to_ready(w, p, id, job, push, ...)
  if waits_in_group(job) then
    add_side_queue(w, p, job.queue)
    groups.enter(w, p, job.queue, id, job)
  else
    enter_lane(w, p, id, job, push)
  end
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

-- Removes a job whose attempt ended from those that run.
local function leave_running(w, p, id, job)
  w:add('ZREM', key.running(p, job.queue), id)
  if job.group then groups.stop(w, p, job.queue, id, job.group) end
end

-- Removes a job that is about to end from where it waits. Removal from the middle of a list would cost time in proportion to
-- the list's length: so the id stays there as a ghost, which claims and sweeps drop when it comes to the front.
local function remove_waiting(w, p, id, job)
  if job.status == 'queued' and waits_in_group(job) then
    groups.leave(w, p, job.queue, id, job)
  elseif job.status == 'queued' then
    w:add('SADD', key.ghosts(p, job.queue), id)
    add_ended_queue(w, p, job.queue)
    local group = job.group and string.match(job.group, '^%x+')
    if group then groups.unblock_later(w, p, job.queue, group) end
  else
    w:add('ZREM', key.delayed(p, job.queue), id)
  end
end

-- Deliveries of webhooks are jobs of a task and queue of this name. How long they are kept once ended: shorter than other
-- dead letters, since a receiver that is down for good gets one from every job. How many bytes the payload has besides the
-- URL.
local WEBHOOK = { name = 'crunch.webhooks', kept_ms = 86400000, payload_bytes = 96 }

-- Reports a job's end: creates a delivery in the same step that ends the job, so that no crash can come between. The field
-- `webhook` has four lines: which ends are reported, the first delivery's id, the options of deliveries, the URL as JSON. A
-- job ends once in each generation, so the generation makes the id of its delivery; 65 536 of them fit. The payload is padded
-- with blanks, because the options contain its size and were written when the job was submitted.
local function deliver(w, p, id, job, status, now)
  local header, first, options, url = string.match(job.webhook, '^([^\n]*)\n([^\n]+)\n([^\n]+)\n(.+)$')
  local generation = num(job.generation)
  if not first or generation > 65535 or not string.find(header, status, 1, true) then return end
  local delivery = string.sub(first, 1, 32) .. string.format('%04x', generation)
  local payload = string.format('{"job":"%s","status":"%s","at":%s,"url":%s}', id, status, int(now), url)
  payload = payload .. string.rep(' ', WEBHOOK.payload_bytes + #url - #payload)
  to_ready(w, p, delivery, { key = key.job(p, delivery), queue = WEBHOOK.name, attempt = '0' }, 'LPUSH',
    'spec', int(now) .. ' ' .. WEBHOOK.name .. ' ' .. options, 'payload', payload, 'retention', int(WEBHOOK.kept_ms))
  w:add('LPUSH', key.recent(p), delivery)
  if w.delivers then return end
  w.delivers = true
  list_queue(w, p, now, WEBHOOK.name)
  wake(w, p, { WEBHOOK.name })
end

-- Sets the state of a job that ends, and when it expires.
local function complete_state(job, status, now)
  local expires = now + RETENTION_MS[status]
  if job.retention then expires = now + math.max(num(job.retention), RETENTION_LEAST_MS) end
  if job.keep_until then expires = math.max(expires, num(job.keep_until)) end
  job.status, job.finished_at, job.expires_at = status, int(now), int(expires)
end

-- The terminal transition. `finished` lists every ended job until it expires; `failed` lists the dead letters among them.
local function to_terminal(w, p, id, job, status, now, ...)
  complete_state(job, status, now)
  change(w, p, id, job, ...)
  if job.log_bytes then w:call('PEXPIREAT', key.log(p, id), job.expires_at) end
  if job.watched == 'events' then w:call('PEXPIREAT', key.events(p, id), job.expires_at) end
  waits.remove(w, p, id, job)
  w:finish(p, job.queue, job.expires_at, id)
  if status == 'failed' then
    w:add('ZADD', key.failed(p, job.queue), job.finished_at, id)
    add_ended_queue(w, p, job.queue)
  end
  w:end_of(job.queue, 1)
  if job.unique then locks.ended(w, p, id, job) end
  if job.webhook then deliver(w, p, id, job, status, now) end
  if job.schedule then schedules.job_ended(w, p, now, id, job) end
end

-- Cancels a job that waits; of one that runs, records that it is to be canceled, and notifies its worker. Returns whether it
-- has ended.
local function cancel_job(w, p, id, job, now)
  if job.status ~= 'running' then
    remove_waiting(w, p, id, job)
    to_terminal(w, p, id, job, 'canceled', now, 'cancel_requested', '1', 'error', CANCELED)
    return true
  end
  if not job.cancel_requested then change(w, p, id, job, 'cancel_requested', '1') end
  -- A broken record may name no worker: then there is none to notify, and a sweep quarantines the record.
  if job.worker and job.epoch then w:publish(key.control(p, job.worker), 'cancel ' .. id .. ' ' .. job.epoch) end
  return false
end

-- Fails a job for good, and lists it in the group of its error. Errors of handlers come with their kind.
local function to_failed(w, p, id, job, now, error, kind, ...)
  local group = errors.count(w, p, now, id, job, error, kind or errors.kind_of(error))
  to_terminal(w, p, id, job, 'failed', now, 'error', error, 'error_group', group, ...)
  w:add('ZADD', key.error_jobs(p, group), job.finished_at, id)
end

local count_ended
do
  -- Ended jobs are counted in buckets of ten seconds, which are kept a little longer than the minute over which they are
  -- summed.
  local BUCKET_MS, BUCKET_KEPT_MS = 10000, 80000

  local function write_ended(_, bucket)
    local count = redis.call('INCRBY', bucket.name, bucket.count)
    if count == bucket.count then redis.call('PEXPIRE', bucket.name, BUCKET_KEPT_MS) end
  end

  -- Writes how many jobs ended in this call; once per call, not once per job.
  function count_ended(w, p, now)
    for queue, count in pairs(w.ended) do
      w:later({ write = write_ended, name = key.ended(p, queue, int(math.floor(now / BUCKET_MS))), count = count })
    end
    w.ended = NONE
  end
end

-- Removes an ended job, leaving a tombstone without payload, which has the reason: `deleted` or `trimmed`.
local function to_tombstone(w, p, id, job, how)
  w:call('DEL', key.job(p, id), key.log(p, id), key.events(p, id))
  w:unfinish(p, job.queue, job.expires_at, id)
  w:call('ZREM', key.failed(p, job.queue), id)
  errors.leave(w, p, id, job)
  indexes.leave(w, p, id, job.indexes)
  locks.deleted(w, p, id, job)
  w:call('HSET', key.job(p, id), 'tombstone', how)
  w:call('PEXPIRE', key.job(p, id), TOMBSTONE_KEPT_MS)
end

-- The ids in members of `finished`: those of whole members, until there are `most`. Returns also how many members they are.
local function first_finished(members, most)
  local ids, count = {}, 0
  for at = 1, #members do
    if #ids >= most then break end
    for id in string.gmatch(members[at], '%S+') do ids[#ids + 1] = id end
    count = at
  end
  return ids, count
end

-- Makes room in a nearly full Redis: the ended jobs of a queue that expire next are removed early, but never the dead
-- letters, nor those that hold a lock. Returns how many.
local function make_room(w, p, queue, most)
  local removed, ids = 0, first_finished(redis.call('ZRANGE', key.finished(p, queue), 0, most - 1), most)
  for at = 1, math.min(#ids, most) do
    local id = ids[at]
    local job = read_job(p, id)
    if job and (job.status == 'succeeded' or job.status == 'canceled') and not locks.outlives(p, id, job) then
      to_tombstone(w, p, id, job, 'trimmed')
      removed = removed + 1
    end
  end
  return removed
end

-- Whether a job with this state has ended and expired: then the last word is that time. One that was only listed by mistake
-- must not be deleted.
local function has_expired(state, now)
  local expires = type(state) == 'string' and tonumber(string.match(state, ' (%d+)$') or nil)
  return expires and expires <= now
end

-- Deletes the jobs of a queue that have expired, about `most` of them at most. Returns how many it found. Records do not
-- expire by themselves, which would need as much memory as their entry in `finished`; what few of them have, a log and events,
-- does.
local function trim(w, p, queue, now, most)
  local expired = redis.call('ZRANGEBYSCORE', key.finished(p, queue), '-inf', int(now), 'LIMIT', 0, most)
  if #expired == 0 then return 0 end
  local ids, count = first_finished(expired, most)
  w:call('ZREM', key.finished(p, queue), unpack(expired, 1, count))
  local any_failed = redis.call('EXISTS', key.failed(p, queue)) == 1
  if any_failed then w:call('ZREM', key.failed(p, queue), unpack(ids)) end
  local delete = { 'DEL' }
  for at = 1, #ids do
    local name = key.job(p, ids[at])
    local job = redis.pcall('HMGET', name, 'state', 'indexes')
    if has_expired(job[1], now) then
      delete[#delete + 1] = name
      indexes.leave(w, p, ids[at], job[2])
      if any_failed then errors.leave(w, p, ids[at], { error_group = redis.call('HGET', name, 'error_group') }) end
    end
  end
  if delete[2] then w:later(delete) end
  return #ids
end

-- Adds how and when the current attempt ended to the history, one JSON object a line, and returns it as the field's new value. The
-- only transition that reads: few jobs have a history. A succeeded attempt is not added: the job's own fields have it.
local function history_with(p, id, job, now, outcome, error)
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

-- Uncharges an attempt: its worker released it, or was lost with it.
local function uncharge(job) job.attempt = int(math.max(num(job.attempt) - 1, 0)) end

-- What is deleted when an ended job runs again, besides parts of the state.
local ENDED = { 'error', 'error_group', 'result', 'result_large', 'result_size', 'result_type', 'cancel_requested', 'progress',
  'progress_message', 'waiting_for', 'unheard', 'snoozes' }

-- Removes a ghost that has a group from the lane of solitary jobs, because a retry puts it into its group. That lane is short.
-- It is counted as a removal for audits, since a walk may miss what moves up.
local function leave_solitary(w, p, id, job)
  w:call('SREM', key.ghosts(p, job.queue), id)
  w:call('LREM', key.ready(p, job.queue, SOLITARY), 1, id)
  w:call('HINCRBY', key.audit(p), 'removals', 1)
end

-- Makes an ended job run again. The epoch stays, so that no worker of the earlier generation can settle the new one; the
-- generation grows.
local function revive(w, p, id, job, now)
  local fields = { 'losses', '0', 'generation', int(num(job.generation) + 1) }
  if job.started_at then
    fields[#fields + 1] = 'history'
    fields[#fields + 1] = history_with(p, id, job, num(job.finished_at or now), job.status, job.error)
  end
  if job.log_bytes then w:call('PERSIST', key.log(p, id)) end
  if job.watched == 'events' then w:call('PERSIST', key.events(p, id)) end
  locks.take(w, p, id, job)
  waits.renew(job, now, fields)
  waits.list(w, p, id, job)
  local is_ghost = redis.call('SISMEMBER', key.ghosts(p, job.queue), id) == 1
  local lane, parked_for = lane_of(job)
  w:unfinish(p, job.queue, job.expires_at, id)
  w:call('ZREM', key.failed(p, job.queue), id)
  errors.leave(w, p, id, job)
  w:call('HDEL', job.key, unpack(ENDED))
  if is_ghost and job.group and parked_for then
    -- A job of a group that keeps its place among the parked ones stays parked; elsewhere it would be looked for in its group.
    fields[#fields + 1], fields[#fields + 2] = 'waiting_for', job.waiting_for
  else
    job.waiting_for = nil
  end
  job.status, job.attempt, job.losses, job.unheard = 'queued', '0', nil, nil
  job.worker, job.started_at, job.finished_at, job.expires_at = nil, nil, nil, nil
  local leaves = is_ghost and job.group and lane == SOLITARY
  if leaves then leave_solitary(w, p, id, job) end
  if is_ghost and not leaves then
    -- It is still in its ready list: it keeps its place, in whichever lane that is, and only stops being a ghost.
    add_side_queue(w, p, job.queue)
    w:call('SREM', key.ghosts(p, job.queue), id)
    change(w, p, id, job, unpack(fields))
  else
    to_ready(w, p, id, job, 'LPUSH', unpack(fields))
  end
  list_queue(w, p, now, job.queue)
end

-- Whether a job is in the normal lane.
local function has_usual(p, queue) return redis.call('EXISTS', key.ready(p, queue, NORMAL)) == 1 end

-- Whether a job is in one of the queue's lanes that any worker may claim from, or in a group whose turn may come.
local function has_ready(p, queue)
  local names = { key.runnable(p, queue) }
  for at, lane in ipairs(LANES) do names[at + 1] = key.ready(p, queue, lane) end
  return redis.call('EXISTS', unpack(names)) > 0
end

-- Whether a job is in the lane of jobs that must run alone.
local function has_solitary(p, queue) return redis.call('EXISTS', key.ready(p, queue, SOLITARY)) == 1 end

-- Whether jobs may be parked in the queue: a sweep drops the names of tasks without any.
local function has_parked(p, queue) return redis.call('EXISTS', key.parked(p, queue)) == 1 end

-- All lanes of the queue.
local function all_lanes(p, queue)
  local lanes = { SOLITARY, unpack(LANES) }
  for _, task in ipairs(redis.call('SMEMBERS', key.parked(p, queue))) do lanes[#lanes + 1] = lane_for(task) end
  return lanes
end

local function is_paused(p, queue) return redis.call('SISMEMBER', key.paused(p), queue) == 1 end

-- Whether any of these queues has jobs outside its normal lane.
local function has_side(p, queues)
  local names = {}
  for _, queue in ipairs(queues) do
    names[#names + 1], names[#names + 2], names[#names + 3] = key.delayed(p, queue), key.parked(p, queue), key.grouped(p, queue)
    for _, lane in ipairs(OTHER_LANES) do names[#names + 1] = key.ready(p, queue, lane) end
  end
  return redis.call('EXISTS', unpack(names)) > 0
end

-- Lists the queue if it has jobs outside its normal lane or a limit, or its home is elsewhere; else removes it from that list.
-- Returns whether it is listed.
local function refresh_side_queue(w, p, queue)
  local is = has_side(p, { queue }) or limits.has_limit(p, queue) or limits.home_elsewhere(p, queue) ~= nil
  local listed = redis.call('SISMEMBER', key.side_queues(p), queue) == 1
  if is ~= listed then w:call(is and 'SADD' or 'SREM', key.side_queues(p), queue) end
  return is
end

-- Lists the queue if it has failed jobs or ghosts, else removes it from that list.
local function refresh_ended_queue(w, p, queue)
  local is = redis.call('EXISTS', key.failed(p, queue), key.ghosts(p, queue)) > 0
  local listed = redis.call('SISMEMBER', key.ended_queues(p), queue) == 1
  if is ~= listed then w:call(is and 'SADD' or 'SREM', key.ended_queues(p), queue) end
end

-- Whether anything may be claimed from the queue.
local function is_claimable(p, queue)
  return (has_ready(p, queue) or has_solitary(p, queue) or has_parked(p, queue)) and not is_paused(p, queue)
    and limits.may_start(nil, p, queue)
end

-- Whether the queue is known: it was used or served in the last hour, is paused, or holds anything.
local function is_listed(p, queue) return redis.call('ZSCORE', key.queues(p), queue) ~= false end

-- Whether the queue is in both indexes, so that lists show it too.
local function is_listed_twice(p, queue)
  return is_listed(p, queue) and redis.call('ZSCORE', key.names(p), queue) ~= false
end

-- Whether the queue holds nothing at all.
local function is_empty(p, queue)
  return not has_ready(p, queue) and not is_paused(p, queue) and not limits.home_elsewhere(p, queue) and redis.call('EXISTS', key.ready(p, queue, SOLITARY),
    key.parked(p, queue), key.delayed(p, queue), key.running(p, queue), key.finished(p, queue), key.deadlines(p, queue),
    key.grouped(p, queue), key.rules(p, queue), key.idle_groups(p, queue)) == 0
end
