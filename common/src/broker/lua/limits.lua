-- Limits: how many jobs of a queue, or of one of its groups, run and start in a time.
--
-- Uses: keys, core
--
-- Rates are kept by GCRA (ITU-T I.371): `rates` of a queue has the theoretical arrival time of each group whose rate is not
-- unused, and of the queue itself as `queue`.
--
-- What runs in a queue with a limit is counted in its `running`. So all its jobs are in one partition, its home; the others
-- refuse them: see confine.lua. Such a queue is a side queue for as long as it has a limit, and calls about other queues do not
-- ask for limits.

local limits = {}
do
  -- A time as text, with all its digits.
  function limits.text(time) return string.format('%.17g', time) end

  -- A rule: '<weight> <concurrency> <starts>/<ms> <burst> <most that wait> <name>', each '-' if it does not say. `gap` is the time
  -- from one start to the next, in ms.
  limits.rule_of = memoized(function(text)
    local weight, concurrency, starts, ms, burst, most = string.match(text, '^(%S+) (%S+) ([%d-]+)/?(%d*) (%S+) (%S+)')
    local rule = { cost = 1 / (tonumber(weight) or 1), concurrency = tonumber(concurrency), burst = tonumber(burst) or 1,
      gap = tonumber(starts) and tonumber(ms) / tonumber(starts), most = tonumber(most) }
    rule.limits = rule.concurrency or rule.gap
    return rule
  end)

  -- The theoretical arrival time of a group, or of the queue.
  function limits.arrival(w, p, now, queue, rule, name)
    local stored, latest = num(redis.call('ZSCORE', key.rates(p, queue), name)), now + rule.burst * rule.gap
    -- A later time is one of a slower rate, or of a clock that was set back.
    if stored > latest then w:add('ZADD', key.rates(p, queue), limits.text(latest), name) end
    return math.min(stored, latest)
  end

  -- When the next job may start: now or later.
  function limits.next_start(now, rule, arrival) return math.max(now, math.ceil(arrival - (rule.burst - 1) * rule.gap)) end

  -- Writes the arrival time after this many jobs started now, and returns it.
  function limits.arrive(w, p, now, queue, rule, name, arrival, count)
    arrival = math.max(arrival, now) + count * rule.gap
    w:add('ZADD', key.rates(p, queue), limits.text(arrival), name)
    return arrival
  end

  -- The name under which `rules` has the limit of a queue, and `rates` its arrival time. No group has such a name.
  local WHOLE = 'queue'

  -- The rule of a queue's limit, or false. Read once in a call; without `w`, again.
  local function limit_of(w, p, queue)
    if w and w.limit_rules[queue] ~= nil then return w.limit_rules[queue] end
    local text = redis.call('HGET', key.rules(p, queue), WHOLE)
    local rule = text and limits.rule_of(text)
    if not w then return rule end
    if w.limit_rules == NONE then w.limit_rules = {} end
    w.limit_rules[queue] = rule
    return rule
  end

  function limits.has_limit(p, queue) return redis.call('HEXISTS', key.rules(p, queue), WHOLE) == 1 end

  -- How many jobs of a queue may start now. Read once in a step; `limits.start` counts on.
  function limits.room(w, p, now, queue)
    if w.limits == NONE then w.limits = {} end
    local limit = w.limits[queue]
    if not limit then
      local rule = limit_of(w, p, queue)
      limit = { rule = rule, room = math.huge }
      if rule and rule.concurrency then limit.room = rule.concurrency - redis.call('ZCARD', key.running(p, queue)) end
      if rule and rule.gap then
        limit.arrival = limits.arrival(w, p, now, queue, rule, WHOLE)
        limit.room = math.min(limit.room, math.floor(rule.burst - math.max(limit.arrival - now, 0) / rule.gap))
      end
      w.limits[queue] = limit
    end
    return limit.room
  end

  -- Records that this many jobs of a queue start, after `limits.room`. A sweep visits the queue when its rate allows the next one.
  function limits.start(w, p, now, queue, count)
    local limit = w.limits[queue]
    limit.room = limit.room - count
    if not limit.arrival or count == 0 then return end
    limit.arrival = limits.arrive(w, p, now, queue, limit.rule, WHOLE, limit.arrival, count)
    w:due(p, queue, limits.next_start(now, limit.rule, limit.arrival))
  end

  -- When the rate of a queue allows the next start, if that is later than now; else nil. Only reads.
  function limits.waits_until(w, p, now, queue)
    local rule = limit_of(w, p, queue)
    if not (rule and rule.gap) then return nil end
    local arrival = num(redis.call('ZSCORE', key.rates(p, queue), WHOLE))
    local start = limits.next_start(now, rule, math.min(arrival, now + rule.burst * rule.gap))
    return start > now and start or nil
  end

  -- Whether a queue's limit lets a job start now. Only reads; `w` may be nil.
  function limits.may_start(w, p, queue)
    local rule = limit_of(w, p, queue)
    if not rule then return true end
    if rule.concurrency and redis.call('ZCARD', key.running(p, queue)) >= rule.concurrency then return false end
    return not rule.gap or not limits.waits_until(w, p, now_ms(), queue)
  end

  -- Whether this partition refuses the jobs of a queue, because its home is another. Returns the number of the home.
  function limits.home_elsewhere(p, queue)
    local confined = redis.call('HGET', key.confined(p), queue)
    return confined and string.match(confined, '^%d+ (%d+)$') or nil
  end
end
