-- sample: add the depths of queues to the history, once a minute.
--
-- Uses: keys, register, core, history
--
-- KEYS 1  the first partition's layout
-- ARGV two for each queue: its name, or `*` for all others together; `<queued> <delayed> <running> <failed> <age>`, the age
--      of the oldest job that could run in ms. Without arguments only a question.
-- Returns 1 if they were added, or would be; 0 if this minute has them already.
-- Touches the `history` of queues.
local function sample(p, argv)
  local now, w = now_ms(), writes()
  if history.is_sampled(p, now) then return 0 end
  if argv[1] then history.sample(w, p, now, argv) end
  w:commit()
  return 1
end

register('sample', sample, {})
