-- redrive: give the dead letters of a queue a second life, the oldest first.
--
-- KEYS 1  the partition's root
-- ARGV 1  queue   2  how many at most (this call looks at 100)   3  task, or '' for every
--      4  how many of the oldest to pass over (those of other tasks, met by an earlier call)
-- Returns {redriven, passed over, looked at}. Touches what `retry` touches.
local REDRIVE_LOOKS = 100

local function redrive(keys, argv)
  local p, now, w = keys[1], now_ms(), writes()
  local queue, most, task, skip = argv[1], num(argv[2]), argv[3], num(argv[4])
  local redriven, passed, looked = 0, 0, 0
  local fields = { 'task', unpack(MOVES) }
  for _, id in ipairs(redis.call('ZRANGE', key.failed(p, queue), skip, skip + REDRIVE_LOOKS - 1)) do
    if redriven == most then break end
    local job = read_job(p, id, fields)
    looked = looked + 1
    if not job or job.status ~= 'failed' then
      w:call('ZREM', key.failed(p, queue), id)
    elseif task ~= '' and job.task ~= task then
      passed = passed + 1
    else
      revive(w, p, id, job, now)
      redriven = redriven + 1
    end
  end
  if redriven > 0 then wake(w, p, queue) end
  w:commit()
  return { redriven, passed, looked }
end

register('redrive', redrive, {})
