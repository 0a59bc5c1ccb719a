-- heal: judge one suspect of an audit again, and repair what is wrong with it in the same step.
--
-- Uses: core, lifecycle, examine
--
-- KEYS 1  the partition's root
-- ARGV    those of `judge`
-- Returns {kind, 1 healed | 0 left, …}. What has moved since the audit is left alone: the suspect is judged by its present
-- state. What is left needs an operator, or a list that has become shorter. Repeating the call changes nothing.
-- Touches the job's hash and log, every list and set of the queues named, `queues`, `unusual`, `quarantine`, `audit`,
-- idempotency keys.
local function heal(keys, argv)
  local p, now, w, answer = keys[1], now_ms(), writes(), {}
  local found, queue = examine(p, now, argv)
  for _, finding in ipairs(found) do
    local healed = finding.fix and finding.fix(w) ~= false
    answer[#answer + 1] = finding.kind
    answer[#answer + 1] = healed and 1 or 0
  end
  count_ended(w, p, now)
  w:commit()
  if queue and #found > 0 then
    refresh_side_queue(w, p, queue)
    wake_if_claimable(w, p, queue)
    w:commit()
  end
  return answer
end

register('heal', heal, { 'allow-oom' })
