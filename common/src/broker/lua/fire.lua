-- fire: submit the jobs of ticks of a schedule, and write its next tick, in one step.
--
-- Uses: register, core, schedules, lifecycle, enqueue
--
-- KEYS 1  the partition's layout
-- ARGV 1–3 as `enqueue`
--      4  name   5  the version that the schedule must have
--      6  why: 'tick'; 'buffered', whose predecessor has ended; 'backfill'; or 'run', on request
--      7  what is expected in the field of that name, so that it happens once; '' for 'run'
--      8  what is written there afterwards, or '' for none   9  of 'tick', when that is due
--      10 what is done while a job of an earlier tick lives: 'skip', 'buffer_one', 'cancel_previous' or 'allow'
--      11 how many ticks were missed   12 queue   13 how many extras each job has
--      then for each tick: the tick, when it was due, id, spec, and two an extra, as `enqueue` has them; the payload is the
--      schedule's
-- Returns {now, code, …}: 1, and for each tick in their order
--           {1, id} its job was submitted; {2} it was skipped; {3} it is buffered;
--           {4, id}, {5, id} or {-7, id} it was skipped, because another job holds the lock of its own: as by `enqueue`;
--           {code} its job was rejected, as by `enqueue`: this tick and the ones after it stay, and are tried again
--         0 something else is there than expected: another process was first; -1 there is no such schedule, or it has another
--         version; -2 it is paused; {now, 2, id}: of 'run', that job has not ended
-- Touches what `enqueue` and `cancel` touch, `schedule`, `schedules`.

-- Reads the ticks of a call.
local function read_ticks(argv)
  local ticks, at, extras = {}, 14, num(argv[13])
  while argv[at] do
    ticks[#ticks + 1] = { tick = argv[at], due = argv[at + 1], id = argv[at + 2], spec = argv[at + 3], at = at + 4 }
    at = at + 4 + 2 * extras
  end
  return ticks
end

-- What becomes of a tick while jobs of earlier ones may live: 'submitted', 'skipped' or 'buffered'.
local function decide(w, p, now, call, overlap)
  if overlap == 'allow' or not call.live then
    call.live = true
    return 'submitted'
  end
  if overlap == 'buffer_one' then
    local outcome = call.buffers and 'skipped' or 'buffered'
    call.buffers = true
    return outcome
  end
  if overlap == 'skip' then return 'skipped' end
  local job = call.last_job and read_job(p, call.last_job)
  call.last_job = nil
  local ended = job and cancel_job(w, p, call.schedule.last_job, job, now)
  -- Its lock is free once that is written.
  w:commit()
  if ended then return 'submitted' end
  return 'buffered'
end

-- The arguments of `enqueue` for the ticks whose jobs are submitted.
local function submission(argv, schedule, ticks)
  local out, extras = { argv[1], argv[2], argv[3], argv[12], '0', argv[13] }, num(argv[13])
  for _, tick in ipairs(ticks) do
    if tick.outcome == 'submitted' then
      out[5] = int(num(out[5]) + 1)
      for _, value in ipairs({ tick.id, tick.spec, schedule.payload }) do out[#out + 1] = value end
      for at = tick.at, tick.at + 2 * extras - 1 do out[#out + 1] = argv[at] end
    end
  end
  return out
end

-- Replies to a job whose lock another one holds: its tick is skipped.
local LOCKED = { [4] = true, [5] = true, [-7] = true }

-- Submits the jobs; cuts the ticks at the first one that is rejected, and returns it with the code.
local function submit(w, p, now, argv, schedule, ticks)
  local arguments = submission(argv, schedule, ticks)
  if arguments[5] == '0' then return nil end
  local replies, next_reply = submit_jobs(w, p, now, arguments), 2
  for at, tick in ipairs(ticks) do
    if tick.outcome == 'submitted' then
      local reply = replies[next_reply]
      local code = type(reply) == 'table' and reply[1] or reply
      next_reply = next_reply + 1
      if LOCKED[code] then
        tick.outcome, tick.locked = 'skipped', reply
      elseif code < 0 then
        for later = #ticks, at, -1 do ticks[later] = nil end
        return tick, code
      end
    end
  end
end

-- The fields that record what became of ticks.
local function record(now, schedule, ticks, missed)
  local lines, counts = {}, { submitted = num(schedule.submitted), skipped = num(schedule.skipped) }
  local fields = { missed = missed > 0 and int(num(schedule.missed) + missed) or nil }
  for _, tick in ipairs(ticks) do
    local outcome = tick.outcome
    if outcome == 'buffered' then
      -- Only the newest tick of `cancel_previous` stays: the one before it is skipped.
      if fields.buffered or schedule.buffered then counts.skipped = counts.skipped + 1 end
      fields.buffered = tick.tick
    else
      counts[outcome] = counts[outcome] + 1
    end
    lines[#lines + 1] = tick.tick .. ' ' .. int(now) .. ' ' .. outcome .. ' ' .. (outcome == 'submitted' and tick.id or '-')
  end
  fields.submitted, fields.skipped = int(counts.submitted), int(counts.skipped)
  fields.runs = schedules.runs_with(schedule, lines)
  return fields
end

-- The last one whose job was submitted.
local function last_submitted(ticks)
  for at = #ticks, 1, -1 do
    if ticks[at].outcome == 'submitted' then return ticks[at].id end
  end
end

-- Adds what is written in the field that was expected, or that the tick is held back.
local function move_on(fields, argv, ticks, now, held, code)
  local why, after = argv[6], argv[8] ~= '' and argv[8]
  local last = last_submitted(ticks)
  fields.held = held and int(now) .. ' ' .. int(-code) or false
  if why == 'tick' then
    fields.tick, fields.due = held and held.tick or after, held and held.due or after and argv[9]
  elseif not held and why == 'buffered' then
    fields.buffered = false
  elseif not held and why == 'backfill' then
    fields.backfill, fields.backfill_job = after, after and last
  end
  if last and why ~= 'backfill' then fields.last_job = last end
end

local function fire(p, argv)
  local now, w, schedule, why = now_ms(), writes(), schedules.read(p, argv[4]), argv[6]
  if not schedule or schedule.version ~= argv[5] then return { int(now), -1 } end
  if why ~= 'run' and schedule.paused then return { int(now), -2 } end
  if why ~= 'run' and schedule[why] ~= argv[7] then return { int(now), 0 } end
  local ticks, last = read_ticks(argv), schedule.last_job
  if why == 'backfill' then last = schedule.backfill_job end
  local live = schedules.is_live(p, last)
  if live and (why == 'backfill' or why == 'buffered') then return { int(now), 0 } end
  if live and why == 'run' and argv[10] ~= 'allow' then return { int(now), 2, last } end
  -- A buffered tick goes before this one, also if the job it waited for has just ended.
  local call = { schedule = schedule, live = live or schedule.buffered, last_job = live and last, buffers = schedule.buffered }
  for _, tick in ipairs(ticks) do tick.outcome = decide(w, p, now, call, why == 'tick' and argv[10] or 'allow') end
  local wanted = #ticks
  local held, code = submit(w, p, now, argv, schedule, ticks)
  local replies = { int(now), 1 }
  for at = 1, wanted do
    local tick = ticks[at]
    if not tick then
      replies[#replies + 1] = { code }
    elseif tick.outcome == 'submitted' then
      replies[#replies + 1] = { 1, tick.id }
    else
      replies[#replies + 1] = tick.locked or { tick.outcome == 'skipped' and 2 or 3 }
    end
  end
  -- A run on request that is rejected is answered so, and not tried again.
  if held and why == 'run' then return replies end
  local fields = record(now, schedule, ticks, num(argv[11]))
  move_on(fields, argv, ticks, now, held, code)
  schedules.write(w, schedule, fields)
  schedules.look(w, p, now, schedule)
  count_ended(w, p, now)
  w:commit()
  return replies
end

register('fire', fire, {})
