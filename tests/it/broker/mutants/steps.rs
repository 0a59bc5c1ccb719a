//! Submitting, claiming, settling, promoting, canceling, losses, reports, and what is kept of ended jobs.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    (
        "settling does not check the epoch",
        "  if not holds(job, epoch, call.worker) then return was_settled(job, epoch) and 2 or -1 end\n",
        "  if was_settled(job, epoch) then return 2 end\n",
    ),
    (
        "the fast path of settling does not check the worker",
        "not holds(job, job and job.epoch, worker) then return false end",
        "not (job and job.status == 'running') then return false end",
    ),
    (
        "the fast path of claims ignores optional fields",
        "state and spec and payload and has_none(optional, CLAIMED_OPTIONAL)",
        "state and spec and payload",
    ),
    (
        "the fast path of promotions ignores optional fields",
        "if not (state and has_none(optional, PROMOTED_OPTIONAL)) then return nil end",
        "if not state then return nil end",
    ),
    ("a group without jobs is written", "elseif one.count ~= 0 then", "else"),
    (
        "optional fields are not listed",
        "optional and optional .. ' ' .. name or name end",
        "optional end",
    ),
    (
        "only one optional field is listed",
        "optional and optional .. ' ' .. name or name end",
        "optional or name end",
    ),
    (
        "the fast path of settling ignores optional fields",
        "if #result > INLINE_RESULT_BYTES or not (state and has_none(optional, COMPLETED_OPTIONAL)) then return nil end",
        "if not state then return nil end",
    ),
    (
        "settling is not idempotent",
        "return was_settled(job, epoch) and 2 or -1 end",
        "return -1 end",
    ),
    (
        "settling does not remove the lease",
        "  leave_running(w, p, id, job)\n  settle[outcome]",
        "settle[outcome]",
    ),
    (
        "losses are never counted",
        "job[count] = int(num(job[count]) + 1)",
        "job[count] = int(num(job[count]))",
    ),
    ("a lost reply counts as a loss", "return alive and lease_end", "return false and lease_end"),
    (
        "a job that kills its workers never fails",
        "SOLITARY_LOSSES, MAX_LOSSES = 2, 5",
        "SOLITARY_LOSSES, MAX_LOSSES = 2, 99",
    ),
    (
        "a job that kills its workers never runs alone",
        "SOLITARY_LOSSES, MAX_LOSSES = 2, 5",
        "SOLITARY_LOSSES, MAX_LOSSES = 99, 5",
    ),
    ("a sweep leaves the lease that it reclaimed", "w:add('ZREM', key.running(p, queue), id)", ""),
    ("a sweep ignores the grace period", "if now < guard.grace_until then return end", ""),
    (
        "enqueue is not idempotent",
        "if call.seen[id] or (call.any_known and is_known(name, extras)) then return { 2, id } end",
        "",
    ),
    (
        "a job that is submitted alone may be known, or its queue have other lanes",
        "if call('EXISTS', key.side_queues(p), name) ~= 0 then",
        "if false then",
    ),
    (
        "a job that is submitted alone is not counted beside those in other lanes",
        "if call('EXISTS', name) == 1 or call('SISMEMBER', key.side_queues(p), queue) == 1 then",
        "if call('EXISTS', name) == 1 then",
    ),
    (
        "a call promotes fewer jobs than a worker wants",
        "PROMOTE_LEAST, CLAIM_LOOKS = 100, 32, 100",
        "PROMOTE_LEAST, CLAIM_LOOKS = 100, 20, 100",
    ),
    (
        "a job that is submitted alone does not list its queue",
        "if not is_recent(now, call('ZSCORE', key.queues(p), queue)) then return nil end",
        "",
    ),
    (
        "a nearly full Redis accepts a job that is submitted alone",
        "if num(call('HGET', key.sweep(p), 'memory')) >= num(argv[1]) then return nil end",
        "",
    ),
    (
        "a full queue accepts a job that is submitted alone",
        "if waiting >= num(argv[2]) then return nil end",
        "",
    ),
    (
        "a job that is submitted alone wakes no worker",
        "if needs_token then call('LPUSH', key.wake(p, queue), '1') end",
        "",
    ),
    (
        "a call of several jobs is taken for one job",
        "if argv[10] or argv[6] ~= '0' then return nil end",
        "if argv[6] ~= '0' then return nil end",
    ),
    (
        "a payload that was stored before makes a job known",
        "if not extras or not extras.prestored then return redis",
        "if true then return redis",
    ),
    (
        "a payload of a refused job is not deleted",
        "if extras and extras.prestored and not redis",
        "if false and not redis",
    ),
    (
        "idempotency ignores the request",
        "  if print ~= extras.fingerprint then return { -1, known } end\n",
        "",
    ),
    (
        "the number of an exchange is ignored",
        "if num(last[1]) == call.number then",
        "if false then",
    ),
    (
        "epochs may repeat",
        "job.epoch = int(math.max(num(job.epoch) + 1, now))",
        "job.epoch = int(now)",
    ),
    (
        "a heartbeat extends the lease of any worker",
        "if not holds(job, epoch, worker) then return -1 end\n  w:add('ZADD'",
        "if not job then return -1 end\n  w:add('ZADD'",
    ),
    (
        "a report is accepted without a lease",
        "if not holds(job, epoch, worker) then return -1 end\n  local full",
        "if not job then return -1 end\n  local full",
    ),
    ("repeated lines are written again", "if number > known then lines", "if true then lines"),
    (
        "repeated progress is a change",
        "local is_new = num(number) > known",
        "local is_new = num(number) > 0",
    ),
    (
        "lines of another attempt are taken for repeats",
        "if attempt ~= epoch then return 0, 0 end",
        "",
    ),
    (
        "missing lines are not counted",
        "if missing > 0 then\n    table.insert",
        "if false then\n    table.insert",
    ),
    (
        "a nearly full Redis takes logs",
        "local full = memory(w, p).used >= MEMORY_ALL_BUT_FULL\n  if full and",
        "local full = false\n  if full and",
    ),
    ("a cancel makes no ghost", "w:add('SADD', key.ghosts(p, job.queue), id)", ""),
    (
        "a claim takes canceled jobs",
        "if unreadable or not job or job.status ~= 'queued' then",
        "if unreadable or not job then",
    ),
    (
        "a claim leaves the id in the ready list",
        "if looked > 0 then w:call('RPOP', name, looked) end",
        "",
    ),
    (
        "a release is charged",
        "job.attempt = int(math.max(num(job.attempt) - 1, 0))",
        "job.attempt = int(num(job.attempt))",
    ),
    (
        "delayed jobs start early",
        "redis.call('ZRANGEBYSCORE', key.delayed(p, queue), '-inf', int(now)",
        "redis.call('ZRANGEBYSCORE', key.delayed(p, queue), '-inf', '+inf'",
    ),
    (
        "a retry ignores a request to cancel",
        "if job.cancel_requested then return settle.canceled(w, p, id, job, now, CANCELED) end\n  errors.count(",
        "errors.count(",
    ),
    (
        "a retry by hand changes when the last attempt ended",
        "num(job.finished_at or now), job.status",
        "now, job.status",
    ),
    (
        "a ghost that is retried by hand is queued twice",
        "local is_ghost = redis.call('SISMEMBER', key.ghosts(p, job.queue), id) == 1",
        "local is_ghost = false",
    ),
    (
        "a job that is retried by hand stays listed as finished",
        "w:unfinish(p, job.queue, job.expires_at, id)\n  w:call('ZREM', key.failed(p, job.queue), id)\n  errors.leave(w, p, id, job)\n  w:call('HDEL'",
        "w:call('ZREM', key.failed(p, job.queue), id)\n  errors.leave(w, p, id, job)\n  w:call('HDEL'",
    ),
    (
        "priorities are ignored",
        "local LANES = { 'urgent', 'high', 'normal', 'low' }",
        "local LANES = { 'low', 'normal', 'high', 'urgent' }",
    ),
    (
        "one unreadable record fails the whole call",
        "local values = redis.pcall('HMGET', name, 'state', 'optional', 'spec', 'payload')",
        "local values = redis.call('HMGET', name, 'state', 'optional', 'spec', 'payload')",
    ),
    (
        "a claim leaves no wake-up token for the rest",
        "wake(w, p, queues, function(_, queue)",
        "wake(w, p, NONE, function(_, queue)",
    ),
    (
        "a delete leaves the entries in the indexes",
        "w:unfinish(p, job.queue, job.expires_at, id)\n  w:call('ZREM', key.failed(p, job.queue), id)\n  errors.leave(w, p, id, job)\n  indexes",
        "indexes",
    ),
    (
        "the bytes that a call hands out have no limit",
        "if (bytes < 0 or large_bytes < 0) and batch.claimed > 0 then return false end",
        "",
    ),
    (
        "the fencing check ignores the worker",
        "job.epoch == epoch and job.worker == worker",
        "job.epoch == epoch",
    ),
    ("a solitary job does not run alone", "if call.alone then return true end", ""),
    ("a reservation is not renewed", "w:call('PEXPIRE', key.reserved(p), int(call.lease))", ""),
    ("paused queues reserve workers", "if paused[at] == 0 then", "if true then"),
    (
        "empty queues hide those beside them",
        "if #names < 3 or redis.call('EXISTS', unpack(names)) > 0 then return true end",
        "if #names < 3 or redis.call('EXISTS', unpack(names)) == #names then return true end",
    ),
    (
        "a queue that is read is taken for empty",
        "if lane == NORMAL and not batch.full then batch.emptied[queue] = true end\n      if blocked and batch.claimed == before then batch.blocked_lanes[name] = true end\n      break\n    end",
        "if blocked and batch.claimed == before then batch.blocked_lanes[name] = true end\n      break\n    end\n    batch.emptied[queue] = true",
    ),
    (
        "a queue is taken for empty though a call has no room for the rest",
        "if lane == NORMAL and not batch.full then",
        "if lane == NORMAL then",
    ),
    (
        "side queues are taken for empty",
        "if call.side_queues[queue] then return true end\n    names[at]",
        "names[at]",
    ),
    (
        "only the first half of many queues gets its missing tokens",
        "return add_absent(found, names, middle + 1, last, count - left)",
        "return",
    ),
    (
        "where most tokens are missing, none is left",
        "if count == 0 or redis.call('EXISTS', names[at]) == 0 then",
        "if count > 0 and redis.call('EXISTS', names[at]) == 0 then",
    ),
    (
        "empty queues get tokens",
        "if not needs_one or needs_one(p, queues[at]) then",
        "if true then",
    ),
    (
        "a call takes all queues for empty if one is",
        "#names > 1 and redis.call('EXISTS', unpack(ready)) == 0",
        "#names > 1 and redis.call('EXISTS', unpack(ready)) < #ready",
    ),
    (
        "released jobs wake no worker",
        "    if not is_open[queue] then found[queue] = true end\n",
        "",
    ),
    (
        "a claim reads a lane only once",
        "    if #ids < width then\n      if lane",
        "    if true then\n      if lane",
    ),
    ("a sweep does not continue within the second", "if state.more ~= '1' and age", "if age"),
    ("a sweep has no budget", "left = SWEEP_IDS }", "left = 100000 }"),
    ("settling removes no expired entries", "trim(w, p, queue, now, 2 * count)", ""),
    ("the history has no byte limit", "or (breaks > 0 and #history > HISTORY_BYTES)", ""),
    (
        "a job may expire at once",
        "math.max(num(job.retention), RETENTION_LEAST_MS)",
        "num(job.retention)",
    ),
    ("silence is noticed too late", "SILENCE_SHARE = 0.35", "SILENCE_SHARE = 0.75"),
    (
        "a reclaim takes jobs of other workers",
        "if job and job.worker == worker then take_back",
        "if job then take_back",
    ),
    (
        "a reclaim charges no loss",
        "if lease_end and handover_failed",
        "if not lease_end or handover_failed",
    ),
    (
        "failed hand-overs are losses",
        "outcome, count = 'unheard', 'unheard' end",
        "outcome, count = 'unheard', 'losses' end",
    ),
    (
        "a job with failed hand-overs never fails",
        "SOLITARY_UNHEARD, MAX_UNHEARD = 3, 8",
        "SOLITARY_UNHEARD, MAX_UNHEARD = 3, 99",
    ),
    (
        "a job with failed hand-overs never runs alone",
        "SOLITARY_UNHEARD, MAX_UNHEARD = 3, 8",
        "SOLITARY_UNHEARD, MAX_UNHEARD = 99, 8",
    ),
    (
        "a heartbeat in the future counts",
        "seen ~= nil and seen <= now and now - seen",
        "seen ~= nil and now - seen",
    ),
    (
        "a cancel fails on a broken running record",
        "  if job.worker and job.epoch then w:publish(",
        "  if true then w:publish(",
    ),
    (
        "the order of a batch depends on optional fields",
        "queue.ids = w:one('LPUSH', queue.ready)",
        "queue.ids = variadic('LPUSH', queue.ready) w:later(queue.ids)",
    ),
    (
        "a job that waits for a machine is tried again at once",
        "1000 * 2 ^ math.min(times, 10)",
        "0 * 2 ^ math.min(times, 10)",
    ),
    (
        "a job that waits for a machine is charged",
        "    uncharge(job)\n    waits.list_again(",
        "    waits.list_again(",
    ),
    (
        "a release ignores a request to cancel",
        "if job.cancel_requested then return settle.canceled(w, p, id, job, now, CANCELED) end\n  if cause",
        "if cause",
    ),
    (
        "a reclaim wakes no worker",
        "  wake(w, p, { queue, unpack(limits.siblings(p, queue)) }, is_claimable)\n  w:commit()\n  return found[1]",
        "  return found[1]",
    ),
    (
        "a reclaim leaves its worker listed",
        "w:call('ZREM', key.workers(p), worker)\n  w:call('ZREM', key.leases(p), worker)\n  local chosen",
        "local chosen",
    ),
    (
        "a reclaim keeps the reservation",
        "if string.match(chosen, '^%S+') == worker then",
        "if false then",
    ),
];
