-- used: how long ago a process of this version swept or beat. Every API sweeps each second, every worker beats.
--
-- KEYS and ARGV: none
-- Returns milliseconds. The memory of functions is neither kept nor replicated: after Redis started, loaded the library, or became
-- the master, nothing is known; then the time counts from the first call of this function.
-- Touches no key.
local function used()
  local now = now_ms()
  -- The clock may have been set back.
  used_at = math.min(used_at or now, now)
  return now - used_at
end

register('used', used, { 'no-writes', 'allow-oom' })
