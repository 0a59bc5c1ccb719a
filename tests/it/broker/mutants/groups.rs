//! Groups, their turns and their rules, and idempotency keys that are reserved.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    (
        "a job with a group waits in a lane",
        "  if waits_in_group(job) then\n    add_side_queue",
        "  if false then\n    add_side_queue",
    ),
    (
        "a queue with groups is not a side queue",
        "    add_side_queue(w, p, job.queue)\n    groups",
        "    groups",
    ),
    (
        "the feature of groups is not listed",
        "    use_feature(w, p, 'groups')\n    job.group",
        "    job.group",
    ),
    ("a job does not name its group", "    add('group', job.group)\n", ""),
    (
        "all jobs of a queue have the same number",
        "turns.submitted = turns.submitted + 1",
        "turns.submitted = 1",
    ),
    (
        "numbers are not written",
        "      w:later({ write = write_submitted, name = key.turns(p, queue), turns = turns })\n",
        "",
    ),
    (
        "a job of a group is not among those of all groups",
        "    w:add('ZADD', key.grouped(p, queue), '0', id)\n",
        "",
    ),
    ("priorities in a group do not matter", "return RANKS[job.priority or 'normal'] +", "return"),
    (
        "a group with jobs has no turn",
        "    if not w.entered[name] then give_turn(w, p, queue, group) end\n",
        "",
    ),
    (
        "a group that has a turn gets another",
        "    if redis.call('ZSCORE', key.runnable(p, queue), group) then return end\n    local turns",
        "    local turns",
    ),
    (
        "an idle group earns turns",
        "limits.text(math.max(turns.now + LATER, num(ended)))",
        "limits.text(num(ended))",
    ),
    (
        "a group gains by submitting one job at a time",
        "limits.text(math.max(turns.now + LATER, num(ended)))",
        "limits.text(turns.now + LATER)",
    ),
    (
        "a group with a turn is remembered as idle",
        "    if ended then w:add('ZREM', key.idle_groups(p, queue), group) end\n",
        "",
    ),
    (
        "a claimed job stays in its group",
        "    w:add('ZREM', key.grouped(p, queue), id)\n    w:add('ZREM', name, id)\n",
        "    w:add('ZREM', key.grouped(p, queue), id)\n",
    ),
    (
        "a claimed job stays among those of all groups",
        "    w:add('ZREM', key.grouped(p, queue), id)\n    w:add('ZREM', name, id)\n",
        "    w:add('ZREM', name, id)\n",
    ),
    (
        "a canceled job of a group becomes a ghost",
        "if job.status == 'queued' and waits_in_group(job) then",
        "if false then",
    ),
    (
        "a group whose last job was canceled keeps its turn",
        "    groups.remove(w, p, queue, key.group(p, queue, group_of(job)), id)\n    end_turn_later(w, p, queue, group_of(job))\n",
        "    groups.remove(w, p, queue, key.group(p, queue, group_of(job)), id)\n",
    ),
    (
        "a group loses its turn although it has jobs",
        "    if redis.call('EXISTS', key.group(p, queue, group)) == 1 then return end\n    local state",
        "    local state",
    ),
    (
        "what a group had is forgotten when its last job is canceled",
        "    if state ~= 'delayed_groups' then redis.call('ZADD', key.idle_groups(p, queue), score, group) end\n",
        "",
    ),
    (
        "sweeps do not forget groups without jobs",
        "swept.left - groups.tidy(w, p, queue, now)",
        "swept.left",
    ),
    (
        "sweeps forget what matters",
        "ZRANGEBYSCORE', name, '-inf', time, 'LIMIT', 0, most)",
        "ZRANGEBYSCORE', name, '-inf', '+inf', 'LIMIT', 0, most)",
    ),
    (
        "the virtual time ends while groups are remembered",
        "elseif redis.call('EXISTS', idle) == 0 then",
        "else w:call('HDEL', turns, 'now', 'plain') end if false then",
    ),
    (
        "the virtual time starts again although jobs wait",
        "if redis.call('EXISTS', key.grouped(p, queue)) == 1 then\n      forget",
        "if false then\n      forget",
    ),
    ("weights do not matter", "cost = 1 / (tonumber(weight) or 1),", "cost = 1,"),
    ("a turn costs nothing", "turn.start = turn.start + turn.rule.cost", "turn.start = turn.start"),
    (
        "the group that had a turn is the next again",
        "while at > 0 and turns[at].start > turn.start do",
        "while at > 0 do",
    ),
    ("a group gets its first job only", "turn.ids[turn.next] ~= nil or turn.more", "false"),
    (
        "jobs without a group have no turns",
        "if waiting > 0 then put_turn(turns, { left = waiting, start = plain_start }) end",
        "",
    ),
    (
        "jobs without a group earn turns while there are none",
        "math.max(time, plain_ended)",
        "plain_ended",
    ),
    (
        "turns of jobs without a group are not remembered",
        "plain_ended = plain_start + claim_reserved(",
        "claim_reserved(",
    ),
    (
        "turns that jobs without a group did not use are lost",
        "while batch.want > 0 and batch.looks > 0 and not batch.full do\n      if not round.turns[1] then",
        "while false do\n      if not round.turns[1] then",
    ),
    ("the virtual time stands still", "round.time = math.max(round.time, turn.start)", ""),
    (
        "the end of a turn is not written",
        "if turn.read > 0 then w:add('ZADD', key.runnable(p, queue), limits.text(turn.start), turn.group) end",
        "",
    ),
    (
        "a group without jobs keeps its turn",
        "  w:add('ZREM', key.runnable(p, queue), turn.group)\n",
        "",
    ),
    (
        "the last turn of a group without jobs is forgotten",
        "  w:add('ZADD', key.idle_groups(p, queue), begins, turn.group)\n",
        "",
    ),
    (
        "jobs of groups do not count towards the depth",
        " + redis.call('ZCARD', key.grouped(p, queue))\n  for",
        "\n  for",
    ),
    (
        "jobs of groups wake no worker",
        "local names = { key.runnable(p, queue) }\n  for at, lane in ipairs(LANES) do names[at + 1]",
        "local names = {}\n  for at, lane in ipairs(LANES) do names[at]",
    ),
    (
        "a purge leaves jobs of groups",
        "if call.looks > 0 then grouped = purge_set(",
        "if false then grouped = purge_set(",
    ),
    (
        "a purge that continues passes over jobs of groups",
        "      purge_one(w, p, id, job, now)\n      call.canceled = call.canceled + 1\n    else\n      skip",
        "      purge_one(w, p, id, job, now)\n      call.canceled = call.canceled + 1\n      skip = skip + 1\n    else\n      skip",
    ),
    (
        "a parked job of a group that is retried is looked for in its group",
        "    fields[#fields + 1], fields[#fields + 2] = 'waiting_for', job.waiting_for\n",
        "",
    ),
    (
        "a job that is revived stays where it ran alone",
        "if leaves then leave_solitary(w, p, id, job) end",
        "",
    ),
    (
        "a delayed job with a group is promoted to a lane",
        "'waiting_for', 'watched', 'group' }",
        "'waiting_for', 'watched' }",
    ),
    (
        "an audit overlooks a job that is missing from its group",
        "if is_waiting and not groups.is_at_its_place(p, job.queue, id, job) then",
        "if false then",
    ),
    (
        "an audit overlooks a job in a group that it is not of",
        "if met and not stays and groups.place(",
        "if false and groups.place(",
    ),
    (
        "an audit overlooks a group without a turn",
        "if not groups.is_placed(p, queue, group) then\n    report",
        "if false then\n    report",
    ),
    (
        "an audit takes a job that is in its group for lost",
        "then return count + 1, true, places, true end",
        "then return count, true, places, true end",
    ),
    (
        "a queue with weights is removed",
        "key.grouped(p, queue), key.rules(p, queue), key.idle_groups",
        "key.grouped(p, queue), key.idle_groups",
    ),
    (
        "a reserved key is not kept",
        "  w:call('SET', name, argv[2] .. ' ' .. argv[3], 'PX', argv[4])\n",
        "",
    ),
    ("a reserved key is anybody's", "if print ~= argv[3] then return { -1, id } end", ""),
    (
        "a key is reserved for the last request",
        "return { id == argv[2] and 1 or 3, id }",
        "return { 1, id }",
    ),
    ("the number of rules has no limit", "redis.call('HLEN', rules) >= RULES_MOST", "false"),
    (
        "a group's own rule does not matter",
        "texts[at + 1] or texts[1] or '- - - - -'",
        "texts[1] or '- - - - -'",
    ),
    (
        "the rule for each group does not matter",
        "texts[at + 1] or texts[1] or '- - - - -'",
        "texts[at + 1] or '- - - - -'",
    ),
    (
        "one more job of a group runs than may",
        "if turn.running >= rule.concurrency then return nil end",
        "if turn.running > rule.concurrency then return nil end",
    ),
    (
        "what a claim starts does not count",
        "    if turn.running then turn.running = turn.running + 1 end\n",
        "",
    ),
    (
        "a job that runs is not among those of its group that do",
        "    w:add('ZADD', key.grouped_running(p, queue), '0', turn.group .. ' ' .. id)\n    if turn",
        "    if turn",
    ),
    (
        "a burst is one start larger",
        "math.ceil(arrival - (rule.burst - 1) * rule.gap)",
        "math.ceil(arrival - rule.burst * rule.gap)",
    ),
    (
        "a pause earns more than a burst",
        "arrival = math.max(arrival, now) + count * rule.gap",
        "arrival = arrival + count * rule.gap",
    ),
    (
        "a start does not count for the rate",
        "    w:add('ZADD', rates, limits.text(arrival), name)\n",
        "",
    ),
    (
        "a job that ended still runs in its group",
        "    w:add('ZREM', key.grouped_running(p, queue), group .. ' ' .. id)\n    groups.unblock",
        "    groups.unblock",
    ),
    ("the end of a job gives its group no turn", "    ended[group] = true\n", ""),
    (
        "a blocked group starts earlier than the others",
        "limits.text(math.max(now, num(start))), names[at])",
        "'0', names[at])",
    ),
    (
        "a success does not end the run of a job in its group",
        "  if values[3] then groups.stop(w, p, group.queue, id, values[3]) end\n",
        "",
    ),
    (
        "an end does not end the run of a job in its group",
        "  if job.group then groups.stop(w, p, job.queue, id, job.group) end\nend",
        "end",
    ),
    (
        "a lost job still runs in its group",
        "  if job.group then groups.stop(w, p, queue, id, job.group) end\n",
        "",
    ),
    (
        "a group whose rate is spent is not delayed",
        "  w:add('ZADD', key.delayed_groups(p, queue), int(turn.at), turn.group)\n",
        "",
    ),
    ("no sweep comes for a rate", "  w:due(p, queue, turn.at)\n", ""),
    (
        "workers do not learn when a rate allows the next start",
        "return earlier(first_time({ key.delayed_groups(p, queue) }), limits",
        "return earlier(nil, limits",
    ),
    (
        "a group gets no turn once its rate allows it",
        "return #ids, groups.promote(w, p, queue, now, GROUPS_PROMOTED)",
        "return #ids, 0",
    ),
    (
        "a group that waited for its rate waits on",
        "      w:add('ZREM', key.delayed_groups(p, queue), group)\n",
        "",
    ),
    (
        "a full group keeps its turn",
        "if turn.has_jobs and not turn.at then return w:add(",
        "if false then return w:add(",
    ),
    (
        "a job in a lane ignores the rule of its group",
        "if turn and groups.may_start(w, p, now, queue, turn) ~= now then return nil end",
        "",
    ),
    (
        "a job in a lane does not count in its group",
        "    if turn then groups.start(w, p, now, queue, turn, id) end\n",
        "",
    ),
    (
        "any number of jobs of a group wait",
        "if group and not has_room(p, call, run.queue, group) then return { -5 } end",
        "",
    ),
    (
        "jobs of one call do not count for the room in a group",
        "  call.rooms[known] = room - 1\n",
        "  call.rooms[known] = room\n",
    ),
    ("a changed rule does not apply to groups that wait", "  try_again(w, p, queue, group)\n", ""),
    (
        "a changed rule wakes no worker",
        "  try_again(w, p, queue, group)\n  w:commit()\n  wake(w, p, { queue }, is_claimable)\n",
        "  try_again(w, p, queue, group)\n  w:commit()\n",
    ),
    (
        "sweeps do not look at groups that wait for the end of a job",
        "= check_waiting(w, p, queue, now, 'blocked_groups') +",
        "= 0 +",
    ),
    (
        "an audit overlooks a running job that is missing from its group",
        "if runs and not groups.runs(p, job.queue, id, job) then",
        "if false then",
    ),
    (
        "an audit overlooks a job that does not run in its group",
        "if met and not stays and groups.is_running(",
        "if false and groups.is_running(",
    ),
    (
        "an audit overlooks a group that waits in vain",
        "return count == 1 and not (state == 'blocked_groups' and free and not withheld)",
        "return count == 1",
    ),
    (
        "a group that waits gets a turn with its next job",
        "if turns.any_waits and groups.state(p, queue, group) then return end",
        "",
    ),
    (
        "what starts in a turn does not count for jobs in lanes in the same call",
        "    w.claiming[name] = turn\n",
        "",
    ),
    (
        "parked jobs that may not start wake workers",
        "if blocked and batch.claimed == before then batch.blocked_lanes[name] = true end",
        "",
    ),
    ("a job in a lane that may not start is lost", "        w:add('LPUSH', name, ids[at])\n", ""),
    (
        "a worker is reserved for a job that may not start",
        "has_solitary(p, queue) and may_start_solitary(w, p, now, queue)",
        "has_solitary(p, queue)",
    ),
    (
        "a call looks at any number of groups that may start nothing",
        "        batch.looks = batch.looks - 1\n      end\n      if continues",
        "      end\n      if continues",
    ),
    (
        "groups that come and go stop the time for others",
        "turns.now + LATER, num(ended)",
        "turns.now, num(ended)",
    ),
    (
        "a slower rate is kept after it was changed",
        "return math.min(stored, latest)",
        "return stored",
    ),
    (
        "claims do not forget what no longer matters",
        "  groups.forget(w, p, queue, now, time, #turns)\n",
        "",
    ),
    (
        "sweeps do not look at groups that wait for their rate",
        " + check_waiting(w, p, queue, now, 'delayed_groups')\n",
        "\n",
    ),
];
