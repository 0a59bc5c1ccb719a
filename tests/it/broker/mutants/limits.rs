//! Limits of queues, and that all their jobs are in one partition.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    (
        "the limit of a queue does not count what runs",
        "room.left = rule.concurrency - count_running(p, limit) end",
        "room.left = rule.concurrency end",
    ),
    (
        "a queue may start one job more than its limit",
        "if most <= 0 then return end",
        "if most < 0 then return end\n    most = most + 1",
    ),
    (
        "the limit of a queue has no rate",
        "room.left = math.min(room.left, math.floor(rule.burst -",
        "room.left = math.min(room.left, math.floor(1e9 -",
    ),
    (
        "the burst of a queue is one start smaller",
        "math.floor(rule.burst - math.max",
        "math.floor(rule.burst - 1 - math.max",
    ),
    (
        "starts do not count towards the rate of a queue",
        "    limits.start(w, p, now, queue, batch.claimed - claimed)\n",
        "",
    ),
    (
        "a job that runs alone does not count towards the rate of its queue",
        "  limits.start(w, p, now, queue, 1)\n",
        "",
    ),
    (
        "a job that runs alone evades the limit of its queue",
        "  if limits.room(w, p, now, queue) <= 0 then return end\n",
        "",
    ),
    (
        "a worker is reserved for a job that the limit of its queue forbids",
        "return id and limits.room(w, p, now, queue) > 0 and (not turn",
        "return id and (not turn",
    ),
    (
        "no sweep visits a queue when its rate allows the next start",
        "        for _, other in ipairs(limit.queues) do w:due(p, other, limits.next_start(now, limit.rule, room.arrival)) end\n",
        "",
    ),
    (
        "a sweep does not list when a rate allows the next start",
        "  local first = earlier(first_due(p, queue), limits.waits_until(w, p, now, queue))\n",
        "  local first = first_due(p, queue)\n",
    ),
    (
        "workers are woken for a queue whose limit is reached",
        "not is_paused(p, queue)\n    and limits.may_start(nil, p, queue)",
        "not is_paused(p, queue)",
    ),
    (
        "an exchange wakes others for a queue whose limit is reached",
        "has_parked_for(p, call, queue)) and limits.may_start(w, p, queue)",
        "has_parked_for(p, call, queue))",
    ),
    (
        "nobody learns when the rate of a queue allows the next start",
        "return earlier(first_time({ key.delayed_groups(p, queue) }), limits.waits_until(w, p, now, queue))",
        "return first_time({ key.delayed_groups(p, queue) })",
    ),
    (
        "every worker comes when a rate allows the next start",
        "if worker and not is_own and num(time) <= next_time and now <= num(time) + LATE_MS then return false end",
        "",
    ),
    (
        "a worker without slots does not pass on that it was to come",
        "        w:call('HDEL', key.turns(p, queue), 'timekeeper')\n        wake(w, p, { queue })\n",
        "",
    ),
    (
        "a worker that is late is not replaced",
        "and now <= num(time) + LATE_MS then return false",
        "then return false",
    ),
    (
        "a queue with a limit leaves the side queues",
        "local is = has_side(p, { queue }) or limits.has_limit(p, queue) or",
        "local is = has_side(p, { queue }) or",
    ),
    (
        "a confined queue leaves the side queues",
        "or limits.has_limit(p, queue) or limits.home_elsewhere(p, queue) ~= nil",
        "or limits.has_limit(p, queue)",
    ),
    (
        "a queue with a new limit is not a side queue",
        "'queue', rule)\n  add_side_queue(w, p, queue)\n",
        "'queue', rule)\n",
    ),
    (
        "a raised limit wakes nobody",
        "  wake(w, p, queues, is_claimable)\n  w:commit()\n  return tonumber(version)",
        "  return tonumber(version)",
    ),
    (
        "an older change of a limit is made",
        "if version ~= '' and redis.call('HGET', key.rules(p, queue), 'version') ~= version then return -1 end",
        "",
    ),
    ("an older change confines a queue", "  if num(known) > num(version) then return -1 end\n", ""),
    (
        "a confined queue accepts jobs elsewhere",
        "  if queue.home then return { -6, queue.home } end\n",
        "",
    ),
    (
        "jobs that wait elsewhere are not counted",
        "    + redis.call('ZCARD', key.running(p, queue)) - redis.call('SCARD', key.ghosts(p, queue))\n",
        "    + redis.call('ZCARD', key.running(p, queue))\n",
    ),
    (
        "a job elsewhere can be retried",
        "  if limits.home_elsewhere(p, job.queue) then return -1 end\n",
        "",
    ),
    (
        "jobs elsewhere can be redriven",
        "  if limits.home_elsewhere(p, queue) then return { -2, 0, 0, since } end\n",
        "",
    ),
    (
        "a queue keeps its limit",
        "if rule == '' then return w:call('HDEL', key.rules(p, queue), 'queue', 'version') end",
        "if rule == '' then return end",
    ),
    (
        "a reserved key keeps the name of a job that never was",
        "    if id ~= argv[5] then return { id == argv[2] and 1 or 3, id } end\n",
        "    return { id == argv[2] and 1 or 3, id }\n",
    ),
    (
        "a key that is reserved for a job answers its submission",
        "  return known ~= id and { 3, known } or nil\n",
        "  return { 3, known }\n",
    ),
    (
        "jobs of a group do not wait for one that must run alone",
        "    if turn.withheld and turn.at == now then turn.at = nil end\n",
        "",
    ),
    (
        "a group waits for a job that must run alone and was canceled",
        "    if group then groups.unblock_later(w, p, job.queue, group) end\n",
        "",
    ),
    (
        "a group waits for a job that must run alone and started",
        "    if turn and lane == SOLITARY then groups.unblock_later(w, p, queue, turn.group) end\n",
        "",
    ),
    (
        "a shared limit counts only what runs in the queue itself",
        "for _, queue in ipairs(limit.queues) do count = count + redis",
        "for _, queue in ipairs({ limit.queues[1] }) do count = count + redis",
    ),
    (
        "what one queue starts does not count for the next one in the same call",
        "      room.left = room.left - count\n",
        "",
    ),
    (
        "each queue reads a shared limit anew",
        "    if w and w.shared[name] then return w.shared[name] end\n",
        "",
    ),
    (
        "shared limits do not apply",
        "for _, name in ipairs(text and limits.names_of(text) or NONE) do found[#found + 1] = read_shared(w, p, name) end",
        "",
    ),
    (
        "only the first limit of a queue applies",
        "do left = math.min(left, room_of(w, p, now, limit).left) end",
        "do return room_of(w, p, now, limit).left end",
    ),
    (
        "only the queue that started a job is visited when a shared rate allows the next start",
        "for _, other in ipairs(limit.queues) do w:due(p, other,",
        "for _, other in ipairs({ queue }) do w:due(p, other,",
    ),
    (
        "a job that ends elsewhere wakes no workers of queues that share its limit",
        "      for _, sibling in ipairs(limits.siblings(p, queue)) do found[sibling] = true end\n",
        "",
    ),
    (
        "a job that ends in a queue of the call wakes no workers of queues that share its limit",
        "    if not is_open[queue] or call.side_queues[queue] then\n",
        "    if not is_open[queue] then\n",
    ),
    (
        "a lost job wakes no workers of queues that share its limit",
        "wake(w, p, { queue, unpack(has_taken_back and limits.siblings(p, queue) or NONE) }, is_claimable)",
        "wake(w, p, { queue }, is_claimable)",
    ),
    (
        "a raised shared limit wakes nobody",
        "  wake(w, p, queues, is_claimable)\n  w:commit()\n  return { 1, unpack(queues) }",
        "  return { 1, unpack(queues) }",
    ),
    (
        "a queue stays in a shared limit that it left",
        "if text then changed[name] = limits.with_names(text, with(limits.names_of(text), queue)) end",
        "",
    ),
    (
        "a queue shares a limit that does not exist",
        "    if not text then return nil, -2 end\n",
        "    if not text then text = '1 - - - - ' end\n",
    ),
    (
        "any number of queues share a limit",
        "    if #queues > SHARING_MOST then return nil, -3 end\n",
        "",
    ),
    (
        "any number of limits are shared",
        "  if not text and redis.call('HLEN', key.limits(p)) >= SHARED_MOST then return { -1 } end\n",
        "",
    ),
    (
        "a shared limit that is changed loses its queues",
        "w:call('HSET', key.limits(p), name, limits.with_names(rule, queues))",
        "w:call('HSET', key.limits(p), name, rule)",
    ),
    (
        "queues keep the name of a limit that was removed",
        "      if own then w:call('HSET', key.rules(p, queue), 'queue', limits.with_names(own, with(limits.names_of(own), name))) end\n",
        "",
    ),
];
