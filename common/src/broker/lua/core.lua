-- What every function stands on: the clock, reading a job, and writing.
--
-- Redis isolates a function but does not undo what it wrote when it errors. So a step first reads and checks everything
-- it needs, meanwhile *collecting* its writes, and then makes them all: `writes` is the only way to write.

-- How long a worker is listed after its last beat.
local WORKER_KEPT_MS = 30000

-- Redis' own clock, in whole milliseconds. Tests that simulate time replace this one line.
local function now_ms() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end

-- Makes something of a text or a number once, and keeps it; of no more than so many.
local MADE_KEPT = 512
local function remembered(make)
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

-- A whole number as text; `tostring` would write 1.7e+12. Small ones, and the call's own times, are asked for again and again.
local int = remembered(function(number) return string.format('%d', number) end)

-- A field of a hash as a number; absent is 0. The last few small ones are kept.
local numbers, numbers_count = {}, 0
local function num(text)
  local number = numbers[text]
  if number then return number end
  number = text and tonumber(text) or 0
  -- The text 'nan' is a number to Lua, and none to us.
  if number ~= number then return 0 end
  if text and number < 65536 then
    if numbers_count >= MADE_KEPT then numbers, numbers_count = {}, 0 end
    numbers[text], numbers_count = number, numbers_count + 1
  end
  return number
end

-- Collects writes: single calls in their order; list, set and sorted-set members as one variadic call a key; and groups of
-- jobs that are alike, which come to the same writes and have a `write` of their own.
local Writes = {}
Writes.__index = Writes

-- What most calls have nothing of; nobody writes into it.
local NONE = {}

local function writes()
  return setmetatable({ calls = {}, count = 0, variadic = NONE, groups = NONE, ended = NONE, messages = NONE, dues = NONE,
    parked = NONE, memory = false }, Writes)
end

function Writes:later(write)
  local count = self.count + 1
  self.calls[count], self.count = write, count
end

function Writes:call(...) self:later({ ... }) end

-- A call that takes any number of members, and one more of them, or one more pair.
local function variadic(command, name) return { command, name, size = 2 } end
local function put(call, first, second)
  local size = call.size
  call[size + 1], call[size + 2] = first, second
  call.size = second and size + 2 or size + 1
end

-- The one call of `command` on `name`, to be put members into; it must get one.
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

-- Jobs that are alike in those words are one group until they are written; false: such jobs go their way one by one. A group
-- that no job joined after all is not written.
function Writes:group(alike, group)
  if self.groups == NONE then self.groups = {} end
  self.groups[alike] = group
  if group then self:later(group) end
  return group
end

-- Counts jobs of a queue that come to their end.
function Writes:end_of(queue, count)
  if self.ended == NONE then self.ended = {} end
  self.ended[queue] = (self.ended[queue] or 0) + count
end

local function write_dues(w, write)
  local call = { 'ZADD', write.name, 'LT' }
  for queue, time in pairs(write.dues) do
    call[#call + 1] = int(time)
    call[#call + 1] = queue
  end
  redis.call(unpack(call))
end

-- Lists a queue to be swept once that time has come, if it is not listed for an earlier one: a lease ends then, or a delayed job
-- is due. Whoever puts a job into `running` or `delayed` lists its queue in the same step, so none is listed too late; sweeps
-- look when the next time is. One call for all queues of a step.
function Writes:due(p, queue, time)
  if self.dues == NONE then
    self.dues = {}
    self:later({ write = write_dues, name = key.due(p), dues = self.dues })
  end
  local known = self.dues[queue]
  if not known or time < known then self.dues[queue] = time end
end

-- Names a task whose jobs are parked in the queue.
function Writes:park(p, queue, task)
  if self.parked == NONE then self.parked = {} end
  self.parked[queue] = true
  self:add('SADD', key.parked(p, queue), task)
end

-- Says something on a channel once everything is written.
function Writes:publish(channel, message)
  if self.messages == NONE then self.messages = {} end
  self.messages[#self.messages + 1] = { channel, message }
end

function Writes:commit()
  local calls, said, call, unpack = self.calls, self.messages, redis.call, unpack
  for at = 1, self.count do
    local one = calls[at]
    if not one.write then call(unpack(one)) elseif one.count ~= 0 then one.write(self, one) end
  end
  for at = 1, #said do redis.pcall('PUBLISH', unpack(said[at])) end
  self.count, self.variadic, self.groups, self.messages, self.dues = 0, NONE, NONE, NONE, NONE
end

-- What every job has, in the order of its words in the field `state`; '-' stands for none. One field, because a step reads
-- and writes all of it: a job on its way through costs a read and a write a step, not one for each of nine fields.
local STATE = '^(%l+) (%d+) (%S+) (%d+) (%S+) (%S+) (%S+) (%S+) (%S+)$'

-- Fields that few jobs have. The field `rare` names those that a job has, or ever had, so that nobody asks for the others in
-- vain. An earlier version wrote ANY instead: there may be any of them.
local OPTIONAL, ANY = {
  'priority', 'run_at', 'deadline', 'losses', 'unheard', 'waiting_for', 'cancel_requested', 'settled_epoch', 'retention',
  'keep_until', 'error', 'log_bytes', 'log_lines', 'reported', 'generation', 'watched', 'webhook',
}, '1'

-- The names in `rare`, in the order of OPTIONAL, and each as a key.
local optional_names = remembered(function(text)
  local names, words = {}, ' ' .. text .. ' '
  for _, name in ipairs(OPTIONAL) do
    if text == ANY or string.find(words, ' ' .. name .. ' ', 1, true) then
      names[#names + 1], names[name] = name, true
    end
  end
  return names
end)

-- Whether a job whose `rare` that is has none of these.
local function has_none(optional, names)
  local has = optional and optional_names(optional) or NONE
  for at = 1, #names do
    if has[names[at]] then return false end
  end
  return true
end

-- What `rare` says once these fields are written: name, value, …
local function optional_with(optional, ...)
  local fields = { ... }
  for at = 1, #fields, 2 do
    local name = fields[at]
    if optional_names(ANY)[name] and has_none(optional, { name }) then optional = optional and optional .. ' ' .. name or name end
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

-- Writes a group of jobs that comes to one state.
local function write_states(_, group)
  local call, names, state = redis.call, group.names, group.state
  for at = 1, group.count do call('HSET', names[at], 'state', state) end
end

-- Makes a job of what a read of `state`, `rare` and those further fields of its hash returned. See `read_job`.
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

-- Reads a job, and those further fields of its hash; absent ones are false. Returns nil if there is no such job (or only its
-- tombstone), and nil, true if the record cannot be read.
local function read_job(p, id, further)
  local name = key.job(p, id)
  return job_of(name, redis.pcall('HMGET', name, 'state', 'rare', unpack(further or {})), further)
end

-- What was asked, in one field that never changes: when Redis took it, the task, and the options, which are JSON that nobody
-- here reads.
local SPEC = { 'spec' }
local function created_at(job) return num(string.match(job.spec or '', '^%d+')) end
local function task_of(job) return string.match(job.spec or '', '^%d+ (%S+)') end

-- Whether that claim by that worker is the one the job runs under: the fence in every call about an attempt.
local function holds(job, epoch, worker)
  return job and job.status == 'running' and job.epoch == epoch and job.worker == worker
end

-- Whether a worker beats, and its lease. A beat that lies ahead was made before the clock was set back, and proves nothing: a
-- worker that lives beats again within a quarter of its lease.
local function beats(p, now, worker)
  local beat = redis.call('HMGET', key.worker(p, worker), 'seen', 'lease')
  local seen, lease = tonumber(beat[1] or nil), num(beat[2])
  return seen ~= nil and seen <= now and now - seen <= lease, lease
end

-- Puts aside an id whose record cannot be read, for a person to look at; keeps the newest 10 000.
local function quarantine(w, p, id, now)
  w:add('ZADD', key.quarantine(p), int(now), id)
  w:call('ZREMRANGEBYRANK', key.quarantine(p), 0, -10001)
end

-- From this percent of `maxmemory` on a result that does not stand inline makes its own room, an older ended job goes; and reports
-- write nothing.
local MEMORY_ALL_BUT_FULL = 95

-- How much of `maxmemory` is used, in percent, as the last sweep saw it (0 without a `maxmemory`), and the watermark it
-- went by. Looked up once a call.
local function memory(w, p)
  if not w.memory then
    local seen = redis.call('HMGET', key.sweep(p), 'memory', 'watermark')
    w.memory = { used = num(seen[1]), watermark = num(seen[2] or 100) }
  end
  return w.memory
end

-- Leaves one wake-up token for an idle worker, if none lies there. Losing one loses nothing: sweeps leave new ones.
local function wake(w, p, queue)
  if redis.call('EXISTS', key.wake(p, queue)) == 0 then w:call('LPUSH', key.wake(p, queue), '1') end
end
