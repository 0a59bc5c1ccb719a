-- heal: judge one suspect of an audit again, and repair what is wrong with it in the same step.
--
-- Uses: register, core, limits, lifecycle, examine
--
-- KEYS 1  the partition's layout
-- ARGV    those of `judge`
-- Returns {kind, 1 healed | 0 left, …}, a pair for each finding, empty if nothing is wrong. Only the present state
-- counts: a suspect that has moved to where it belongs is not touched. A finding that is left needs an operator; or a
-- list is too long for one step, and a call heals it once the list is shorter. Repeating the call changes nothing.
-- Touches the job's hash and log, every list and set of its queue and of the queue that the call names, `queues`,
-- `queues:side`, `queues:ended`, `quarantine`, `audit`, idempotency keys, locks, error groups, indexes,
-- `schedules`, `schedules:names`.
local function heal(p, argv)
  local now, w, answer = now_ms(), writes(), {}
  local found, queue = examine(p, now, argv)
  for _, finding in ipairs(found) do
    local healed = finding.fix and finding.fix(w) ~= false
    answer[#answer + 1] = finding.kind
    answer[#answer + 1] = healed and 1 or 0
  end
  count_ended(w, p, now)
  w:commit()
  if queue and #found > 0 then
    -- These read what was just written.
    refresh_side_queue(w, p, queue)
    refresh_ended_queue(w, p, queue)
    wake(w, p, { queue, unpack(limits.siblings(p, queue)) }, is_claimable)
    w:commit()
  end
  return answer
end

register('heal', heal, { 'allow-oom' })
