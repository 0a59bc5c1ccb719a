-- judge: judge one suspect of an audit in one step.
--
-- Uses: register, core, examine
--
-- KEYS 1  the partition's layout
-- ARGV 1  what: 'job' | 'queue' | 'group' | 'error' | 'schedule' | 'idempotency' | 'lock'   2  its id, name, group or digest; of a
--      group the queue, and 3  the group
--      of a job, how the audit found it (see examine.lua):
--      3  version   4  removals   5  queue   6  place   7  index   8  again
-- Returns {kind, …}, empty if nothing is wrong. Changes nothing.
local function judge(p, argv)
  local kinds = {}
  for at, finding in ipairs(examine(p, now_ms(), argv)) do kinds[at] = finding.kind end
  return kinds
end

register('judge', judge, { 'no-writes' })
