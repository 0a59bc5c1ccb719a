-- steer: request what a worker does from now on. It learns it with its next heartbeat, which the message asks for.
--
-- Uses: keys, register, core
--
-- KEYS 1  the first partition's layout
-- ARGV 1  worker   2  'running', 'quiet' (claim no more jobs) or 'stopping' (the same, and end once nothing runs)
-- Returns 1, or 0 if there is no such worker: none has sent a heartbeat under that id in the last 30 s.
-- Touches the worker's hash and its channel. Repeating the call changes nothing.
local function steer(p, argv)
  local worker, w = argv[1], writes()
  -- One that was declared dead has no description any more.
  if redis.call('HEXISTS', key.worker(p, worker), 'info') == 0 then return 0 end
  w:call('HSET', key.worker(p, worker), 'wanted', argv[2])
  w:commit()
  redis.pcall('SPUBLISH', key.control(p, worker), 'heartbeat')
  return 1
end

register('steer', steer, { 'allow-oom' })
