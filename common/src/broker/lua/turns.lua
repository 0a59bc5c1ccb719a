-- claim(w, p, now, batch, queue): claim jobs of one queue for a worker; if it has groups, each group in its turn. Called inside
-- `exchange`; see claim.lua for `batch`, and groups.lua for the order of turns.
--
-- Uses: keys, core, limits, groups, lifecycle, claim
--
-- Jobs without a group take part as one group. How many of their turns come is decided first, and then that many are claimed,
-- because a lane is read once in a call.

local claim
do
  -- The turns that come next: those of `most` groups, after the first `skip`. Of each the virtual time at which it starts, and what
  -- was read of the group's jobs.
  local function read_turns(w, p, queue, skip, most)
    local found, names, turns = redis.call('ZRANGE', key.runnable(p, queue), skip, skip + most - 1, 'WITHSCORES'), {}, {}
    for at = 1, #found, 2 do names[#names + 1] = found[at] end
    local rules, solitary = names[1] and groups.rules(p, queue, names), nil
    for at, name in ipairs(names) do
      local turn = groups.turn_of(w, p, queue, name, rules[at])
      if turn.rule.limits and solitary == nil then solitary = groups.of_solitary(p, queue) or false end
      turn.withheld = turn.rule.limits and name == solitary
      turn.start, turn.ids, turn.next, turn.read, turn.more = tonumber(found[2 * at]), NONE, 1, 0, true
      turns[at] = turn
    end
    return turns
  end

  -- Puts a turn where it belongs in the order. Usually that is near the end.
  local function put_turn(turns, turn)
    local at = #turns
    while at > 0 and turns[at].start > turn.start do at = at - 1 end
    table.insert(turns, at + 1, turn)
  end

  -- Whether the group of a turn has another job. Reads as many as it may need, and one more, to know whether there are more.
  local function has_next(turn, width)
    if not turn.ids[turn.next] and turn.more then
      turn.ids = redis.call('ZRANGE', turn.name, turn.read, turn.read + width)
      turn.more = #turn.ids > width
      if turn.more then turn.ids[width + 1] = nil end
      turn.next, turn.read = 1, turn.read + #turn.ids
    end
    return turn.ids[turn.next] ~= nil or turn.more
  end

  -- Claims the next job of a group. Returns false if the batch has no room for it.
  local function give(w, p, now, batch, queue, turn, width)
    if not has_next(turn, width) then return true end
    local id, claimed = turn.ids[turn.next], batch.claimed
    if not try_claim(w, p, now, batch, queue, id) then return false end
    turn.next, batch.looks = turn.next + 1, batch.looks - 1
    groups.remove(w, p, queue, turn.name, id)
    if batch.claimed > claimed then
      turn.start = turn.start + turn.rule.cost
      groups.start(w, p, now, queue, turn, id)
    end
    return true
  end

  -- Whether another turn of the same jobs may come: they have a job, and may start it.
  local function continues(w, p, now, queue, turn, width)
    if turn.left then return turn.left > 0 end
    turn.has_jobs = has_next(turn, width)
    turn.at = turn.has_jobs and groups.may_start(w, p, now, queue, turn)
    if turn.withheld and turn.at == now then turn.at = nil end
    return turn.at == now
  end

  -- Gives turns until the batch has what it wants, counting those of jobs without a group.
  local function give_turns(w, p, now, batch, queue, round)
    local turns, width = round.turns, math.ceil(batch.want / #round.turns)
    while turns[1] and batch.want > round.plain and batch.looks > 0 and not batch.full do
      local turn = table.remove(turns, 1)
      if turn.left then
        round.plain, turn.left = round.plain + 1, turn.left - 1
        round.time, turn.start = math.max(round.time, turn.start), turn.start + 1
      elseif not turn.rule.limits or continues(w, p, now, queue, turn, width) then
        round.time = math.max(round.time, turn.start)
        batch.full = not give(w, p, now, batch, queue, turn, width)
      else
        -- There may be very many groups that may start nothing since their rule changed: each is a look too.
        batch.looks = batch.looks - 1
      end
      if continues(w, p, now, queue, turn, width) then put_turn(turns, turn) else round.ended[#round.ended + 1] = turn end
    end
  end

  -- Claims the jobs without a group whose turns came. Returns how many it claimed.
  local function claim_reserved(w, p, now, batch, queue, lanes, most)
    local others = batch.want - most
    batch.want = most
    claim_lanes(w, p, now, batch, queue, lanes)
    local claimed = most - batch.want
    batch.want = batch.want + others
    return claimed
  end

  -- Writes that a group has no turn: it has no more jobs, or waits for its rate, or until one of its jobs ends.
  local function put_aside(w, p, queue, turn)
    local begins = limits.text(turn.start)
    w:add('ZREM', key.runnable(p, queue), turn.group)
    if turn.has_jobs and not turn.at then return w:add('ZADD', key.blocked_groups(p, queue), begins, turn.group) end
    w:add('ZADD', key.idle_groups(p, queue), begins, turn.group)
    if not turn.has_jobs then return end
    w:add('ZADD', key.delayed_groups(p, queue), int(turn.at), turn.group)
    w:due(p, queue, turn.at)
  end

  -- Writes when the next turns start, and which groups have none.
  local function write_turns(w, p, queue, round, plain_ended)
    for _, turn in ipairs(round.turns) do
      if turn.read > 0 then w:add('ZADD', key.runnable(p, queue), limits.text(turn.start), turn.group) end
    end
    for _, turn in ipairs(round.ended) do put_aside(w, p, queue, turn) end
    w:call('HSET', key.turns(p, queue), 'now', limits.text(round.time), 'plain', limits.text(plain_ended))
  end

  -- Drops the turn of jobs without a group, which are claimed by now.
  local function without_plain(turns)
    local others = {}
    for _, turn in ipairs(turns) do
      if not turn.left then others[#others + 1] = turn end
    end
    return others
  end

  local function claim_turns(w, p, now, batch, queue, turns, lanes)
    local time, plain_ended = groups.times(w, p, queue)
    groups.forget(w, p, queue, now, time, #turns)
    local round, skip = { turns = turns, ended = {}, time = time, plain = 0 }, #turns
    local waiting, plain_start = count_in(p, queue, lanes), math.max(time, plain_ended)
    if waiting > 0 then put_turn(turns, { left = waiting, start = plain_start }) end
    give_turns(w, p, now, batch, queue, round)
    if round.plain > 0 then
      plain_ended = plain_start + claim_reserved(w, p, now, batch, queue, lanes, round.plain)
    end
    round.turns, round.ended, round.plain = without_plain(round.turns), without_plain(round.ended), 0
    while batch.want > 0 and batch.looks > 0 and not batch.full do
      if not round.turns[1] then
        round.turns = read_turns(w, p, queue, skip, batch.want)
        skip = skip + #round.turns
      end
      if not round.turns[1] then break end
      give_turns(w, p, now, batch, queue, round)
    end
    write_turns(w, p, queue, round, plain_ended)
  end

  local function claim_side(w, p, now, batch, queue)
    local lanes, turns = claimable_lanes(p, batch, queue), read_turns(w, p, queue, 0, batch.want)
    if turns[1] then return claim_turns(w, p, now, batch, queue, turns, lanes) end
    claim_lanes(w, p, now, batch, queue, lanes)
  end

  function claim(w, p, now, batch, queue)
    if not batch.side_queues[queue] then return claim_lane(w, p, now, batch, queue, NORMAL, batch.want) end
    local most = math.min(limits.room(w, p, now, queue), batch.want)
    if most <= 0 then return end
    local others, claimed = batch.want - most, batch.claimed
    batch.want = most
    claim_side(w, p, now, batch, queue)
    batch.want = batch.want + others
    limits.start(w, p, now, queue, batch.claimed - claimed)
  end
end
