-- log_action: record what an operator did.
--
-- Uses: keys, register, core
--
-- KEYS 1  the first partition's layout
-- ARGV 1  what was done (JSON, opaque)
-- Returns 1. Touches `actions`, which keeps the newest 10 000. Repeating the call records it again.
local ACTIONS = 10000

local function log_action(p, argv)
  local w = writes()
  w:call('LPUSH', key.actions(p), int(now_ms()) .. ' ' .. argv[1])
  w:call('LTRIM', key.actions(p), 0, ACTIONS - 1)
  w:commit()
  return 1
end

register('log_action', log_action, { 'allow-oom' })
