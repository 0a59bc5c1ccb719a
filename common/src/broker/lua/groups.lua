-- Groups: a job may name a group, and the groups of a queue take turns, so that one with many jobs delays no other. Rules limit
-- how many jobs of a group run, start in a time, and wait.
--
-- Uses: keys, core, limits
--
-- A group is the digest of its name. Its waiting jobs are in the sorted set `group:<group>`: the highest priority first, then in
-- the order of their submission, in which they were numbered. The job's field `group` has the digest and the number, so a job
-- that becomes ready again keeps its place. All of them are also in `grouped`, for counts, limits and lists, which therefore need
-- not know the groups. A job that leaves is removed from both: there are no ghosts. `grouped_running` has those that run, as
-- `<group> <id>`, sorted by that text: so the jobs of one group that run can be counted.
--
-- A group with waiting jobs is in one of three sets: in `runnable`, with the virtual time at which its next turn starts; in
-- `delayed_groups`, until its rate allows another start; or in `blocked_groups`, until one of its jobs ends. Nothing looks at
-- the last two in vain: a claim puts a group there, and the end of a job or the time takes it out.
--
-- Turns are given by start-time fair queueing (P. Goyal, H. Vin, H. Cheng, SIGCOMM 1996). The earliest start is next, and a turn
-- takes 1/weight. The virtual time of the queue, `now` in the hash `turns`, is the start of the last turn given. A group that
-- had no jobs starts a quarter later than that: it earns nothing while it is idle, and groups that come and go, however many,
-- do not stop the time for the others; and no earlier than its last turn ended, which `idle_groups` remembers: it gains nothing
-- by submitting one job at a time. Jobs without a group are one more group, which is in
-- no set, so that submitting them costs nothing; `turns` has the end of its last turn in `plain`, and in `submitted` how many
-- jobs were numbered.

local groups = {}
do
  -- What is added to a job's number for its score in its group. Numbers stay below, and sums below 2^53.
  local RANKS = { urgent = 0, high = 2 ^ 50, normal = 2 ^ 51, low = 3 * 2 ^ 50 }

  -- The sets in one of which a group with waiting jobs is.
  local STATES = { 'runnable', 'delayed_groups', 'blocked_groups' }

  local function group_of(job) return string.match(job.group, '^%x+') end

  -- How many jobs of a group run. A blank sorts before '!', and both before what a group consists of.
  local function count_running(p, queue, group)
    return redis.call('ZLEXCOUNT', key.grouped_running(p, queue), '[' .. group .. ' ', '(' .. group .. '!')
  end

  -- The rules of groups, in their order: their own, or that for each group.
  function groups.rules(p, queue, names)
    local rules, texts = {}, redis.call('HMGET', key.rules(p, queue), 'each', unpack(names))
    for at = 1, #names do rules[at] = limits.rule_of(texts[at + 1] or texts[1] or '- - - - -') end
    return rules
  end

  -- What a step needs to know of a queue's turns, read once: its times, and whether any group waits for its rate or the end of a
  -- job, and whether the end of any turn is remembered.
  local function read_turns(w, p, queue)
    if w.turns == NONE then w.turns = {} end
    local turns = w.turns[queue]
    if not turns then
      local values = redis.call('HMGET', key.turns(p, queue), 'now', 'plain', 'submitted')
      turns = { now = num(values[1]), plain = num(values[2]), submitted = num(values[3]),
        any_waits = redis.call('EXISTS', key.delayed_groups(p, queue), key.blocked_groups(p, queue)) > 0,
        any_idle = redis.call('EXISTS', key.idle_groups(p, queue)) == 1 }
      w.turns[queue] = turns
    end
    return turns
  end

  -- The virtual time of the queue, and the end of the last turn of jobs without a group. Read once in a step.
  function groups.times(w, p, queue)
    local turns = read_turns(w, p, queue)
    return turns.now, turns.plain
  end

  local function write_submitted(_, write) redis.call('HSET', write.name, 'submitted', int(write.turns.submitted)) end

  -- What the field `group` of a new job contains.
  function groups.numbered(w, p, queue, group)
    local turns = read_turns(w, p, queue)
    if not turns.counts then
      turns.counts = true
      w:later({ write = write_submitted, name = key.turns(p, queue), turns = turns })
    end
    turns.submitted = turns.submitted + 1
    return group .. ' ' .. int(turns.submitted)
  end

  -- When a group may start a job: now or later, or nil if one of its jobs must end first. `turn` has the group and its rule, and
  -- keeps what is read.
  function groups.may_start(w, p, now, queue, turn)
    local rule = turn.rule
    if rule.concurrency then
      turn.running = turn.running or count_running(p, queue, turn.group)
      if turn.running >= rule.concurrency then return nil end
    end
    if not rule.gap then return now end
    turn.arrival = turn.arrival or limits.arrival(w, now, key.rates(p, queue), rule, turn.group)
    return limits.next_start(now, rule, turn.arrival)
  end

  -- Records that a job of the group starts.
  function groups.start(w, p, now, queue, turn, id)
    w:add('ZADD', key.grouped_running(p, queue), '0', turn.group .. ' ' .. id)
    if turn.running then turn.running = turn.running + 1 end
    if turn.arrival then turn.arrival = limits.arrive(w, now, key.rates(p, queue), turn.rule, turn.group, turn.arrival, 1) end
  end

  -- What a step knows of a group from which it claims: one table for its turns and for its jobs in lanes, so that what starts counts
  -- for both before it is written.
  function groups.turn_of(w, p, queue, group, rule)
    if w.claiming == NONE then w.claiming = {} end
    local name = key.group(p, queue, group)
    local turn = w.claiming[name]
      or { group = group, name = name, rule = rule or groups.rules(p, queue, { group })[1] }
    w.claiming[name] = turn
    return turn
  end

  -- That of a job that waits in a lane although it has a group; nil if its group cannot be read.
  function groups.turn_of_job(w, p, queue, job)
    local group = group_of(job)
    return group and groups.turn_of(w, p, queue, group)
  end

  -- The group of the next job of a queue that must run alone, if it has one. While its rule forbids that job, others of the group
  -- take no turns: they would keep it waiting for ever.
  function groups.of_solitary(p, queue)
    local id = redis.call('LINDEX', key.ready(p, queue, 'solitary'), -1)
    local is_waiting = id and redis.call('SISMEMBER', key.ghosts(p, queue), id) == 0
    local group = is_waiting and redis.call('HGET', key.job(p, id), 'group')
    return group and group_of({ group = group })
  end

  -- In which of the sets a group is, and its score there; or nil.
  function groups.state(p, queue, group)
    for _, state in ipairs(STATES) do
      local score = redis.call('ZSCORE', key[state](p, queue), group)
      if score then return state, score end
    end
  end

  -- How much later than the last turn given a group starts that had no jobs.
  local LATER = 0.25

  -- Gives a group that is in no set a turn.
  local function give_turn(w, p, queue, group)
    if redis.call('ZSCORE', key.runnable(p, queue), group) then return end
    local turns = read_turns(w, p, queue)
    if turns.any_waits and groups.state(p, queue, group) then return end
    local ended = turns.any_idle and redis.call('ZSCORE', key.idle_groups(p, queue), group)
    w:add('ZADD', key.runnable(p, queue), limits.text(math.max(turns.now + LATER, num(ended))), group)
    if ended then w:add('ZREM', key.idle_groups(p, queue), group) end
  end

  -- Where an id is in a group.
  function groups.place(p, queue, group, id) return tonumber(redis.call('ZSCORE', key.group(p, queue, group), id) or nil) end

  -- Where a job belongs in its group.
  local function place_of(job) return RANKS[job.priority or 'normal'] + num(string.match(job.group, ' (%d+)$')) end

  -- Adds a waiting job to its group.
  function groups.enter(w, p, queue, id, job)
    local group = group_of(job)
    local name = key.group(p, queue, group)
    w:add('ZADD', key.grouped(p, queue), '0', id)
    w:add('ZADD', name, int(place_of(job)), id)
    if w.entered == NONE then w.entered = {} end
    if not w.entered[name] then give_turn(w, p, queue, group) end
    w.entered[name] = true
  end

  function groups.is_at_its_place(p, queue, id, job)
    return groups.place(p, queue, group_of(job), id) == place_of(job)
  end

  -- Whether a job is of that group.
  function groups.is_of(job, group) return group_of(job) == group end

  -- Removes an id that waits no longer from its group, whose key has that name.
  function groups.remove(w, p, queue, name, id)
    w:add('ZREM', key.grouped(p, queue), id)
    w:add('ZREM', name, id)
  end

  -- Takes its turn from a group whose last job left; called when everything is written.
  local function end_turn(p, queue, group)
    if redis.call('EXISTS', key.group(p, queue, group)) == 1 then return end
    local state, score = groups.state(p, queue, group)
    if not state then return end
    redis.call('ZREM', key[state](p, queue), group)
    if state ~= 'delayed_groups' then redis.call('ZADD', key.idle_groups(p, queue), score, group) end
  end

  local function end_turn_later(w, p, queue, group)
    if w.left == NONE then w.left = {} end
    w.left[key.group(p, queue, group)] = function() end_turn(p, queue, group) end
  end

  -- Gives groups turns that waited for the end of a job; called when everything is written.
  local function unblock(p, queue, ended)
    local blocked = key.blocked_groups(p, queue)
    if redis.call('EXISTS', blocked) == 0 then return end
    local names, now = {}, num(redis.call('HGET', key.turns(p, queue), 'now'))
    for group in pairs(ended) do names[#names + 1] = group end
    for at, start in ipairs(redis.call('ZMSCORE', blocked, unpack(names))) do
      if start then
        redis.call('ZREM', blocked, names[at])
        redis.call('ZADD', key.runnable(p, queue), limits.text(math.max(now, num(start))), names[at])
      end
    end
  end

  -- Removes a waiting job that will not run from its group.
  function groups.leave(w, p, queue, id, job)
    groups.remove(w, p, queue, key.group(p, queue, group_of(job)), id)
    end_turn_later(w, p, queue, group_of(job))
  end

  -- Lets a group try again of which a job no longer runs, or no longer waits to run alone.
  function groups.unblock_later(w, p, queue, group)
    if w.unblocked == NONE then w.unblocked = {} end
    local ended = w.unblocked[queue]
    if not ended then
      ended = {}
      w.unblocked[queue] = ended
      if w.left == NONE then w.left = {} end
      w.left[queue] = function() unblock(p, queue, ended) end
    end
    ended[group] = true
  end

  -- Removes a job whose attempt ended from those of its group that run. `text` begins with the group.
  function groups.stop(w, p, queue, id, text)
    local group = string.match(text, '^%x+')
    if not group then return end
    w:add('ZREM', key.grouped_running(p, queue), group .. ' ' .. id)
    groups.unblock_later(w, p, queue, group)
  end

  function groups.is_running(p, queue, id, group)
    return redis.call('ZSCORE', key.grouped_running(p, queue), group .. ' ' .. id) ~= false
  end

  -- Adds a job that runs to those of its group.
  function groups.restart(w, p, queue, id, job)
    w:add('ZADD', key.grouped_running(p, queue), '0', group_of(job) .. ' ' .. id)
  end

  function groups.runs(p, queue, id, job) return groups.is_running(p, queue, id, group_of(job)) end

  -- Removes an id from a group in which it does not belong.
  function groups.expel(w, p, queue, id, group)
    w:add('ZREM', key.group(p, queue, group), id)
    end_turn_later(w, p, queue, group)
  end

  -- Gives groups that wait for their rate turns once their time has come; the first `most`. Returns how many.
  function groups.promote(w, p, queue, now, most)
    local due = redis.call('ZRANGEBYSCORE', key.delayed_groups(p, queue), '-inf', int(now), 'LIMIT', 0, most)
    for _, group in ipairs(due) do
      local ended = redis.call('ZSCORE', key.idle_groups(p, queue), group)
      w:add('ZREM', key.delayed_groups(p, queue), group)
      w:add('ZREM', key.idle_groups(p, queue), group)
      local start = math.max(groups.times(w, p, queue), num(ended))
      w:add('ZADD', key.runnable(p, queue), limits.text(start), group)
    end
    return #due
  end

  -- Whether a group has its state if it has jobs, and none if it has none; and is not blocked although it may start a job.
  function groups.is_placed(p, queue, group)
    local state = groups.state(p, queue, group)
    if redis.call('EXISTS', key.group(p, queue, group)) == 0 then return not state end
    local count = 0
    for _, name in ipairs(STATES) do
      if redis.call('ZSCORE', key[name](p, queue), group) then count = count + 1 end
    end
    local turn = { group = group, rule = groups.rules(p, queue, { group })[1] }
    local rule = turn.rule
    local free = not rule.concurrency or count_running(p, queue, group) < rule.concurrency
    local withheld = rule.limits and groups.of_solitary(p, queue) == group
    return count == 1 and not (state == 'blocked_groups' and free and not withheld)
  end

  -- Gives a group a turn if it has jobs, else takes it. The next claim finds out whether it may start one.
  function groups.reset(w, p, queue, group)
    local has_jobs = redis.call('EXISTS', key.group(p, queue, group)) == 1
    for _, state in ipairs(STATES) do
      if not (has_jobs and state == 'runnable') then w:call('ZREM', key[state](p, queue), group) end
    end
    if has_jobs and not redis.call('ZSCORE', key.runnable(p, queue), group) then
      local start = math.max(groups.times(w, p, queue), num(redis.call('ZSCORE', key.idle_groups(p, queue), group)))
      w:call('ZADD', key.runnable(p, queue), limits.text(start), group)
    end
    if has_jobs then w:call('ZREM', key.idle_groups(p, queue), group) end
  end

  -- How many entries one visit forgets.
  local FORGOTTEN = 100

  local function forget_passed(w, name, time, most)
    local passed = redis.call('ZRANGEBYSCORE', name, '-inf', time, 'LIMIT', 0, most)
    if passed[1] then w:call('ZREM', name, unpack(passed)) end
  end

  -- Forgets two entries that no longer matter for each that a claim may add, before it adds any: so they do not become more and
  -- more.
  function groups.forget(w, p, queue, now, time, turns)
    forget_passed(w, key.idle_groups(p, queue), limits.text(time), 2 * turns)
    forget_passed(w, key.rates(p, queue), int(now), 2 * turns)
  end

  -- Looks at some of the groups that wait, others in each visit: their rule may have changed. A group that may start a job gets a
  -- turn, and so does one that waits for its rate: the next claim finds out.
  local CHECKED = 8
  local function check_waiting(w, p, queue, now, state)
    local name = key[state](p, queue)
    local count = redis.call('ZCARD', name)
    if count == 0 then return 0 end
    local first = math.floor(now / 10000) * CHECKED % count
    for _, group in ipairs(redis.call('ZRANGE', name, first, first + CHECKED - 1)) do
      if state == 'delayed_groups' or not groups.is_placed(p, queue, group) then groups.reset(w, p, queue, group) end
    end
    return math.min(count, CHECKED)
  end

  -- Forgets what no longer matters: rates that are unused; ends of turns before the queue's virtual time; all of them if no job of a
  -- group waits, and then the virtual time too. Returns at how many groups it looked.
  function groups.tidy(w, p, queue, now)
    local idle, turns = key.idle_groups(p, queue), key.turns(p, queue)
    if redis.call('EXISTS', turns, idle, key.rates(p, queue)) == 0 then return 0 end
    forget_passed(w, key.rates(p, queue), int(now), FORGOTTEN)
    local looks = check_waiting(w, p, queue, now, 'blocked_groups') + check_waiting(w, p, queue, now, 'delayed_groups')
    if redis.call('EXISTS', key.grouped(p, queue)) == 1 then
      forget_passed(w, idle, limits.text((groups.times(w, p, queue))), FORGOTTEN)
    elseif redis.call('EXISTS', idle) == 0 then
      w:call('HDEL', turns, 'now', 'plain')
    else
      w:call('ZREMRANGEBYRANK', idle, 0, FORGOTTEN - 1)
    end
    return looks
  end
end
