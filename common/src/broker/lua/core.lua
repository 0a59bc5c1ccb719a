-- What every function needs: the clock, reading a job, and writing.
--
-- Uses: keys
--
-- Redis isolates a function but does not roll back its writes when it fails. So a step first reads and checks everything it
-- needs, meanwhile *collecting* its writes, and then makes them all: `writes` is the only way to write, but for `fast.submit`.

-- How long a worker is listed after its last heartbeat.
local WORKER_KEPT_MS = 30000

-- Redis' own clock, in whole milliseconds. Tests that simulate time replace this one line.
local function now_ms() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end

-- Caches the results of a function of one text or number, at most this many.
local MADE_KEPT = 512
local function memoized(make)
  local known, count = {}, 0
  return function(what)
    local made = known[what]
    if made then return made end
    if count >= MADE_KEPT then known, count = {}, 0 end
    made = make(what)
    known[what], count = made, count + 1
    return made
  end
end

-- A whole number as text; `tostring` would write 1.7e+12. Small numbers, and the times of a call, are needed repeatedly.
local int = memoized(function(number) return string.format('%d', number) end)

-- A hash field as a number; absent is 0. The last few small ones are cached.
local num
do
  local numbers, count = {}, 0
  function num(text)
    local number = numbers[text]
    if number then return number end
    number = text and tonumber(text) or 0
    -- Lua reads the text 'nan' as a number; here it is 0.
    if number ~= number then return 0 end
    if text and number < 65536 then
      if count >= MADE_KEPT then numbers, count = {}, 0 end
      numbers[text], count = number, count + 1
    end
    return number
  end
end

-- Collects writes: single calls in their order; members of lists, sets and sorted sets as one variadic call a key; and groups
-- of similar jobs, which need the same writes and have their own `write`.
local Writes = {}
Writes.__index = Writes

-- The empty table that most calls need; never written to.
local NONE = {}

-- Faster forms of some steps, by name; fast_path.lua adds them. A missing one costs only speed.
local fast = {}

local function writes()
  return setmetatable({ calls = {}, count = 0, variadic = NONE, groups = NONE, ended = NONE, messages = NONE, dues = NONE,
    parked = NONE, finished = NONE, unfinished = NONE, failures = NONE, entered = NONE, left = NONE, freed = NONE, unblocked = NONE,
    claiming = NONE, turns = NONE, rooms = NONE, limits = NONE, shared = NONE, memory = false, features = false }, Writes)
end

function Writes:later(write)
  local count = self.count + 1
  self.calls[count], self.count = write, count
end

function Writes:call(...) self:later({ ... }) end

-- A call that takes any number of members; `put` adds one, or a pair.
local function variadic(command, name) return { command, name, size = 2 } end
local function put(call, first, second)
  local size = call.size
  call[size + 1], call[size + 2] = first, second
  call.size = second and size + 2 or size + 1
end

-- The one call of `command` on `name`, to put members into; it must get at least one.
function Writes:one(command, name)
  local calls = self.variadic[command]
  if not calls then
    if self.variadic == NONE then self.variadic = {} end
    calls = {}
    self.variadic[command] = calls
  end
  local call = calls[name]
  if not call then
    call = variadic(command, name)
    calls[name] = call
    self:later(call)
  end
  return call
end

-- Adds a member to that call: add('ZADD', key, score, member).
function Writes:add(command, name, first, second) put(self:one(command, name), first, second) end

-- Counts jobs of a queue that end.
function Writes:end_of(queue, count)
  if self.ended == NONE then self.ended = {} end
  self.ended[queue] = (self.ended[queue] or 0) + count
end

do
  local function write_dues(_, write)
    local call = { 'ZADD', write.name, 'LT' }
    for queue, time in pairs(write.dues) do
      call[#call + 1] = int(time)
      call[#call + 1] = queue
    end
    redis.call(unpack(call))
  end

  -- Lists a queue to be swept at that time, unless it is listed for an earlier one: a lease expires then, or a delayed job is
  -- due. A step that puts a job into `running` or `delayed` also lists its queue, so none is listed too late; sweeps find the
  -- next time. One call for all queues of a step.
  function Writes:due(p, queue, time)
    if self.dues == NONE then
      self.dues = {}
      self:later({ write = write_dues, name = key.due(p), dues = self.dues })
    end
    local known = self.dues[queue]
    if not known or time < known then self.dues[queue] = time end
  end
end

-- `finished` lists the ended jobs of a queue by when they expire. A member is not one id but those of all jobs that one step
-- ended and that expire at the same time, separated by blanks: a sorted set needs 90 bytes for a member besides its text, and
-- sorts each.
do
  local function write_finished(_, write)
    redis.call('ZADD', write.name, write.expires, table.concat(write.ids, ' '))
  end

  -- The list of ids to which a job that ends and expires then is to be added.
  function Writes:finishing(p, queue, expires)
    if self.finished == NONE then self.finished = {} end
    local which = queue .. ' ' .. expires
    local ids = self.finished[which]
    if not ids then
      ids = {}
      self.finished[which] = ids
      self:later({ write = write_finished, name = key.finished(p, queue), expires = expires, ids = ids })
    end
    return ids
  end
end

function Writes:finish(p, queue, expires, id)
  local ids = self:finishing(p, queue, expires)
  ids[#ids + 1] = id
end

do
  local function write_unfinished(_, write)
    for expires, ids in pairs(write.times) do
      for _, member in ipairs(redis.call('ZRANGEBYSCORE', write.name, expires, expires)) do
        local left, removed = {}, false
        for id in string.gmatch(member, '%S+') do
          if ids[id] then removed = true else left[#left + 1] = id end
        end
        if removed then redis.call('ZREM', write.name, member) end
        if removed and left[1] then redis.call('ZADD', write.name, expires, table.concat(left, ' ')) end
      end
    end
  end

  -- Removes a job that expires then from `finished`. One pass for all jobs of a queue.
  function Writes:unfinish(p, queue, expires, id)
    -- A broken record: an audit finds what is left of it.
    if not expires then return end
    local name = key.finished(p, queue)
    if self.unfinished == NONE then self.unfinished = {} end
    local times = self.unfinished[name]
    if not times then
      times = {}
      self.unfinished[name] = times
      self:later({ write = write_unfinished, name = name, times = times })
    end
    local ids = times[expires] or {}
    times[expires], ids[id] = ids, true
  end
end

-- Records a task whose jobs are parked in the queue.
function Writes:park(p, queue, task)
  if self.parked == NONE then self.parked = {} end
  self.parked[queue] = true
  self:add('SADD', key.parked(p, queue), task)
end

-- Publishes a message on a channel after everything is written.
function Writes:publish(channel, message)
  if self.messages == NONE then self.messages = {} end
  self.messages[#self.messages + 1] = { channel, message }
end

function Writes:commit()
  local calls, messages, call, unpack = self.calls, self.messages, redis.call, unpack
  for at = 1, self.count do
    local one = calls[at]
    if not one.write then call(unpack(one)) elseif one.count ~= 0 then one.write(self, one) end
  end
  for _, finish in pairs(self.left) do finish() end
  for at = 1, #self.freed do self.freed[at]() end
  for at = 1, #messages do redis.pcall('SPUBLISH', unpack(messages[at])) end
  self.count, self.variadic, self.groups, self.messages, self.dues = 0, NONE, NONE, NONE, NONE
  self.finished, self.unfinished, self.failures = NONE, NONE, NONE
  self.entered, self.left, self.freed, self.unblocked = NONE, NONE, NONE, NONE
  self.claiming, self.turns, self.rooms = NONE, NONE, NONE
end

-- What every job has, in the order of the words in the field `state`; '-' means none. One field, because a step reads and
-- writes all of it: a job costs one read and one write per step, not one for each of nine fields.
local STATE = '^(%l+) (%d+) (%S+) (%d+) (%S+) (%S+) (%S+) (%S+) (%S+)$'

-- Fields that few jobs have. The field `optional` names those that a job has, or ever had, so that the others are not read in
-- vain.
local OPTIONAL = {
  'priority', 'run_at', 'deadline', 'losses', 'unheard', 'waiting_for', 'cancel_requested', 'settled_epoch', 'retention',
  'keep_until', 'error', 'error_group', 'log_bytes', 'log_lines', 'reported', 'generation', 'watched', 'webhook', 'indexes',
  'group', 'start_by', 'snoozes', 'schedule', 'unique',
}

-- The names in `optional`, in the order of OPTIONAL, and each as a key.
local optional_names = memoized(function(text)
  local names, words = {}, ' ' .. text .. ' '
  for _, name in ipairs(OPTIONAL) do
    if string.find(words, ' ' .. name .. ' ', 1, true) then
      names[#names + 1], names[name] = name, true
    end
  end
  return names
end)

-- Whether a job with this `optional` has none of these fields.
local function has_none(optional, names)
  local has = optional and optional_names(optional) or NONE
  for at = 1, #names do
    if has[names[at]] then return false end
  end
  return true
end

-- The value of `optional` after these fields are written: name, value, …
local function optional_with(optional, ...)
  local fields = { ... }
  for at = 1, #fields, 2 do
    local name = fields[at]
    if optional_names(name)[name] and has_none(optional, { name }) then optional = optional and optional .. ' ' .. name or name end
  end
  return optional
end

local function read_state(text)
  local status, version, queue, attempt, epoch, worker, started, finished, expires = string.match(text, STATE)
  if not status then return nil end
  return { status = status, version = version, queue = queue, attempt = attempt,
    epoch = epoch ~= '-' and epoch, worker = worker ~= '-' and worker, started_at = started ~= '-' and started,
    finished_at = finished ~= '-' and finished, expires_at = expires ~= '-' and expires }
end

local function state_of(job)
  return job.status .. ' ' .. int(job.version) .. ' ' .. job.queue .. ' ' .. job.attempt .. ' ' .. (job.epoch or '-')
    .. ' ' .. (job.worker or '-') .. ' ' .. (job.started_at or '-') .. ' ' .. (job.finished_at or '-')
    .. ' ' .. (job.expires_at or '-')
end

-- Makes a job from what a read of `state`, `optional` and the `further` fields of its hash returned. See `read_job`.
local function job_of(name, values, further)
  if values.err then return nil, true end
  if not values[1] then return nil, false end
  local job = read_state(values[1])
  if not job then return nil, true end
  job.key, job.optional = name, values[2]
  for at = 1, further and #further or 0 do job[further[at]] = values[2 + at] end
  if values[2] then
    local names = optional_names(values[2])
    local optional = redis.call('HMGET', name, unpack(names))
    for at = 1, #names do job[names[at]] = optional[at] end
  end
  return job
end

-- Reads a job, and the `further` fields of its hash; absent ones are false. Returns nil if there is no such job (or only its
-- tombstone), and nil, true if the record cannot be read.
local function read_job(p, id, further)
  local name = key.job(p, id)
  return job_of(name, redis.pcall('HMGET', name, 'state', 'optional', unpack(further or {})), further)
end

-- What was submitted, in one field that never changes: when Redis accepted it, the task, and the options, which are opaque
-- JSON here.
local SPEC = { 'spec' }
local function created_at(job) return num(string.match(job.spec or '', '^%d+')) end
local function task_of(job) return string.match(job.spec or '', '^%d+ (%S+)') end

-- Whether the job runs under that claim of that worker: the fence in every call about an attempt.
local function holds(job, epoch, worker)
  return job and job.status == 'running' and job.epoch == epoch and job.worker == worker
end

-- Whether a worker sends heartbeats, and its lease. A heartbeat in the future was sent before the clock was set back, and
-- proves nothing: a live worker sends the next within a quarter of its lease.
local function beats(p, now, worker)
  local beat = redis.call('HMGET', key.worker(p, worker), 'seen', 'lease')
  local seen, lease = tonumber(beat[1] or nil), num(beat[2])
  return seen ~= nil and seen <= now and now - seen <= lease, lease
end

-- Sets an id aside whose record cannot be read, for an operator to check; keeps the newest 10 000.
local function quarantine(w, p, id, now)
  w:add('ZADD', key.quarantine(p), int(now), id)
  w:call('ZREMRANGEBYRANK', key.quarantine(p), 0, -10001)
end

-- From this percent of `maxmemory` on, a result that is not inline makes its own room, for which an older ended job is
-- removed; and reports write nothing.
local MEMORY_ALL_BUT_FULL = 95

-- How much of `maxmemory` is used, in percent, as the last sweep measured it (0 without a `maxmemory`), and the watermark it
-- used. Read once per call.
local function memory(w, p)
  if not w.memory then
    local seen = redis.call('HMGET', key.sweep(p), 'memory', 'watermark')
    w.memory = { used = num(seen[1]), watermark = num(seen[2] or 100) }
  end
  return w.memory
end

-- The features of this layout that were used: names, separated by blanks. A feature that an earlier version of this layout
-- lacks, and could do harm to, is listed by the step that uses it first; it stays listed. Processes that lack it stop then.
local function features(p) return redis.call('HGET', key.layout(p), 'features') or '' end

local function use_feature(w, p, name)
  w.features = w.features or features(p)
  if string.find(' ' .. w.features .. ' ', ' ' .. name .. ' ', 1, true) then return end
  w.features = w.features == '' and name or w.features .. ' ' .. name
  w:call('HSET', key.layout(p), 'features', w.features)
end

-- Leaves one wake-up token for an idle worker in each of these queues that has none; with `needs_one`, if
-- needs_one(p, queue) is true, which is asked only there. A lost token does no harm: sweeps leave new ones.
local wake
do
  local function add_absent(found, names, first, last, count)
    local size = last - first + 1
    if count == size then return end
    if count > 0 and 4 * (size - count) <= size then
      local middle = math.floor((first + last) / 2)
      local left = redis.call('EXISTS', unpack(names, first, middle))
      add_absent(found, names, first, middle, left)
      return add_absent(found, names, middle + 1, last, count - left)
    end
    for at = first, last do
      if count == 0 or redis.call('EXISTS', names[at]) == 0 then found[#found + 1] = at end
    end
  end

  -- The positions of those keys that do not exist. Usually few are missing, or none exists: so halves are counted; where
  -- many are missing, one after the other.
  local function absent(names)
    local found = {}
    if names[1] then add_absent(found, names, 1, #names, redis.call('EXISTS', unpack(names))) end
    return found
  end

  function wake(w, p, queues, needs_one)
    local tokens = {}
    for at = 1, #queues do tokens[at] = key.wake(p, queues[at]) end
    for _, at in ipairs(absent(tokens)) do
      if not needs_one or needs_one(p, queues[at]) then w:call('LPUSH', tokens[at], '1') end
    end
  end
end
