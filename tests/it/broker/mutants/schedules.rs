//! Schedules: their ticks, what becomes of them, and what operators do.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    (
        "a tick happens whatever the next one is",
        "if why ~= 'run' and schedule[why] ~= argv[7] then",
        "if false then",
    ),
    (
        "a schedule is fired as it was before a change",
        "if not schedule or schedule.version ~= argv[5] then",
        "if not schedule then",
    ),
    (
        "a paused schedule is fired",
        "if why ~= 'run' and schedule.paused then return { int(now), -2 } end",
        "",
    ),
    (
        "the next tick is not written",
        "    fields.tick, fields.due = held and held.tick or after, held and held.due or after and argv[9]\n",
        "",
    ),
    (
        "a tick whose job has no room is lost",
        "fields.tick, fields.due = held and held.tick or after,",
        "fields.tick, fields.due = after,",
    ),
    (
        "a tick that is held back is not recorded so",
        "fields.held = held and int(now) .. ' ' .. int(-code) or false",
        "fields.held = false",
    ),
    (
        "a tick that is held back is tried at once",
        "    if schedule.held then at = math.max(at, now + HELD_LOOK_MS) end\n",
        "",
    ),
    (
        "ticks after one that is held back are submitted",
        "        for later = #ticks, at, -1 do ticks[later] = nil end\n",
        "        ticks[at] = nil\n",
    ),
    ("a run on request is tried again", "  if held and why == 'run' then return replies end\n", ""),
    (
        "a run on request does not wait for the job before it",
        "if live and why == 'run' and argv[10] ~= 'allow' then",
        "if false then",
    ),
    (
        "jobs of schedules overlap",
        "if overlap == 'skip' then return 'skipped' end",
        "if overlap == 'skip' then return 'submitted' end",
    ),
    (
        "every tick is skipped",
        "if overlap == 'allow' or not call.live then",
        "if overlap == 'allow' then",
    ),
    (
        "jobs that may overlap do not",
        "if overlap == 'allow' or not call.live then",
        "if not call.live then",
    ),
    (
        "two ticks are buffered",
        "local outcome = call.buffers and 'skipped' or 'buffered'",
        "local outcome = 'buffered'",
    ),
    (
        "a tick overtakes a buffered one",
        "live = live or schedule.buffered, last_job",
        "live = live, last_job",
    ),
    (
        "a buffered tick happens again and again",
        "    fields.buffered = false\n",
        "    fields.buffered = nil\n",
    ),
    (
        "the job before is not canceled",
        "  local ended = job and cancel_job(w, p, call.schedule.last_job, job, now)\n",
        "  local ended = job\n",
    ),
    (
        "a canceled job of a schedule is not counted as ended",
        "  schedules.look(w, p, now, schedule)\n  count_ended(w, p, now)\n  w:commit()\n  return replies",
        "  schedules.look(w, p, now, schedule)\n  w:commit()\n  return replies",
    ),
    (
        "a tick that gives way to a newer one is not counted",
        "      if fields.buffered or schedule.buffered then counts.skipped = counts.skipped + 1 end\n",
        "",
    ),
    (
        "a backfill does not go on",
        "    fields.backfill, fields.backfill_job = after, after and last\n",
        "    fields.backfill_job = after and last\n",
    ),
    (
        "a backfill submits all jobs at once",
        "if live and (why == 'backfill' or why == 'buffered') then return { int(now), 0 } end",
        "",
    ),
    (
        "the jobs of a backfill count for the overlap",
        "if last and why ~= 'backfill' then fields.last_job = last end",
        "if last then fields.last_job = last end",
    ),
    (
        "a second backfill replaces the first",
        "if schedule.backfill then return schedule.backfill == argv[3] and 1 or -3 end",
        "",
    ),
    ("a backfill begins in a pause", "if schedule.paused then return -2 end", ""),
    (
        "the end of a job is not noticed",
        "  if job.schedule then schedules.job_ended(w, p, now, id, job) end\n",
        "",
    ),
    (
        "a job of a schedule that succeeds takes the fast path",
        "'watched', 'webhook',\n  'schedule', 'unique' }",
        "'watched', 'webhook', 'unique' }",
    ),
    (
        "the end of a job has a removed or paused schedule looked at",
        "if found.err or found[1] then return end",
        "if found.err then return end",
    ),
    (
        "a tick that was taken is taken by others, too",
        "        w:call('ZADD', key.schedules(p), int(now + num(argv[2])), name)\n",
        "",
    ),
    (
        "a buffered tick does not wait for the job before it",
        "        and not schedules.is_live(p, schedule.last_job) and schedule.buffered or ''",
        "        and schedule.buffered or ''",
    ),
    (
        "a schedule without anything to do is looked at again and again",
        "      if tick == '' and buffered == '' and backfill == '' then\n        schedules.look(w, p, now, schedule)\n",
        "      if tick == '' and buffered == '' and backfill == '' then\n        w:call('ZREM', key.schedules(p), name)\n",
    ),
    (
        "a paused schedule is looked at",
        "    if schedule.paused or at == math.huge then",
        "    if at == math.huge then",
    ),
    (
        "a buffered tick after the last one is forgotten",
        "      at = math.min(at, now + PENDING_LOOK_MS)\n",
        "",
    ),
    (
        "the feature of schedules is not listed",
        "  use_feature(w, p, 'schedules')\n  -- Versions",
        "  -- Versions",
    ),
    ("a job of a schedule does not name it", "  add('schedule', extras.schedule)\n", ""),
    (
        "a schedule is changed whatever its version",
        "  if string.find(condition, '^%d+$') and condition ~= version then return { -1, version } end\n",
        "",
    ),
    (
        "a schedule is created although it must be known",
        "  if condition ~= '' and condition ~= 'new' and not known then return { -1, version } end\n",
        "",
    ),
    (
        "a schedule is replaced although it must be new",
        "  if condition == 'new' and known then return { -1, version } end\n",
        "",
    ),
    (
        "a schedule of a file is changed by others",
        "  if known and known.origin ~= origin then return { -3, version } end\n",
        "",
    ),
    (
        "there may be any number of schedules",
        "  if not known and count >= most then return { -2, '0' } end\n",
        "",
    ),
    (
        "the same schedule again is a change",
        "  if same_timing and known.spec == argv[4] and known.payload == argv[5] then return { 3, known.version } end\n",
        "",
    ),
    (
        "a change of a payload loses the tick that is due",
        "if not same_timing or (known.paused and not fields.paused) then",
        "if true then",
    ),
    (
        "another timing keeps the next tick",
        "if not same_timing or (known.paused and not fields.paused) then",
        "if not known then",
    ),
    (
        "ticks of a pause are made up for after a change",
        "if not same_timing or (known.paused and not fields.paused) then",
        "if not same_timing then",
    ),
    (
        "an operator's pause ends with a change",
        "paused = stays_paused(schedule.paused) or false }",
        "paused = false }",
    ),
    (
        "a schedule that was paused because of an error stays so after a change",
        "paused and string.find(paused, '^%d+ requested ') and paused end",
        "paused end",
    ),
    (
        "versions are used again",
        "int(math.max(num(schedule.version) + 1, now))",
        "int(num(schedule.version) + 1)",
    ),
    (
        "a schedule is removed whatever its version",
        "  if known and argv[2] ~= '' and argv[2] ~= known.version then return { -1, known.version } end\n",
        "",
    ),
    (
        "a removed schedule is looked at",
        "  w:call('DEL', key.schedule(p, name))\n  w:call('ZREM', key.schedules(p), name)\n",
        "  w:call('DEL', key.schedule(p, name))\n",
    ),
    (
        "a schedule that was corrected meanwhile is paused",
        "  if argv[2] ~= '' and argv[2] ~= schedule.version then return -1 end\n  -- An operator's",
        "  -- An operator's",
    ),
    (
        "an error replaces an operator's pause",
        "  if schedule.paused and string.find(schedule.paused, '^%d+ requested ') then return 1 end\n",
        "",
    ),
    (
        "a pause keeps a buffered tick",
        "paused = int(now) .. ' ' .. argv[3], buffered = false, held = false }",
        "paused = int(now) .. ' ' .. argv[3], held = false }",
    ),
    (
        "what passed in a pause is made up for",
        "{ paused = false, tick = tick, due = tick and argv[4] }",
        "{ paused = false }",
    ),
    (
        "a tick that waits for no job any more is not looked at",
        "    if is_ready(p, schedule) then\n      at = now\n    elseif",
        "    if",
    ),
    (
        "the oldest tick is the first of the newest ten",
        "for at = #lines, 1, -1 do runs[#runs + 1] = lines[at] end",
        "for at = 1, #lines do runs[#runs + 1] = lines[at] end",
    ),
    (
        "an audit overlooks schedules that nobody looks at",
        "    return at and tonumber(at) <= latest\n",
        "    return true\n",
    ),
    (
        "an audit overlooks entries without a schedule",
        "  elseif not schedule and (redis.call('ZSCORE', key.schedules(p), name) or",
        "  elseif false and (redis.call('ZSCORE', key.schedules(p), name) or",
    ),
];
