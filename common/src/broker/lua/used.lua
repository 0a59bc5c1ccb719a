-- used: return how long ago a process of this version last swept or sent a heartbeat. Every API process sweeps each
-- second, every worker sends heartbeats.
--
-- Uses: core, sweep
--
-- KEYS and ARGV: none
-- Returns milliseconds. The variables of functions are neither persisted nor replicated: after Redis started, loaded
-- the library, or became the master, nothing is known; then the time counts from the first call of this function.
-- Touches no key.
local function used()
  local now = now_ms()
  -- The clock may have been set back.
  used_at = math.min(used_at or now, now)
  return now - used_at
end

register_function('used', used, { 'no-writes', 'allow-oom' })
