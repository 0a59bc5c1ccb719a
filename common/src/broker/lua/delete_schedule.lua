-- delete_schedule: remove a schedule. Its jobs stay as they are.
--
-- Uses: keys, register, core, schedules
--
-- KEYS 1  the partition's layout
-- ARGV 1  name   2  '' or the version that it must have
-- Returns {1, version} removed; {0, 0} there is none; {-1, version} it has another version
-- Touches `schedule`, `schedules`, `schedules:names`. Repeating the call changes nothing.
local function delete_schedule(p, argv)
  local name, w = argv[1], writes()
  local known = schedules.read(p, name)
  if known and argv[2] ~= '' and argv[2] ~= known.version then return { -1, known.version } end
  w:call('DEL', key.schedule(p, name))
  w:call('ZREM', key.schedules(p), name)
  w:call('ZREM', key.schedule_names(p), name)
  w:commit()
  return { known and 1 or 0, known and known.version or '0' }
end

register('delete_schedule', delete_schedule, { 'allow-oom' })
