-- rule: set the rule of a group of a queue, or of each group that has none of its own: its weight, and how many of its jobs may
-- run, start in a time, and wait. It applies from the next turn; what runs beyond a lower limit runs on.
--
-- Uses: keys, register, core, groups, lifecycle
--
-- KEYS 1  the partition's layout
-- ARGV 1  queue   2  group, or 'each'   3  the rule (see groups.lua), or '' for none
--      4  '1' if the queue is known elsewhere and may be made known here; else ''
-- Returns 1; 0 if the queue is not known here; -1 if as many groups as may have a rule. Then nothing was changed.
-- Touches `rules` of the queue, `queues`, `queues:names`, `queues:side`, `layout`, and the sets of its groups. Repeating the
-- call changes nothing.

-- A thousand rules are set by hand or by a program; a rule for each of a million customers is a mistake.
local RULES_MOST = 1000
-- How many groups that wait for their rate, and how many that wait for the end of a job, a changed rule is tried on at once;
-- others are when their time comes or one of their jobs ends, or by a sweep.
local TRIED = 40

local function try_again(w, p, queue, group)
  if group ~= 'each' then return groups.reset(w, p, queue, group) end
  for _, name in ipairs({ key.blocked_groups(p, queue), key.delayed_groups(p, queue) }) do
    for _, waiting in ipairs(redis.call('ZRANGE', name, 0, TRIED - 1)) do groups.reset(w, p, queue, waiting) end
  end
end

local function rule(p, argv)
  local queue, group, text, w = argv[1], argv[2], argv[3], writes()
  local rules = key.rules(p, queue)
  if argv[4] ~= '1' and not is_listed(p, queue) then return 0 end
  if text == '' then
    w:call('HDEL', rules, group)
  elseif redis.call('HEXISTS', rules, group) == 0 and redis.call('HLEN', rules) >= RULES_MOST then
    return -1
  else
    use_feature(w, p, 'groups')
    w:call('HSET', rules, group, text)
  end
  list_queue(w, p, now_ms(), queue)
  try_again(w, p, queue, group)
  w:commit()
  wake(w, p, { queue }, is_claimable)
  w:commit()
  return 1
end

register('rule', rule, { 'allow-oom' })
