-- put_schedule: create a schedule, or replace what it is: its next tick only if its timing changed.
--
-- Uses: keys, register, core, schedules
--
-- KEYS 1  the partition's layout
-- ARGV 1  name   2  '' or a condition: 'new', 'known', or the version that it must have
--      3  timing   4  spec (both are opaque JSON)   5  payload   6  its next tick, or ''   7  when that is due
--      8  how many schedules may be here   9  its origin: 'api' or 'file'
--      10 when it was created, if it moves here from another partition; else ''   11 why it is paused there; else ''
-- Returns {1, version} created; {2, version} changed; {3, version} it was so already: nothing is written
--         {-1, version or 0} the condition is not met; {-2, 0} there are too many; {-3, version} it has another origin
-- Touches `schedule`, `schedules`, `schedules:names`, `layout`. Repeating the call changes nothing.

-- A schedule that an operator paused stays paused; one that was paused because of what it was goes on.
local function stays_paused(paused) return paused and string.find(paused, '^%d+ requested ') and paused end

local function refusal(known, condition, most, count, origin)
  local version = known and known.version or '0'
  if condition == 'new' and known then return { -1, version } end
  if condition ~= '' and condition ~= 'new' and not known then return { -1, version } end
  if string.find(condition, '^%d+$') and condition ~= version then return { -1, version } end
  if known and known.origin ~= origin then return { -3, version } end
  if not known and count >= most then return { -2, '0' } end
end

local function put_schedule(p, argv)
  local name, now, w = argv[1], now_ms(), writes()
  local known = schedules.read(p, name)
  local count = redis.call('ZCARD', key.schedule_names(p))
  local refused = refusal(known, argv[2], num(argv[8]), count, argv[9])
  if refused then return refused end
  local same_timing = known and known.timing == argv[3]
  if same_timing and known.spec == argv[4] and known.payload == argv[5] then return { 3, known.version } end
  use_feature(w, p, 'schedules')
  -- Versions are not used again when a schedule of the same name is created later: they begin at that time.
  local schedule = known or { name = name, key = key.schedule(p, name), paused = argv[11] ~= '' and argv[11] }
  local fields = { version = int(math.max(num(schedule.version) + 1, now)), timing = argv[3], spec = argv[4], payload = argv[5],
    changed_at = int(now), held = false, paused = stays_paused(schedule.paused) or false }
  if not known then
    fields.origin, fields.created_at = argv[9], argv[10] ~= '' and argv[10] or int(now)
    w:call('ZADD', key.schedule_names(p), '0', name)
  end
  -- A schedule that was paused because of an error has the tick of that time: it is not made up for.
  if not same_timing or (known.paused and not fields.paused) then
    local tick = argv[6] ~= '' and argv[6]
    fields.tick, fields.due = tick, tick and argv[7]
  end
  schedules.write(w, schedule, fields)
  schedules.look(w, p, now, schedule)
  w:commit()
  return { known and 2 or 1, schedule.version }
end

register('put_schedule', put_schedule, {})
