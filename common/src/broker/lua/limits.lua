-- Limits: how many jobs run and start in a time: those of one group, of a queue, or of several queues that share a limit.
--
-- Uses: keys, core
--
-- Rates are kept by GCRA (ITU-T I.371): `rates` of a queue has the theoretical arrival time of each group whose rate is not
-- unused, and of the queue itself as `queue`; `limits:rates` has those of shared limits.
--
-- What runs in a queue with a limit is counted in its `running`. So all its jobs are in one partition, its home; the others
-- refuse them: see limit.lua. Such a queue is a side queue for as long as it has a limit, and calls about other queues do not
-- ask for limits. The rule of a queue names the limits that it shares, and the hash `limits` has of each its rule and the names
-- of its queues; all of them have the same home. So nothing is counted twice, and no count can be wrong.

local limits = {}
do
  -- A time as text, with all its digits.
  function limits.text(time) return string.format('%.17g', time) end

  -- A rule: '<weight> <concurrency> <starts>/<ms> <burst> <most that wait> <name>', each '-' if it does not say. `gap` is the time
  -- from one start to the next, in ms. Instead of a name, the rule of a queue has the names of the limits that it shares, and that of a
  -- shared limit those of its queues, separated by commas.
  limits.rule_of = memoized(function(text)
    local weight, concurrency, starts, ms, burst, most = string.match(text, '^(%S+) (%S+) ([%d-]+)/?(%d*) (%S+) (%S+)')
    local rule = { cost = 1 / (tonumber(weight) or 1), concurrency = tonumber(concurrency), burst = tonumber(burst) or 1,
      gap = tonumber(starts) and tonumber(ms) / tonumber(starts), most = tonumber(most) }
    rule.limits = rule.concurrency or rule.gap
    return rule
  end)

  -- The names at the end of a rule.
  function limits.names_of(text)
    local names = {}
    for name in string.gmatch(string.match(text, '%S*$'), '[^,]+') do names[#names + 1] = name end
    return names
  end

  -- The rule with other names at its end.
  function limits.with_names(text, names) return (string.gsub(text, '%S*$', table.concat(names, ','), 1)) end

  -- The theoretical arrival time under that name.
  function limits.arrival(w, now, rates, rule, name)
    local stored, latest = num(redis.call('ZSCORE', rates, name)), now + rule.burst * rule.gap
    -- A later time is one of a slower rate, or of a clock that was set back.
    if stored > latest then w:add('ZADD', rates, limits.text(latest), name) end
    return math.min(stored, latest)
  end

  -- When the next job may start: now or later.
  function limits.next_start(now, rule, arrival) return math.max(now, math.ceil(arrival - (rule.burst - 1) * rule.gap)) end

  -- Writes the arrival time after this many jobs started now, and returns it.
  function limits.arrive(w, now, rates, rule, name, arrival, count)
    arrival = math.max(arrival, now) + count * rule.gap
    w:add('ZADD', rates, limits.text(arrival), name)
    return arrival
  end

  -- The name under which `rules` has the limit of a queue, and `rates` its arrival time. No group has such a name.
  local WHOLE = 'queue'

  -- A limit that queues share, or nil.
  local function read_shared(w, p, name)
    if w and w.shared[name] then return w.shared[name] end
    local text = redis.call('HGET', key.limits(p), name)
    if not text then return nil end
    local limit = { rule = limits.rule_of(text), rates = key.limit_rates(p), name = name, queues = limits.names_of(text) }
    if not w then return limit end
    if w.shared == NONE then w.shared = {} end
    w.shared[name] = limit
    return limit
  end

  -- The limits that apply to a queue. Read once in a call; without `w`, again.
  local function limits_of(w, p, queue)
    if w and w.limits[queue] then return w.limits[queue] end
    local found, text = {}, redis.call('HGET', key.rules(p, queue), WHOLE)
    local rule = text and limits.rule_of(text)
    if rule and rule.limits then found[1] = { rule = rule, rates = key.rates(p, queue), name = WHOLE, queues = { queue } } end
    for _, name in ipairs(text and limits.names_of(text) or NONE) do found[#found + 1] = read_shared(w, p, name) end
    if not w then return found end
    if w.limits == NONE then w.limits = {} end
    w.limits[queue] = found
    return found
  end

  function limits.has_limit(p, queue) return redis.call('HEXISTS', key.rules(p, queue), WHOLE) == 1 end

  -- How many jobs run that count for a limit.
  local function count_running(p, limit)
    local count = 0
    for _, queue in ipairs(limit.queues) do count = count + redis.call('ZCARD', key.running(p, queue)) end
    return count
  end

  -- How many jobs may start now by one limit, and its arrival time. Read once in a step, whichever queue asks.
  local function room_of(w, p, now, limit)
    if w.rooms[limit] then return w.rooms[limit] end
    local rule, room = limit.rule, { left = math.huge }
    if rule.concurrency then room.left = rule.concurrency - count_running(p, limit) end
    if rule.gap then
      room.arrival = limits.arrival(w, now, limit.rates, rule, limit.name)
      room.left = math.min(room.left, math.floor(rule.burst - math.max(room.arrival - now, 0) / rule.gap))
    end
    if w.rooms == NONE then w.rooms = {} end
    w.rooms[limit] = room
    return room
  end

  -- How many jobs of a queue may start now; `limits.start` counts on.
  function limits.room(w, p, now, queue)
    local left = math.huge
    for _, limit in ipairs(limits_of(w, p, queue)) do left = math.min(left, room_of(w, p, now, limit).left) end
    return left
  end

  -- Records that this many jobs of a queue start, after `limits.room`. A sweep visits each queue of a limit when its rate allows the
  -- next one.
  function limits.start(w, p, now, queue, count)
    for _, limit in ipairs(count > 0 and limits_of(w, p, queue) or NONE) do
      local room = room_of(w, p, now, limit)
      room.left = room.left - count
      if room.arrival then
        room.arrival = limits.arrive(w, now, limit.rates, limit.rule, limit.name, room.arrival, count)
        for _, other in ipairs(limit.queues) do w:due(p, other, limits.next_start(now, limit.rule, room.arrival)) end
      end
    end
  end

  -- When a limit allows the next start by its rate. Only reads.
  local function read_start(now, limit)
    local rule = limit.rule
    if not rule.gap then return now end
    local arrival = num(redis.call('ZSCORE', limit.rates, limit.name))
    return limits.next_start(now, rule, math.min(arrival, now + rule.burst * rule.gap))
  end

  -- When the rates of a queue allow the next start, if that is later than now; else nil. Only reads.
  function limits.waits_until(w, p, now, queue)
    local start = now
    for _, limit in ipairs(limits_of(w, p, queue)) do start = math.max(start, read_start(now, limit)) end
    return start > now and start or nil
  end

  -- Whether a limit lets a job start now. Only reads.
  local function allows(p, limit)
    local most = limit.rule.concurrency
    if most and count_running(p, limit) >= most then return false end
    if not limit.rule.gap then return true end
    local now = now_ms()
    return read_start(now, limit) == now
  end

  -- Whether the limits of a queue let a job start now. Only reads; `w` may be nil.
  function limits.may_start(w, p, queue)
    for _, limit in ipairs(limits_of(w, p, queue)) do
      if not allows(p, limit) then return false end
    end
    return true
  end

  -- Other queues that share a limit with a queue, if it lets a job start now.
  function limits.siblings(p, queue)
    local queues = {}
    for _, limit in ipairs(limits_of(nil, p, queue)) do
      for _, other in ipairs(limit.queues[2] and allows(p, limit) and limit.queues or NONE) do
        if other ~= queue then queues[#queues + 1] = other end
      end
    end
    return queues
  end

  -- Whether this partition refuses the jobs of a queue, because its home is another. Returns the number of the home.
  function limits.home_elsewhere(p, queue)
    local confined = redis.call('HGET', key.confined(p), queue)
    return confined and string.match(confined, '^%d+ (%d+)$') or nil
  end
end
