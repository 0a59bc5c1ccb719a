-- backfill: make up for ticks of the past, one job at a time; or stop that.
--
-- Uses: register, core, schedules
--
-- KEYS 1  the partition's layout
-- ARGV 1  name   2  the version that it must have   3  '<first tick> <last tick> <count>', or '' to stop
-- Returns 1; 0 if there is no such schedule; -1 if it has another version; -2 if it is paused; -3 if one is under way
-- Touches `schedule`, `schedules`.
local function backfill(p, argv)
  local now, w, schedule = now_ms(), writes(), schedules.read(p, argv[1])
  if not schedule then return 0 end
  if argv[2] ~= schedule.version then return -1 end
  if argv[3] ~= '' then
    if schedule.paused then return -2 end
    if schedule.backfill then return schedule.backfill == argv[3] and 1 or -3 end
  end
  schedules.write(w, schedule, { backfill = argv[3] ~= '' and argv[3], backfill_job = false })
  schedules.look(w, p, now, schedule)
  w:commit()
  return 1
end

register('backfill', backfill, { 'allow-oom' })
