-- leave: unregister a worker that exits; it holds no lease any more.
--
-- Uses: keys, register, core
--
-- KEYS 1  the partition's layout
-- ARGV 1  worker
-- Returns 1. Touches the worker's hash, `workers`, `leases`. Repeating the call changes nothing.
local function leave(p, argv)
  local w = writes()
  w:call('DEL', key.worker(p, argv[1]))
  w:call('ZREM', key.workers(p), argv[1])
  w:call('ZREM', key.leases(p), argv[1])
  w:commit()
  return 1
end

register('leave', leave, { 'allow-oom' })
