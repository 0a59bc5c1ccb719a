-- pause_schedule, resume_schedule: stop the ticks of a schedule, and go on with the next one from now.
--
-- Uses: register, core, schedules
--
-- KEYS 1  the partition's layout
-- ARGV 1  name
--      pause_schedule: 2  '' or the version that it must have   3  '<code> <reason>'; the code of operators is 'requested'
--      resume_schedule: 2  the version that it must have   3  its next tick from now, or ''   4  when that is due
-- Returns 1; 0 if there is no such schedule; -1 if it has another version
-- Touches `schedule`, `schedules`. Repeating the call changes nothing.
local function pause_schedule(p, argv)
  local now, w, schedule = now_ms(), writes(), schedules.read(p, argv[1])
  if not schedule then return 0 end
  if argv[2] ~= '' and argv[2] ~= schedule.version then return -1 end
  -- An operator's pause stands, also where an error paused it before: the error may be gone.
  if schedule.paused and string.find(schedule.paused, '^%d+ requested ') then return 1 end
  schedules.write(w, schedule, { paused = int(now) .. ' ' .. argv[3], buffered = false, held = false })
  schedules.look(w, p, now, schedule)
  w:commit()
  return 1
end

-- Ticks that passed meanwhile are not made up for: the next one is given.
local function resume_schedule(p, argv)
  local now, w, schedule = now_ms(), writes(), schedules.read(p, argv[1])
  if not schedule then return 0 end
  if argv[2] ~= schedule.version then return -1 end
  if not schedule.paused then return 1 end
  local tick = argv[3] ~= '' and argv[3]
  schedules.write(w, schedule, { paused = false, tick = tick, due = tick and argv[4] })
  schedules.look(w, p, now, schedule)
  w:commit()
  return 1
end

register('pause_schedule', pause_schedule, { 'allow-oom' })
register('resume_schedule', resume_schedule, { 'allow-oom' })
