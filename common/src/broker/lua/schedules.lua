-- Schedules: jobs that are submitted by themselves, again and again.
--
-- Uses: keys, core
--
-- A schedule is a HASH; `schedules:names` lists all of them by name, and `schedules` those at which a process must look, by
-- when. When ticks are is computed by the processes: here a tick is a number, known as the next one in the field `tick`, and
-- `due` is when its job is to be submitted. A tick happens once because `fire` takes only the one in `tick` and writes the next
-- one in the same step (`fire.lua`).
--
--   tick, due         the next tick, and when it is due; absent: there is none
--   paused            '<at> <code> <reason>': the schedule is in `schedules:names` only
--   held              '<since> <code>': the due tick could not be submitted, and is tried again
--   last_job          the last job of a tick
--   buffered          the tick whose job is submitted when `last_job` has ended
--   backfill          '<tick> <last> <count>': ticks to make up for, one job at a time; and `backfill_job`, the last one
--   submitted, skipped, missed   how many ticks were; `runs`, the newest ten of them
--
-- A schedule is in `schedules` exactly if it is not paused and has a next tick, a buffered one or a backfill.
local schedules = {}
do
  -- What waits for the end of a job is looked at when that job ends, and after this long in case its record is gone.
  local PENDING_LOOK_MS = 60000
  -- A tick that could not be submitted is tried again after this long.
  local HELD_LOOK_MS = 5000
  local RUNS = 10

  local FIELDS = { 'version', 'tick', 'due', 'paused', 'held', 'last_job', 'buffered', 'backfill', 'backfill_job', 'submitted',
    'skipped', 'missed', 'runs', 'payload', 'origin', 'timing', 'spec' }

  -- Reads a schedule; nil if there is none.
  function schedules.read(p, name)
    local values = redis.call('HMGET', key.schedule(p, name), unpack(FIELDS))
    if not values[1] then return nil end
    local schedule = { name = name, key = key.schedule(p, name) }
    for at, field in ipairs(FIELDS) do schedule[field] = values[at] end
    return schedule
  end

  -- Writes fields; false deletes one.
  function schedules.write(w, schedule, fields)
    local set, deleted = { 'HSET', schedule.key }, { 'HDEL', schedule.key }
    for field, value in pairs(fields) do
      schedule[field] = value
      if value then
        set[#set + 1], set[#set + 2] = field, value
      else
        deleted[#deleted + 1] = field
      end
    end
    if set[3] then w:later(set) end
    if deleted[3] then w:later(deleted) end
  end

  -- Whether a job has not ended.
  function schedules.is_live(p, id)
    local job = id and read_state(redis.call('HGET', key.job(p, id), 'state') or '')
    return job and job.status ~= 'succeeded' and job.status ~= 'failed' and job.status ~= 'canceled'
  end

  -- Whether a buffered tick or a backfill waits for no job any more.
  local function is_ready(p, schedule)
    return (schedule.buffered and not schedules.is_live(p, schedule.last_job))
      or (schedule.backfill and not schedules.is_live(p, schedule.backfill_job))
  end

  -- Lists a schedule by when a process must look at it next.
  function schedules.look(w, p, now, schedule)
    local at = schedule.tick and num(schedule.due) or math.huge
    if is_ready(p, schedule) then
      at = now
    elseif schedule.buffered or schedule.backfill then
      at = math.min(at, now + PENDING_LOOK_MS)
    end
    if schedule.held then at = math.max(at, now + HELD_LOOK_MS) end
    if schedule.paused or at == math.huge then
      w:call('ZREM', key.schedules(p), schedule.name)
    else
      w:call('ZADD', key.schedules(p), int(at), schedule.name)
    end
  end

  -- Whether a schedule is listed by its name, and looked at in time. Earlier does no harm.
  function schedules.is_placed(p, now, schedule)
    local at = redis.call('ZSCORE', key.schedules(p), schedule.name)
    if not redis.call('ZSCORE', key.schedule_names(p), schedule.name) then return false end
    local pending = schedule.buffered or schedule.backfill
    if schedule.paused or not (schedule.tick or pending) then return not at end
    -- A process that took it has it looked at again a little later.
    local latest = now + PENDING_LOOK_MS
    if schedule.tick and not pending then latest = math.max(latest, num(schedule.due)) end
    return at and tonumber(at) <= latest
  end

  -- Adds ticks to the newest ten: '<tick> <at> <what became of it> <id or ->', the newest first.
  function schedules.runs_with(schedule, lines)
    local runs = {}
    for at = #lines, 1, -1 do runs[#runs + 1] = lines[at] end
    for line in string.gmatch(schedule.runs or '', '[^\n]+') do runs[#runs + 1] = line end
    return table.concat(runs, '\n', 1, math.min(#runs, RUNS))
  end

  -- Has a process look at the schedule of a job that ends, if a tick waits for that.
  function schedules.job_ended(w, p, now, id, job)
    local name = string.match(job.schedule, '^(%S+) %d+$')
    if not name then return end
    local found = redis.pcall('HMGET', key.schedule(p, name), 'paused', 'buffered', 'last_job', 'backfill', 'backfill_job')
    if found.err or found[1] then return end
    if (found[2] and found[3] == id) or (found[4] and found[5] == id) then
      w:call('ZADD', key.schedules(p), 'LT', int(now), name)
    end
  end
end
