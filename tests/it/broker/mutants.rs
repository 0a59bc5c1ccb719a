//! A check that cannot fail is no check: the functions are broken on purpose, one way at a time, and a story or a random
//! history must notice each.

use std::collections::BTreeMap;

use crunch_tests::RedisServer;

use super::driver::library;
use super::properties;
use super::scenarios::{NAMES, World, tell};

/// What is broken, the text that is replaced, and by what.
type Mutant = (&'static str, &'static str, &'static str);

const MUTANTS: &[Mutant] = &[
    (
        "settling does not check the epoch",
        "  if not holds(job, epoch, call.worker) then return was_settled(job, epoch) and 2 or -1 end\n",
        "  if was_settled(job, epoch) then return 2 end\n",
    ),
    (
        "settling alike does not ask for the worker",
        "not holds(job, job and job.epoch, call.worker) then return w:group(state, false) end",
        "not (job and job.status == 'running') then return w:group(state, false) end",
    ),
    (
        "what is rare is overlooked by a claim",
        "state and spec and payload and has_none(rare, CLAIMED_RARE)",
        "state and spec and payload",
    ),
    (
        "what is rare is overlooked by a promotion",
        "if not (state and has_none(rare, PROMOTED_RARE)) then return false end",
        "if not state then return false end",
    ),
    ("a group without jobs is written", "elseif one.count ~= 0 then", "else"),
    ("what is rare is not named", "rare and rare .. ' ' .. name or name end", "rare end"),
    ("what is rare is named once", "rare and rare .. ' ' .. name or name end", "rare or name end"),
    (
        "what is rare is overlooked when settling",
        "if not (state and has_none(rare, COMPLETED_RARE)) then return nil end",
        "if not state then return nil end",
    ),
    (
        "settling is not idempotent",
        "return was_settled(job, epoch) and 2 or -1 end",
        "return -1 end",
    ),
    (
        "settling leaves the lease",
        "w:add('ZREM', key.running(p, job.queue), id)\n  settle[outcome]",
        "settle[outcome]",
    ),
    (
        "losses are never counted",
        "job[count] = int(num(job[count]) + 1)",
        "job[count] = int(num(job[count]))",
    ),
    ("a lost reply counts as a loss", "return alive and lease_end", "return false and lease_end"),
    (
        "poison never fails",
        "SOLITARY_LOSSES, MAX_LOSSES = 2, 5",
        "SOLITARY_LOSSES, MAX_LOSSES = 2, 99",
    ),
    (
        "poison runs beside others",
        "SOLITARY_LOSSES, MAX_LOSSES = 2, 5",
        "SOLITARY_LOSSES, MAX_LOSSES = 99, 5",
    ),
    ("sweep forgets the lease it took back", "w:add('ZREM', key.running(p, queue), id)", ""),
    ("sweep knows no grace", "if now < guard.grace_until then return end", ""),
    (
        "enqueue is not idempotent",
        "if call.seen[id] or (call.any_known and is_known(name, terms)) then return { 2, id } end",
        "",
    ),
    (
        "what was laid down makes a job known",
        "if not terms or not terms.laid then return redis",
        "if true then return redis",
    ),
    (
        "what was laid down for nothing stays",
        "if terms and terms.laid and not redis",
        "if false and not redis",
    ),
    ("idempotency ignores the request", "print == terms.fingerprint and 3 or -1", "3"),
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
        "a heartbeat extends anybody's lease",
        "if not holds(job, epoch, worker) then return -1 end\n  w:add('ZADD'",
        "if not job then return -1 end\n  w:add('ZADD'",
    ),
    (
        "a report is not fenced",
        "if not holds(job, epoch, worker) then return -1 end\n  local full",
        "if not job then return -1 end\n  local full",
    ),
    (
        "lines that are sent again are written again",
        "if number > known then lines",
        "if true then lines",
    ),
    (
        "progress that is sent again is a change",
        "local is_new = num(number) > known",
        "local is_new = num(number) > 0",
    ),
    (
        "another attempt's lines are taken for repeats",
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
    ("a cancel makes no ghost", "w:call('SADD', key.ghosts(p, job.queue), id)", ""),
    (
        "a claim takes canceled jobs",
        "if unreadable or not job or job.status ~= 'queued' then",
        "if unreadable or not job then",
    ),
    ("a claim leaves the id in ready", "if looked > 0 then w:call('RPOP', name, looked) end", ""),
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
        "a retry ignores the wish to cancel",
        "if job.cancel_requested then return settle.canceled(w, p, id, job, now, CANCELED) end\n  local history = remember_attempt(p, id, job, now, 'failed', error)",
        "local history = remember_attempt(p, id, job, now, 'failed', error)",
    ),
    (
        "a revived ghost is queued twice",
        "if redis.call('SISMEMBER', key.ghosts(p, job.queue), id) == 1 then",
        "if false then",
    ),
    ("a revived job expires", "w:call('PERSIST', job.key)", ""),
    (
        "priorities are ignored",
        "local LANES = { 'urgent', 'high', 'normal', 'low' }",
        "local LANES = { 'low', 'normal', 'high', 'urgent' }",
    ),
    (
        "one unreadable record fails the whole call",
        "local values = redis.pcall('HMGET', name, 'state', 'rare', 'spec', 'payload')",
        "local values = redis.call('HMGET', name, 'state', 'rare', 'spec', 'payload')",
    ),
    (
        "wake-up tokens do not chain",
        "if not all_lie and (unusual and has_ready or has_usual)(p, queue) then wake(w, p, queue) end",
        "",
    ),
    (
        "a delete leaves the indexes",
        "w:call('ZREM', key.finished(p, job.queue), id)\n  w:call('ZREM', key.failed(p, job.queue), id)\n  w:call('HSET'",
        "w:call('HSET'",
    ),
    (
        "a call hands out any number of bytes",
        "if (bytes < 0 or large_bytes < 0) and batch.claimed > 0 then return false end",
        "",
    ),
    (
        "the fence does not ask for the worker",
        "job.epoch == epoch and job.worker == worker",
        "job.epoch == epoch",
    ),
    ("poison has neighbours", "if call.alone then return true end", ""),
    ("a reservation is not renewed", "w:call('PEXPIRE', key.reserved(p), int(call.lease))", ""),
    ("paused queues make workers run empty", "if paused[at] == 0 then", "if true then"),
    (
        "what is given back wakes nobody",
        "for queue in pairs(settled) do wake_if_claimable(w, p, queue) end",
        "",
    ),
    ("one look a lane", "if #ids < width then break end", "break"),
    ("a sweep stops at its gate", "if state.more ~= '1' and age", "if age"),
    ("a sweep knows no budget", "left = SWEEP_IDS }", "left = 100000 }"),
    ("settling trims nothing", "trim(w, p, queue, now, 2 * count)", ""),
    ("the history has no bytes", "or (breaks > 0 and #history > HISTORY_BYTES)", ""),
    (
        "a job may be forgotten at once",
        "math.max(num(job.retention), RETENTION_LEAST_MS)",
        "num(job.retention)",
    ),
    ("silence is noticed too late", "SILENCE_SHARE = 0.35", "SILENCE_SHARE = 0.75"),
    (
        "a burial takes from the living",
        "if job and job.worker == worker then take_back",
        "if job then take_back",
    ),
    ("a burial blames nobody", "if lease_end and went_unheard", "if not lease_end or went_unheard"),
    (
        "failed hand-overs are losses",
        "outcome, count = 'unheard', 'unheard' end",
        "outcome, count = 'unheard', 'losses' end",
    ),
    (
        "failed hand-overs never end",
        "SOLITARY_UNHEARD, MAX_UNHEARD = 3, 8",
        "SOLITARY_UNHEARD, MAX_UNHEARD = 3, 99",
    ),
    (
        "failed hand-overs never run alone",
        "SOLITARY_UNHEARD, MAX_UNHEARD = 3, 8",
        "SOLITARY_UNHEARD, MAX_UNHEARD = 99, 8",
    ),
    (
        "a beat that lies ahead counts",
        "seen ~= nil and seen <= now and now - seen",
        "seen ~= nil and now - seen",
    ),
    (
        "a cancel stumbles over a broken running record",
        "if job.worker and job.epoch then\n      redis.pcall",
        "if true then\n      redis.pcall",
    ),
    (
        "a batch is parted by what is rare",
        "if not queue.ids then queue.ids = w:one('LPUSH', queue.ready) end",
        "if not queue.ids then queue.ids = variadic('LPUSH', queue.ready) w:later(queue.ids) end",
    ),
    (
        "what waits for a machine is tried at full speed",
        "1000 * 2 ^ math.min(times, 10)",
        "0 * 2 ^ math.min(times, 10)",
    ),
    (
        "what waits for a machine is charged",
        "    uncharge(job)\n    return release_later",
        "    return release_later",
    ),
    (
        "a release ignores the wish to cancel",
        "if job.cancel_requested then return settle.canceled(w, p, id, job, now, CANCELED) end\n  if cause",
        "if cause",
    ),
    (
        "a burial wakes nobody",
        "  wake_if_claimable(w, p, queue)\n  w:commit()\n  return found[1]",
        "  return found[1]",
    ),
    (
        "a burial leaves its worker listed",
        "w:call('ZREM', key.workers(p), worker)\n  w:call('ZREM', key.leases(p), worker)\n  local chosen",
        "local chosen",
    ),
    (
        "a burial keeps the reservation",
        "if string.match(chosen, '^%S+') == worker then",
        "if false then",
    ),
    (
        "a burial looks once a queue",
        "if cursor == '0' then at = at + 1 end",
        "at, cursor = at + 1, '0'",
    ),
    (
        "the strands share their numbers",
        "numbered = 'exchange' .. argv[3]",
        "numbered = 'exchange'",
    ),
    ("the strands share their claims", "handed = 'claims' .. argv[3]", "handed = 'claims'"),
    (
        "the dead may claim on the other strand",
        "'exchange2', '9007199254740991'",
        "'exchange2', '0'",
    ),
    ("the dead may claim", "'1', 'exchange', '9007199254740991'", "'1', 'exchange', '0'"),
    ("the dead may beat", "  if known[2] then return replies end\n", ""),
    ("a broken running record stops the sweep", " or (job and not job.worker)", ""),
    (
        "healing takes a living worker's job away",
        "if put_back_running(w, p, now, id, job) then return end",
        "",
    ),
    ("healing gives a lease to the dead", "if not alive then return false end", ""),
    ("a healed run is charged", "'healed')\n  uncharge(job)", "'healed')"),
    ("a healed run is forgotten", "remember_attempt(p, id, job, now, 'healed')", "''"),
    (
        "healing ignores the wish to cancel",
        "if job.cancel_requested then return to_terminal(w, p, id, job, 'canceled', now, 'error', CANCELED) end",
        "",
    ),
    ("healing starts delayed jobs early", "job.run_at and num(job.run_at) or now", "now"),
    ("healing goes by hearsay", "if unfenced or (homes == 0 and certain) then", "if true then"),
    (
        "healing leaves the wrong place",
        "if leave_strays(w, p, id, sets, at) == false then return false end",
        "",
    ),
    ("healing keeps both places", "if places[2] and places[2].deep", "if true"),
    ("healing wakes nobody", "if queue and #found > 0 then", "if false then"),
    (
        "nobody looks for what is not listed",
        "claim_all(w, p, now, call) or find_overlooked(w, p, call) or more",
        "claim_all(w, p, now, call) or more",
    ),
    (
        "due jobs are moved in any order",
        "ipairs(call.unusual ~= NONE and call.queues or NONE)",
        "ipairs({ 'e', 'd', 'c', 'b' })",
    ),
    ("an unusual queue is not listed", "w:add('SADD', key.unusual(p), queue)", ""),
    ("a sweep lists no unusual queue", "  look_for_unusual(w, p, queue)\n  wake_if", "  wake_if"),
    (
        "an audit accuses a revived ghost",
        "if num(job.generation) > 0 and lane ~= SOLITARY then return { lane, SOLITARY } end",
        "",
    ),
    (
        "an audit accuses the ghost of a forgotten job",
        "if place == 'ghosts' or (lane and stands_in(p, queue, 'ghosts', id)) then",
        "if place == 'ghosts' then",
    ),
    (
        "an audit accuses what a sweep will forget",
        "and awaits_sweep(p, now, queue, id)",
        "and false",
    ),
    (
        "an audit believes a broken record",
        "job.key, 'payload') == 1 or",
        "job.key, 'payload') >= 0 or",
    ),
    (
        "an audit believes that nothing is rare",
        "if value and has_none(job.rare, { RARE[at] }) then",
        "if false then",
    ),
    ("an audit misses ghosts of nothing", "elseif count == 0 and marked then", "elseif false then"),
    (
        "nobody hears of changes",
        "  tell(w, p, id, job)\nend\n\n-- Every change",
        "end\n\n-- Every change",
    ),
    ("nobody hears of lines", "  if job.watched then tell(w, p, id, job) end", ""),
    (
        "everybody's changes are told",
        "if job.watched then report_change",
        "if true then report_change",
    ),
    (
        "changes are not kept",
        "if job.watched == 'events' then keep_event(w, p, id, job, news) end",
        "",
    ),
    (
        "a gap in the changes is not told",
        "local complete = #events == behind and string.match(events[1], '^%d+') == int(num(known) + 1)",
        "local complete = true",
    ),
    (
        "events outlive their job",
        "if job.watched == 'events' then w:call('PEXPIREAT', key.events(p, id), job.expires_at) end",
        "",
    ),
    (
        "events of a revived job are forgotten",
        "if job.watched == 'events' then w:call('PERSIST', key.events(p, id)) end",
        "",
    ),
    ("lines are numbered anew", "kept + 1, lines + 1", "kept + 1, math.min(lines + 1, LOG_LINES)"),
    (
        "a purge cancels what has run",
        "if job and job.status == 'scheduled' and created_at",
        "if job and created_at",
    ),
    ("a purge leaves ids behind", "if dropped > 0 then w:call('RPOP', name, dropped) end", ""),
    ("healing lets ended jobs stay for ever", "if ended and left == -1 then", "if false then"),
    ("nobody is told", "if job.webhook then deliver(w, p, id, job, status, now) end", ""),
    ("ends nobody asked for are told", " or not string.find(told, status, 1, true)", ""),
    ("every life is told under one id", "string.format('%04x', generation)", "'0000'"),
    ("deliveries wake nobody", "wake(w, p, WEBHOOK.name)", ""),
    (
        "sweeps do not know of deliveries",
        "w:add('ZADD', key.queues(p), int(now), WEBHOOK.name)",
        "",
    ),
    (
        "deliveries are kept as other jobs are",
        "'retention', int(WEBHOOK.kept_ms)",
        "'retention', '2592000000'",
    ),
    (
        "any number of queues is known",
        "if call.known >= call.most_queues then return false end",
        "",
    ),
    (
        "known queues are counted again",
        "if not queue.known and not make_known",
        "if not make_known",
    ),
    (
        "any number of tasks is declared",
        "if not known and count >= TASKS_MOST then",
        "if false then",
    ),
    (
        "a full list renews no task",
        "if not known and count >= TASKS_MOST then",
        "if count >= TASKS_MOST then",
    ),
    ("a change of a task is not announced", "if changed then tasks_changed(w, p, now) end", ""),
    ("every declaration is a change", "if known ~= descriptor then", "if true then"),
    (
        "a pause makes any queue known",
        "if argv[2] ~= '1' and not is_listed(p, argv[1]) then return 0 end",
        "",
    ),
    ("a resume makes any queue known", "  if not is_listed(p, argv[1]) then return 0 end\n", ""),
    (
        "a redrive knows any queue",
        "if not is_listed(p, queue) then return { -1, 0, 0, since } end",
        "",
    ),
    ("a queue's last use is never written again", "age >= 0 and age < LAST_USE_MS", "age >= 0"),
    (
        "a lease is not listed as due",
        "    if count == 1 then w:due(p, queue, batch.lease_ends) end\n",
        "",
    ),
    ("a single lease is not listed as due", "  w:due(p, job.queue, batch.lease_ends)\n", ""),
    ("a delayed job is not listed as due", "  w:due(p, job.queue, due)\n", ""),
    ("a healed lease is not listed as due", "  w:due(p, job.queue, now + lease)\n", ""),
    ("what is due is listed for later", "{ 'ZADD', write.name, 'LT' }", "{ 'ZADD', write.name }"),
    (
        "the latest of a step is listed as due",
        "if not known or time < known then self.dues",
        "if not known or time > known then self.dues",
    ),
    (
        "a visit forgets what is due later",
        "w:call('ZADD', key.due(p), int(math.max(first, now + SWEEP_MS)), queue)",
        "w:call('ZREM', key.due(p), queue)",
    ),
    (
        "a visit that stopped by budget counts as done",
        "if swept.left > 0 then list_next_due",
        "if true then list_next_due",
    ),
    ("a sweep visits every queue", "  more = more or all\n", "  more = more or cursor > 0\n"),
    ("a clock that went back is overlooked", " or (state.last and now < num(state.last))", ""),
    (
        "a nearly full redis is swept in turn",
        "state.all == '1' or swept.memory >= swept.watermark",
        "state.all == '1'",
    ),
    ("all queues are never done", "if cursor == 0 and not more then all = false end", ""),
    ("payloads are not padded", "#url - #payload)", "#url - #payload - 1)"),
    (
        "the muted are told",
        "local muted = string.gsub(job.webhook, '^[^\\n]*', '')",
        "local muted = job.webhook",
    ),
];

/// Who notices the mutant: a story, or the random histories.
fn catcher(redis: &RedisServer, number: usize, (name, from, to): Mutant) -> Option<String> {
    let edit = |text: String| {
        assert_eq!(
            text.matches(from).count(),
            1,
            "the text of mutant {name:?} must stand exactly once in the library"
        );
        text.replacen(from, to, 1)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (at, story) in NAMES.iter().enumerate() {
        let told = runtime.block_on(async {
            let mut world =
                World::new(redis, &format!("mutant-{number}-{at}"), library(edit)).await;
            tell(story, &mut world).await
        });
        if told.is_err() {
            return Some(format!("story: {story}"));
        }
    }
    properties::run(redis, &format!("mutant-{number}"), 300, 0, edit)
        .err()
        .map(|_| "a random history".to_owned())
}

/// Each with a Redis of its own: a story waits for Redis, and Redis for the story.
const HUNTERS: usize = 4;

#[test]
fn every_broken_function_is_noticed() {
    let caught = std::thread::scope(|scope| {
        let hunters: Vec<_> = (0..HUNTERS)
            .map(|first| {
                scope.spawn(move || hunt(MUTANTS.iter().enumerate().skip(first).step_by(HUNTERS)))
            })
            .collect();
        hunters.into_iter().flat_map(|hunter| hunter.join().unwrap()).collect::<BTreeMap<_, _>>()
    });
    let mut missed = Vec::new();
    for (number, catcher) in caught {
        let name = MUTANTS[number].0;
        match catcher {
            Some(catcher) => println!("{name:<46} caught by {catcher}"),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "nothing noticed: {missed:?}");
}

fn hunt<'a>(mutants: impl Iterator<Item = (usize, &'a Mutant)>) -> Vec<(usize, Option<String>)> {
    let redis = RedisServer::start();
    mutants.map(|(number, &mutant)| (number, catcher(&redis, number, mutant))).collect()
}
