-- pause, resume: stop handing out a queue's jobs, and start again. Jobs are still accepted, and running ones continue.
--
-- Uses: keys, register, core, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  queue   2  pause: '1' if the queue is known elsewhere, by a declared task or in another partition, and may be made
--      known here; else ''
-- Returns 1, or 0 if the queue is not known here; then nothing was changed. Touches `paused`, `queues`, `queues:names`, and
-- on resume the queue's wake. Repeating the call changes nothing.
local function pause(p, argv)
  local w = writes()
  if argv[2] ~= '1' and not is_listed(p, argv[1]) then return 0 end
  w:call('SADD', key.paused(p), argv[1])
  list_queue(w, p, now_ms(), argv[1])
  w:commit()
  return 1
end

local function resume(p, argv)
  local w = writes()
  if not is_listed(p, argv[1]) then return 0 end
  w:call('SREM', key.paused(p), argv[1])
  wake(w, p, { argv[1] })
  w:commit()
  return 1
end

register('pause', pause, { 'allow-oom' })
register('resume', resume, { 'allow-oom' })
