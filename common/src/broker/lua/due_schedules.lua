-- due_schedules: what is to be done for schedules now, for one process to do it.
--
-- Uses: keys, register, core, schedules
--
-- KEYS 1  the partition's layout
-- ARGV 1  how many schedules at most   2  how long others leave them to the caller, ms
-- Returns {now, at, name, version, tick, buffered, backfill, …}: five for each schedule, '' for what is not to be done. `tick` is
-- one that is due; `buffered` one whose predecessor's job has ended; `backfill` the field, if the next job may be submitted. `at`:
-- when the next look is due, '' if there are no schedules.
-- Touches `schedules`.
--
-- If the caller dies, the next one gets the same after that time: `fire` decides what happens once.
local function due_schedules(p, argv)
  local now, w = now_ms(), writes()
  local answer = { int(now), '' }
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', key.schedules(p), '-inf', int(now), 'LIMIT', 0, argv[1])) do
    local schedule = schedules.read(p, name)
    if not schedule then
      w:call('ZREM', key.schedules(p), name)
    else
      local tick = not schedule.paused and schedule.tick and num(schedule.due) <= now and schedule.tick or ''
      local buffered = not schedule.paused and schedule.buffered
        and not schedules.is_live(p, schedule.last_job) and schedule.buffered or ''
      local backfill = not schedule.paused and schedule.backfill
        and not schedules.is_live(p, schedule.backfill_job) and schedule.backfill or ''
      if tick == '' and buffered == '' and backfill == '' then
        schedules.look(w, p, now, schedule)
      else
        w:call('ZADD', key.schedules(p), int(now + num(argv[2])), name)
        for _, value in ipairs({ name, schedule.version, tick, buffered, backfill }) do answer[#answer + 1] = value end
      end
    end
  end
  w:commit()
  local first = redis.call('ZRANGE', key.schedules(p), 0, 0, 'WITHSCORES')
  if first[2] then answer[2] = int(tonumber(first[2])) end
  return answer
end

register('due_schedules', due_schedules, { 'allow-oom' })
