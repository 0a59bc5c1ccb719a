-- What every function stands on: the clock, reading a job, and writing.
--
-- Redis isolates a function but does not undo what it wrote when it errors. So a step first reads and checks everything
-- it needs, meanwhile *collecting* its writes, and then makes them all: `writes` is the only way to write.

-- How long a worker is listed after its last beat.
local WORKER_KEPT_MS = 30000

-- Redis' own clock, in whole milliseconds. Tests that simulate time replace this one line.
local function now_ms() local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000) end

-- A whole number as text; `tostring` would write 1.7e+12.
local function int(number) return string.format('%.0f', number) end

-- A field of a hash as a number; absent is 0.
local function num(text) return tonumber(text or 0) or 0 end

-- Collects writes: single calls in their order, and list, set and sorted-set members as one variadic call a key.
local Writes = {}
Writes.__index = Writes

local function writes() return setmetatable({ calls = {}, variadic = {}, ended = {}, said = {} }, Writes) end

function Writes:call(...) self.calls[#self.calls + 1] = { ... } end

-- Adds members to the one call of `command` on `name`: add('ZADD', key, score, member).
function Writes:add(command, name, ...)
  local slot = command .. ' ' .. name
  local call = self.variadic[slot]
  if not call then
    call = { command, name }
    self.variadic[slot] = call
    self.calls[#self.calls + 1] = call
  end
  for _, argument in ipairs({ ... }) do call[#call + 1] = argument end
end

-- Says something on a channel once everything is written.
function Writes:say(channel, message) self.said[#self.said + 1] = { channel, message } end

function Writes:commit()
  for _, call in ipairs(self.calls) do redis.call(unpack(call)) end
  for _, said in ipairs(self.said) do redis.pcall('PUBLISH', unpack(said)) end
  self.calls, self.variadic, self.said = {}, {}, {}
end

-- Reads the named fields of a job's hash into a table by name; absent fields are false.
-- Returns nil if there is no such job (or only its tombstone), and nil, true if the record cannot be read.
local function read_job(p, id, fields)
  local values = redis.pcall('HMGET', key.job(p, id), unpack(fields))
  if values.err then return nil, true end
  local job = {}
  for at, field in ipairs(fields) do job[field] = values[at] end
  if not job.status then return nil, false end
  if not job.queue then return nil, true end
  return job
end

-- Whether that claim by that worker is the one the job runs under: the fence in every call about an attempt.
local function holds(job, epoch, worker)
  return job and job.status == 'running' and job.epoch == epoch and job.worker == worker
end

-- Puts aside an id whose record cannot be read, for a person to look at; keeps the newest 10 000.
local function quarantine(w, p, id, now)
  w:add('ZADD', key.quarantine(p), int(now), id)
  w:call('ZREMRANGEBYRANK', key.quarantine(p), 0, -10001)
end

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
