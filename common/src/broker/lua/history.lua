-- History: how attempts ended and how deep queues were, in each minute and each hour. Only the first partition has it.
--
-- Uses: keys, core
--
-- A heartbeat carries how the attempts of its worker ended since the last one, so a job costs nothing here; `sample` adds the
-- depths of queues, once a minute. A minute is kept for 72 hours, an hour for 90 days.

local history = {}
do
  local SPANS = { { unit = 'minute', ms = 60000, kept_ms = 259200000 }, { unit = 'hour', ms = 3600000, kept_ms = 7776000000 } }
  -- An hour, and each of its minutes, has at most this many series of attempts, and as many queues; those beyond share one
  -- more.
  local MOST, OTHER = 100, '*'
  -- The number of different counts of a series: `broker/history/counts.rs` names them.
  local COUNTS = 29

  -- The minute and the hour of a time: the key of each, by the function that spells it, and how long it is kept.
  local function spans(p, now, spell)
    local found = {}
    for at, span in ipairs(SPANS) do
      found[at] = { key = spell(p, span.unit, int(math.floor(now / span.ms))), kept_ms = span.kept_ms }
    end
    return found[1], found[2]
  end

  -- The field of a series or queue: that of all others if the hour has no room for another one. `new` has those since
  -- earlier in this call.
  local function field_for(hour, name, new)
    if name == OTHER then return OTHER end
    if new[name] or redis.call('HEXISTS', hour.key, name) == 1 then return name end
    local known = redis.call('HLEN', hour.key) - redis.call('HEXISTS', hour.key, OTHER)
    if known + new.count >= MOST then return OTHER end
    new[name], new.count = true, new.count + 1
    return name
  end

  -- Adds up counts, which are `<number>=<count>`, separated by spaces.
  local function sum(text)
    local sums, words = {}, {}
    for number, count in string.gmatch(text, '(%d+)=(%d+)') do
      number = tonumber(number)
      sums[number] = (sums[number] or 0) + tonumber(count)
    end
    for number = 0, COUNTS - 1 do
      if sums[number] then words[#words + 1] = int(number) .. '=' .. int(sums[number]) end
    end
    return table.concat(words, ' ')
  end

  -- Adds the counts of one heartbeat: a line for each series, `<queue> <task> <counts>`.
  function history.count(w, p, now, lines)
    local minute, hour = spans(p, now, key.history)
    local added, new = {}, { count = 0 }
    for series, counts in string.gmatch(lines, '([^ \n]+ [^ \n]+) ([^\n]+)') do
      local field = field_for(hour, series, new)
      added[field] = (added[field] or '') .. ' ' .. counts
    end
    for _, span in ipairs({ minute, hour }) do
      for field, counts in pairs(added) do
        w:add('HSET', span.key, field, sum((redis.call('HGET', span.key, field) or '') .. counts))
      end
      w:call('PEXPIRE', span.key, int(span.kept_ms))
    end
  end

  -- The larger of each pair of numbers of two texts.
  local function highest(one, other)
    local numbers, words = string.gmatch(one, '%d+'), {}
    for number in string.gmatch(other, '%d+') do
      words[#words + 1] = int(math.max(tonumber(numbers() or 0), tonumber(number)))
    end
    return table.concat(words, ' ')
  end

  function history.is_sampled(p, now)
    local minute = spans(p, now, key.history_queues)
    return redis.call('EXISTS', minute.key) == 1
  end

  -- Adds the depths of queues to this minute; the hour has the highest.
  function history.sample(w, p, now, depths)
    local minute, hour = spans(p, now, key.history_queues)
    local new = { count = 0 }
    for at = 1, #depths, 2 do
      local queue, numbers = depths[at], depths[at + 1]
      w:add('HSET', minute.key, queue, numbers)
      -- Of queues that the hour has no room for, their samples in minutes remain.
      if field_for(hour, queue, new) == queue then
        w:add('HSET', hour.key, queue, highest(redis.call('HGET', hour.key, queue) or '', numbers))
      end
    end
    w:call('PEXPIRE', minute.key, int(minute.kept_ms))
    w:call('PEXPIRE', hour.key, int(hour.kept_ms))
  end
end
