-- examine_job(p, now, suspect): what is wrong with one job id, judged in one step, so that a job that moves is never
-- reported. Called inside `judge` and `heal`.
--
-- Uses: keys, core, indexes, locks, groups, waits, schedules, lifecycle, promote, places, mend
--
-- `suspect` is what an audit saw on its walk:
--   id        the suspect
--   version   its version before the walk, if the walk is over and did not meet it where it belongs; else ''
--   removals  how often `heal` had removed ids from lists before the walk
--   queue     where it was met, or ''
--   place     'ready:<lane>', 'delayed', 'running', 'finished', 'failed', 'ghosts', 'grouped', 'group:<group>',
--             'grouped_running:<group>', 'error:<group>', 'index:<index>', 'quarantine', or '' if nowhere
--   index     where in its lane, from the left; of `finished`, at which time; or ''
--   again     '1' if it had been met in a lane before
--
-- Returns a list of {kind, fix}, and the queue of the job. `fix(w)` collects the writes that heal it, or returns false if it
-- cannot; without one only an operator can. `broker/audit/kind.rs` describes each kind; 'undecided' is none of them: a
-- list was too long to decide.

-- A key that leads to a job may be removed this much later than the job: its time is read by another clock call.
local TOLERANCE_MS = 1000

-- The sets where a job of that status belongs; a queued one is in a lane.
local PLACES = {
  scheduled = { 'delayed' }, queued = {}, running = { 'running' }, retrying = { 'delayed' },
  succeeded = { 'finished' }, failed = { 'finished', 'failed' }, canceled = { 'finished' },
}

local function report(found, kind, fix) found[#found + 1] = { kind = kind, fix = fix } end

-- Whether every function could work with that record.
local function is_valid(job)
  local named = string.match(job.queue, '^[a-z0-9][a-z0-9_.-]*$') and #job.queue <= 64
  local asked = job.spec and string.match(job.spec, '^%d+ %S+ .')
  -- In a nearly full Redis success makes room for its result by deleting the input.
  local input = redis.call('HEXISTS', job.key, 'payload') == 1 or redis.call('HEXISTS', job.key, 'payload_large') == 1
    or job.status == 'succeeded'
  local grouped = not job.group or string.find(job.group, GROUP)
  return named and PLACES[job.status] and contains(LANES, job.priority or 'normal') and asked and input and grouped
end

-- Reads a suspect's record. Returns the job; or nil if there is none, nil and 'tombstone', nil and 'unreadable'.
local function read_suspect(p, id)
  local job, unreadable = read_job(p, id, SPEC)
  if job and is_valid(job) then return job end
  if job or unreadable then return nil, 'unreadable' end
  if redis.call('EXISTS', key.job(p, id)) == 0 then return nil end
  return nil, redis.call('HEXISTS', key.job(p, id), 'tombstone') == 1 and 'tombstone' or 'unreadable'
end

-- Lanes where a queued job may be: its own, unless it waits in a group; or, if it was revived as a ghost, the one in which it
-- ended.
local function lanes_for(job)
  if waits_in_group(job) then return NONE end
  local own = lane_of(job)
  local lanes = { own }
  for _, lane in ipairs(num(job.generation) > 0 and { SOLITARY, lane_for(task_of(job)) } or NONE) do
    if lane ~= own then lanes[#lanes + 1] = lane end
  end
  return lanes
end

-- Whether an ended job may be in a ready list, as a ghost: it ended while it waited.
local function may_be_ghost(p, id, job)
  return job.status == 'canceled' or (job.status == 'failed' and is_in(p, job.queue, 'ghosts', id))
end

-- The lane where a job was met, if it is still there and does not belong there.
local function stray_lane(p, suspect, job)
  local lane = lane_in(suspect.place)
  local own = suspect.queue == job.queue and (may_be_ghost(p, suspect.id, job) or
    (job.status == 'queued' and contains(lanes_for(job), lane)))
  if not lane or own then return nil end
  local at = search_lane(p, suspect, suspect.queue, lane)
  return at.count > 0 and at or nil
end

-- Sets that have a job which does not belong there: of its own queue, and the one where it was met.
local function stray_sets(p, suspect, job)
  local strays, times = {}, times_of(suspect, job)
  for _, set in ipairs(SETS) do
    local belongs = contains(PLACES[job.status], set) or (set == 'ghosts' and may_be_ghost(p, suspect.id, job))
      or (set == 'deadlines' and (job.deadline or job.start_by) and not RETENTION_MS[job.status])
      or (set == 'grouped' and job.status == 'queued' and waits_in_group(job))
    if not belongs and is_in(p, job.queue, set, suspect.id, times) then
      strays[#strays + 1] = { queue = job.queue, set = set, times = times }
    end
    if suspect.place == set and suspect.queue ~= job.queue and is_in(p, suspect.queue, set, suspect.id, times) then
      strays[#strays + 1] = { queue = suspect.queue, set = set, times = times }
    end
  end
  return strays
end

local function count_places(p, suspect, job)
  if job.status == 'queued' then
    local count, certain, places = count_in_lanes(p, suspect, job.queue, lanes_for(job), job.version)
    if waits_in_group(job) and is_in(p, job.queue, 'grouped', suspect.id) then return count + 1, true, places, true end
    return count, certain, places
  end
  return is_in(p, job.queue, PLACES[job.status][1], suspect.id) and 1 or 0, true
end

-- The kind of finding for these sets if a job is also where it belongs; for any other set it is 'twice'.
local STRAY_KINDS = { ghosts = 'ghost', deadlines = 'misplaced' }

-- What leads to a live job besides the place where it is: `deadlines` if it has a deadline, or waits and has a time to start;
-- `parked` if it is parked; its lock.
local function examine_lists(p, id, job, places, found)
  local may_end = job.deadline or (job.status ~= 'running' and waits.limit(job))
  if may_end and not is_in(p, job.queue, 'deadlines', id) then
    report(found, 'unlisted', function(w) waits.list(w, p, id, job) end)
  end
  for _, at in ipairs(places or NONE) do
    local task = string.match(at.lane, '^task:(.+)$')
    if task and redis.call('SISMEMBER', key.parked(p, job.queue), task) == 0 then
      report(found, 'overlooked', function(w) w:park(p, job.queue, task) end)
    end
  end
  if not locks.is_named(p, id, job) then
    local is_held = locks.conflict(p, id, job)
    report(found, 'lock', not is_held and function(w) locks.take(w, p, id, job) end or nil)
  end
end

-- A live job is in exactly one place, and its hash agrees.
local function examine_live(p, now, suspect, job, found)
  local id, count, certain, places, is_grouped = suspect.id, count_places(p, suspect, job)
  local sets, at = stray_sets(p, suspect, job), stray_lane(p, suspect, job)
  local unfenced = job.status == 'running' and not (job.worker and job.epoch)
  if unfenced or (count == 0 and certain) then
    local kind = unfenced and 'unfenced' or (at or #sets > 0) and 'misplaced' or 'lost'
    return report(found, kind, function(w)
      if remove_strays(w, p, id, sets, at) == false then return false end
      put_back(w, p, now, id, job)
    end)
  end
  if count == 0 then return report(found, 'undecided') end
  if count > 1 then report(found, 'twice', function(w) return keep_one(w, p, id, places, is_grouped) end) end
  if at then report(found, 'twice', function(w) return remove_strays(w, p, id, {}, at) end) end
  for _, stray in ipairs(sets) do
    report(found, STRAY_KINDS[stray.set] or 'twice', function(w) remove_strays(w, p, id, { stray }) end)
  end
  examine_lists(p, id, job, places, found)
end

-- A ghost is in a ready list, once; and any canceled job there is a ghost.
local function examine_ghost(p, suspect, queue, version, found)
  local id, marked = suspect.id, is_in(p, queue, 'ghosts', suspect.id)
  local again, lane = suspect.again == '1', lane_in(suspect.place)
  if lane and marked and not again or suspect.place == 'ghosts' and again or suspect.place == '' then return end
  local count, certain, places = count_in_lanes(p, suspect, queue, all_lanes(p, queue), version)
  if count > 1 then report(found, 'twice', function(w) return keep_one(w, p, id, places) end) end
  if count > 0 and not marked then
    report(found, 'unmarked', function(w) w:call('SADD', key.ghosts(p, queue), id) end)
  elseif count == 0 and marked then
    if not certain then return report(found, 'undecided') end
    report(found, 'ghost', function(w) drop_from(w, p, queue, 'ghosts', id) end)
  end
end

local function expiry_of(now, job)
  return job.expires_at and num(job.expires_at) or now + RETENTION_MS[job.status]
end

-- Lists an ended job again. What expires is what its state says.
local function list_ended(w, p, now, id, job, set)
  if set == 'failed' then return w:call('ZADD', key.failed(p, job.queue), int(num(job.finished_at or now)), id) end
  if not job.expires_at then
    job.expires_at = int(expiry_of(now, job))
    w:call('HSET', job.key, 'state', state_of(job))
  end
  w:finish(p, job.queue, job.expires_at, id)
end

local examine_group, examine_grouped, examine_indexes
do
  local function is_in_group(p, group, id) return redis.call('ZSCORE', key.error_jobs(p, group), id) ~= false end

  -- The error group in which a job was met, if it is still there and does not belong there.
  local function stray_group(p, suspect, job)
    local group = string.match(suspect.place, '^error:(%S+)$')
    local own = job and job.status == 'failed' and job.error_group == group
    return group and not own and is_in_group(p, group, suspect.id) and group
  end

  -- A failed job is in the group of its error, and in no other.
  function examine_group(p, suspect, job, found)
    local id, group, stray = suspect.id, job and job.status == 'failed' and job.error_group, stray_group(p, suspect, job)
    if group and not is_in_group(p, group, id) then
      report(found, 'unlisted', function(w) w:call('ZADD', key.error_jobs(p, group), job.finished_at or '0', id) end)
    end
    if stray then
      report(found, job and 'misplaced' or 'orphan', function(w) w:call('ZREM', key.error_jobs(p, stray), id) end)
    end
  end

  local function reports_stray(job) return job and 'misplaced' or 'orphan' end

  -- A job that waits in a group is in that group's set, at its place, and no other job is.
  local function examine_waiting(p, suspect, job, found)
    local id, is_waiting = suspect.id, job and job.status == 'queued' and waits_in_group(job)
    is_waiting = is_waiting and is_in(p, job.queue, 'grouped', id)
    if is_waiting and not groups.is_at_its_place(p, job.queue, id, job) then
      report(found, 'unlisted', function(w) groups.enter(w, p, job.queue, id, job) end)
    end
    local met = string.match(suspect.place, '^group:(%x+)$')
    local stays = is_waiting and groups.is_of(job, met) and job.queue == suspect.queue
    if met and not stays and groups.place(p, suspect.queue, met, id) then
      report(found, reports_stray(job), function(w) groups.expel(w, p, suspect.queue, id, met) end)
    end
  end

  -- A job of a group that runs is among those of its group that do, and no other job is.
  function examine_grouped(p, suspect, job, found)
    examine_waiting(p, suspect, job, found)
    local id, runs = suspect.id, job and job.status == 'running' and job.group
    if runs and not groups.runs(p, job.queue, id, job) then
      report(found, 'unlisted', function(w) groups.restart(w, p, job.queue, id, job) end)
    end
    local met = string.match(suspect.place, '^grouped_running:(%x+)$')
    local stays = runs and groups.is_of(job, met) and job.queue == suspect.queue
    if met and not stays and groups.is_running(p, suspect.queue, id, met) then
      report(found, reports_stray(job), function(w) groups.stop(w, p, suspect.queue, id, met) end)
    end
  end

  local function score_in(p, index, id) return tonumber(redis.call('ZSCORE', key.index(p, index), id) or nil) end

  -- A job is in the indexes that it names, and in no other. All scores are 0, so that ids are sorted.
  function examine_indexes(p, suspect, job, found)
    local id, names = suspect.id, job and job.indexes or ''
    for name in string.gmatch(names, '%S+') do
      if score_in(p, name, id) ~= 0 then
        report(found, 'unlisted', function(w) indexes.enter(w, p, id, name) end)
      end
    end
    local met = string.match(suspect.place, '^index:(%S+)$')
    if met and not string.find(' ' .. names .. ' ', ' ' .. met .. ' ', 1, true) and score_in(p, met, id) then
      report(found, job and 'misplaced' or 'orphan', function(w) indexes.leave(w, p, id, met) end)
    end
  end
end

-- An ended job is listed until it expires, and is nowhere else, except as a ghost.
local function examine_ended(p, now, suspect, job, found)
  local id, sets, at = suspect.id, stray_sets(p, suspect, job), stray_lane(p, suspect, job)
  if at or #sets > 0 then
    report(found, 'misplaced', function(w)
      if at then retire(w, p, id, at) end
      remove_strays(w, p, id, sets)
    end)
  end
  if may_be_ghost(p, id, job) and suspect.queue == job.queue then
    examine_ghost(p, suspect, job.queue, job.version, found)
  end
  for _, set in ipairs(PLACES[job.status]) do
    if not is_in(p, job.queue, set, id, times_of(suspect, job)) then
      report(found, 'unlisted', function(w) list_ended(w, p, now, id, job, set) end)
    end
  end
end

-- No record expires by itself: a sweep deletes it. Log and events of an ended job do.
local function examine_expiry(p, now, id, job, found)
  for _, name in ipairs({ key.job(p, id), key.log(p, id), key.events(p, id) }) do
    local ended = RETENTION_MS[job.status] ~= nil and name ~= job.key
    local left = redis.call('PTTL', name)
    if not ended and left >= 0 then report(found, 'expiry', function(w) w:call('PERSIST', name) end) end
    if ended and left == -1 then
      report(found, 'expiry', function(w) w:call('PEXPIREAT', name, int(expiry_of(now, job))) end)
    end
  end
end

-- Optional fields are read only where `optional` names them.
local function examine_optional(job, found)
  local optional = job.optional
  for at, value in ipairs(redis.call('HMGET', job.key, unpack(OPTIONAL))) do
    if value then optional = optional_with(optional, OPTIONAL[at], value) end
  end
  if optional ~= job.optional then
    report(found, 'overlooked', function(w) w:call('HSET', job.key, 'optional', optional) end)
  end
end

-- An entry without a job, unless it is a ghost's.
local function examine_entry(p, suspect, found)
  local id, queue, place, lane = suspect.id, suspect.queue, suspect.place, lane_in(suspect.place)
  if place == 'ghosts' or (lane and is_in(p, queue, 'ghosts', id)) then
    return examine_ghost(p, suspect, queue, '', found)
  end
  local at = lane and search_lane(p, suspect, queue, lane)
  if at and at.count > 0 then report(found, 'orphan', function(w) retire(w, p, id, at) end) end
  if at and not at.whole and at.count == 0 then report(found, 'undecided') end
  local times = times_of(suspect)
  if not contains(SETS, place) or not is_in(p, queue, place, id, times) then return end
  report(found, 'orphan', function(w) drop_from(w, p, queue, place, id, times) end)
end

local function examine_nothing(p, suspect, tombstone, found)
  examine_entry(p, suspect, found)
  local name, log, events = key.job(p, suspect.id), key.log(p, suspect.id), key.events(p, suspect.id)
  if redis.call('EXISTS', log, events) > 0 then report(found, 'log', function(w) w:call('DEL', log, events) end) end
  if tombstone and redis.call('PTTL', name) == -1 then
    report(found, 'expiry', function(w) w:call('PEXPIRE', name, TOMBSTONE_KEPT_MS) end)
  end
end

local function examine_job(p, now, suspect)
  local found, id = {}, suspect.id
  local job, other = read_suspect(p, id)
  if suspect.place == 'quarantine' and redis.call('ZSCORE', key.quarantine(p), id) then
    -- Its record was repaired, or deleted; else an operator must check it.
    local fix = function(w) w:call('ZREM', key.quarantine(p), id) end
    report(found, 'quarantined', other ~= 'unreadable' and fix or nil)
  end
  if other == 'unreadable' then
    report(found, 'unreadable')
  elseif not job then
    examine_nothing(p, suspect, other == 'tombstone', found)
  else
    local examine = RETENTION_MS[job.status] and examine_ended or examine_live
    examine(p, now, suspect, job, found)
    examine_expiry(p, now, id, job, found)
    examine_optional(job, found)
  end
  if other ~= 'unreadable' then
    examine_group(p, suspect, job, found)
    examine_grouped(p, suspect, job, found)
    examine_indexes(p, suspect, job, found)
  end
  return found, job and job.queue
end

-- How many entries a queue has. Fails on a key of another type, which would stop the sweeps of an indexed queue.
local function size_of(p, queue)
  local size = 0
  for _, lane in ipairs(all_lanes(p, queue)) do size = size + redis.call('LLEN', key.ready(p, queue, lane)) end
  for _, set in ipairs({ 'delayed', 'running', 'deadlines', 'finished', 'failed', 'grouped' }) do
    size = size + redis.call('ZCARD', key[set](p, queue))
  end
  return size + redis.call('SCARD', key.ghosts(p, queue))
end

-- Whether a sweep would visit a queue too late: it comes when `due` says, and every second if something is overdue.
local function is_overlooked(p, now, first, queue)
  local listed = redis.call('ZSCORE', key.due(p), queue)
  return not listed or tonumber(listed) > math.max(first, now + SWEEP_MS)
end

-- A queue that holds anything is in both indexes, or no sweep would visit it and no list would show it, and in time only if
-- `due` lists it; one token wakes one worker.
local function examine_queue(p, now, queue)
  local found = {}
  local holds_any = size_of(p, queue) > 0 or is_paused(p, queue)
  local unlisted = (holds_any or is_listed(p, queue)) and not is_listed_twice(p, queue)
  local first = first_due(p, queue)
  local late = first and is_overlooked(p, now, first, queue)
  if unlisted or late then
    report(found, 'unindexed', function(w)
      if unlisted then list_queue(w, p, now, queue) end
      if late then w:due(p, queue, first) end
    end)
  end
  if redis.call('LLEN', key.wake(p, queue)) > 1 then
    report(found, 'tokens', function(w) w:call('LTRIM', key.wake(p, queue), 0, 0) end)
  end
  return found, queue
end

-- A group has a turn if it has jobs and may start one, and waits for nothing else.
local function examine_turn(p, queue, group)
  local found = {}
  if not groups.is_placed(p, queue, group) then
    report(found, 'turn', function(w) groups.reset(w, p, queue, group) end)
  end
  return found, queue
end

-- Makes the record of an error group that has jobs but no record, from the newest of them.
local function restore_error_group(w, p, group)
  local id, at = unpack(redis.call('ZRANGE', key.error_jobs(p, group), -1, -1, 'WITHSCORES'))
  local job = read_job(p, id, SPEC)
  if not (job and job.error) then return false end
  w:call('HSET', key.error(p, group), 'queue', job.queue, 'task', task_of(job) or '', 'error', job.error, 'job', id,
    'first', at, 'last', at, 'failures', redis.call('ZCARD', key.error_jobs(p, group)))
  w:call('ZADD', key.errors(p), at, group)
end

-- Lists show an error group only if it has a record, and the index of the partition lists it.
local function examine_error_group(p, group)
  local found, last = {}, redis.call('HGET', key.error(p, group), 'last')
  local listed = redis.call('ZSCORE', key.errors(p), group)
  if last and not listed then
    report(found, 'unindexed', function(w) w:call('ZADD', key.errors(p), last, group) end)
  elseif not last and redis.call('EXISTS', key.error_jobs(p, group)) == 1 then
    report(found, 'unindexed', function(w) return restore_error_group(w, p, group) end)
  elseif not last and listed then
    report(found, 'unindexed', function(w) w:call('ZREM', key.errors(p), group) end)
  end
  return found
end

-- A schedule is listed by its name, and looked at when its tick is due.
local function examine_schedule(p, now, name)
  local found, schedule = {}, schedules.read(p, name)
  if schedule and not schedules.is_placed(p, now, schedule) then
    report(found, 'unindexed', function(w)
      w:call('ZADD', key.schedule_names(p), '0', name)
      schedules.look(w, p, now, schedule)
    end)
  elseif not schedule and (redis.call('ZSCORE', key.schedules(p), name) or redis.call('ZSCORE', key.schedule_names(p), name)) then
    report(found, 'unindexed', function(w)
      w:call('ZREM', key.schedules(p), name)
      w:call('ZREM', key.schedule_names(p), name)
    end)
  end
  return found
end

-- An idempotency key leads to a job, or to its tombstone.
local function examine_idempotency(p, digest)
  local found, name = {}, key.idempotency(p, digest)
  local claimed = redis.call('GET', name)
  local id = claimed and string.match(claimed, '^(%x[%x-]+) %S+$')
  if not claimed then return found end
  if not id then
    report(found, 'unreadable')
  elseif redis.call('EXISTS', key.job(p, id)) == 0 then
    local left = redis.call('PTTL', name)
    if left > TOLERANCE_MS or left == -1 then
      report(found, 'idempotency', function(w) w:call('DEL', name) end)
    end
  end
  return found
end

-- A lock names jobs that may hold it and wait for it.
local function examine_lock(p, digest)
  local found, wrong = {}, locks.wrongly_named(p, digest)
  if wrong then report(found, 'lock', function(w) locks.free(w, p, digest, wrong) end) end
  return found
end

-- Judges the subject that an audit's call names; see `judge` for its arguments. A key of another type is left to an operator.
local function examine(p, now, argv)
  local what, name = argv[1], argv[2]
  local judged, found, queue = pcall(function()
    if what == 'queue' then return examine_queue(p, now, name) end
    if what == 'group' then return examine_turn(p, name, argv[3]) end
    if what == 'error' then return examine_error_group(p, name) end
    if what == 'schedule' then return examine_schedule(p, now, name) end
    if what == 'lock' then return examine_lock(p, name) end
    if what == 'idempotency' then return examine_idempotency(p, name) end
    return examine_job(p, now, { id = name, version = argv[3], removals = argv[4], queue = argv[5], place = argv[6],
      index = argv[7], again = argv[8] })
  end)
  if judged then return found, queue end
  -- Depending on its version Redis throws text or a table.
  local thrown = type(found) == 'table' and found.err or tostring(found)
  if not string.find(thrown, 'WRONGTYPE', 1, true) then error(found) end
  return { { kind = 'unreadable' } }
end
