//! Locks: who holds them, who waits for that, and when they are free.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    ("a new job does not get its lock", "  locks.take(w, p, id, job, ms)\n", ""),
    ("the feature of locks is not listed", "  use_feature(w, p, 'locks')\n", ""),
    (
        "a held lock is not asked",
        "  if not holder then return nil end\n  if on_conflict == 'existing'",
        "  if true then return nil end\n  if on_conflict == 'existing'",
    ),
    (
        "a lock is asked once in a call",
        "  if call.locked[digest] then write_so_far(w, call) end\n",
        "",
    ),
    (
        "jobs without extras are lost in a call with two jobs of a lock",
        "  call.enqueued = nil\n",
        "",
    ),
    (
        "ids without extras are lost in a call with two jobs of a lock",
        "do queue.fresh_state = nil end",
        "do queue.name = queue.name end",
    ),
    (
        "a refused job is answered as if it existed",
        "if on_conflict == 'reject' then return { -7, holder } end",
        "if on_conflict == 'reject' then return { 4, holder } end",
    ),
    ("a job that a worker claimed is replaced", "and not replaced.epoch and", "and"),
    (
        "the holder is replaced although a job waits for it",
        "  if latest then target, replaced = follower, latest end\n",
        "",
    ),
    (
        "a job waits for a lock that is held for a time",
        " or select(2, locks.of(job)) == 'time' then",
        " then",
    ),
    (
        "a job that is to replace another one waits for its end",
        "  if on_conflict ~= 'keep_latest' or select",
        "  if false or select",
    ),
    (
        "a replaced job is submitted now",
        "  local created, queue = int(created_at(job)), call.queues[job.queue]\n",
        "  local created, queue = call.now, call.queues[job.queue]\n",
    ),
    (
        "a replaced job is delayed for ever",
        "or 0, num(created) + num(most))",
        "or 0, call.time + num(most))",
    ),
    (
        "a replaced job is due before it is submitted",
        "  due = math.max(due, call.time)\n  local follows",
        "  local follows",
    ),
    (
        "a replaced job keeps what the new one does not say",
        "  w:call('HDEL', job.key, unpack(OMITTED))\n",
        "",
    ),
    (
        "a replaced job stays in its indexes",
        "  indexes.change(w, p, id, before, job.indexes)\n",
        "",
    ),
    (
        "a replaced job keeps its old times",
        "  if had_limit or waits.limit(job) then waits.list_instead(w, p, id, job) end\n",
        "",
    ),
    (
        "a replaced job that may wait for ever stays listed",
        "    w:add('ZREM', key.deadlines(p, job.queue), id)\n  end\n\n  -- Removes a job that ended.",
        "  end\n\n  -- Removes a job that ended.",
    ),
    (
        "a ready job gets the priority of the new one",
        "  if job.status == 'queued' then extras.priority = job.priority end\n",
        "",
    ),
    (
        "a ready job is ready twice once it is replaced",
        "  if job.status == 'queued' or follows then return change",
        "  if follows then return change",
    ),
    (
        "a job that waits for its lock is ready once it is replaced",
        "  if job.status == 'queued' or follows then return change",
        "  if job.status == 'queued' then return change",
    ),
    (
        "a replaced job that is ready stays delayed",
        "  w:add('ZREM', key.delayed(p, job.queue), id)\n  to_ready(w, p, id, job, 'LPUSH', unpack(fields))\nend\n\n-- The reply to a new job",
        "  to_ready(w, p, id, job, 'LPUSH', unpack(fields))\nend\n\n-- The reply to a new job",
    ),
    ("nobody is woken for a job that is replaced", "  queue.due = math.min(queue.due, due)\n", ""),
    (
        "a large payload does not replace another one",
        "  if extras.prestored then\n    fields[",
        "  if false then\n    fields[",
    ),
    (
        "a lock for a time has no end",
        "return w:call('SET', key.lock(p, digest), id) end",
        "return w:call('SET', key.lock(p, digest), id) end\n    ms = nil",
    ),
    (
        "the job of a lock for a time is not kept",
        "  if ends == 'time' then extras.keep",
        "  if false then extras.keep",
    ),
    (
        "a lock for a time is free with its job",
        "    if ends == 'time' then return true end\n    if job.finished_at",
        "    if job.finished_at",
    ),
    (
        "a lock for a time is freed by the end of its job",
        "    if digest and ends ~= 'time' then locks.free",
        "    if digest then locks.free",
    ),
    (
        "a lock is not free at the end of its job",
        "    if digest and ends ~= 'time' then locks.free",
        "    if false then locks.free",
    ),
    (
        "a lock is not free at the start of its job",
        "    if ends == 'start' then locks.free",
        "    if false then locks.free",
    ),
    (
        "any lock is free at the start of its job",
        "    if ends == 'start' then locks.free",
        "    if digest then locks.free",
    ),
    (
        "the fast path claims a job and leaves its lock",
        "'waiting_for', 'start_by', 'unique' }",
        "'waiting_for', 'start_by' }",
    ),
    (
        "the fast path completes a job and leaves its lock",
        "  'schedule', 'unique' }\n\nlocal function write_completed",
        "  'schedule' }\n\nlocal function write_completed",
    ),
    ("a deleted job holds its lock", "  locks.deleted(w, p, id, job)\n", ""),
    (
        "a job frees the lock of another one",
        "    elseif id == holder then\n      redis.call('DEL', key.lock(p, digest))",
        "    else\n      redis.call('DEL', key.lock(p, digest))",
    ),
    (
        "a follower that ended stays named",
        "      redis.call('SET', key.lock(p, digest), holder)\n",
        "",
    ),
    (
        "a follower does not get the lock",
        "      redis.call('SET', key.lock(p, digest), follower)\n      locks.make_ready",
        "      redis.call('DEL', key.lock(p, digest))\n      locks.make_ready",
    ),
    (
        "a follower is not ready at the end of the holder",
        "      locks.make_ready(p, follower)\n",
        "",
    ),
    (
        "nobody is woken for a follower",
        "  w:commit()\n  wake(w, p, { job.queue }, is_claimable)\n  w:commit()\nend\n\nlocal function promote",
        "  w:commit()\nend\n\nlocal function promote",
    ),
    (
        "a follower is ready and delayed",
        "  w:add('ZREM', key.delayed(p, job.queue), id)\n  to_ready(w, p, id, job, 'LPUSH')\n  w:commit()\n  wake",
        "  to_ready(w, p, id, job, 'LPUSH')\n  w:commit()\n  wake",
    ),
    (
        "a job that ended is made ready as a follower",
        "  if not locks.follows(job) then return end\n  w:add",
        "  w:add",
    ),
    (
        "a lock does not name its follower",
        "  w:call('SET', key.lock(p, (locks.of(job))), holder .. ' ' .. id)\n",
        "",
    ),
    (
        "a follower starts after a minute",
        "  if not locks.follows(job) then return false end\n  local digest",
        "  if true then return false end\n  local digest",
    ),
    (
        "a follower waits for ever for a holder that is gone",
        "  if not holder or holder == id then return false end",
        "  if holder == id then return false end",
    ),
    (
        "a follower of a holder that is gone does not get the lock",
        "    locks.take(w, p, id, job)\n    -- Another follower",
        "    -- Another follower",
    ),
    ("a retry by hand does not ask the lock", "  if holder then return { -3, holder } end\n", ""),
    ("a redrive does not ask the lock", " or is_locked_out(w, p, id, job) then", " then"),
    (
        "a redrive runs two jobs with one lock",
        "  w:commit()\n  return locks.conflict(p, id, job) ~= nil",
        "  return locks.conflict(p, id, job) ~= nil",
    ),
    (
        "a job that is retried by hand does not get its lock",
        "  locks.take(w, p, id, job)\n  waits.renew",
        "  waits.renew",
    ),
    (
        "a tick whose job is not added is tried again and again",
        "      if LOCKED[code] then",
        "      if false then",
    ),
    (
        "a tick does not find the lock of the job that it cancels free",
        "  -- Its lock is free once that is written.\n  w:commit()\n",
        "",
    ),
    (
        "an audit does not look at locks",
        "    if what == 'lock' then return examine_lock(p, name) end\n",
        "    if what == 'lock' then return {} end\n",
    ),
    (
        "an audit does not look for jobs without their locks",
        "  if not locks.is_named(p, id, job) then",
        "  if false then",
    ),
    (
        "an audit misses a lock that expires",
        "if (redis.call('PTTL', key.lock(p, digest)) >= 0) ~= (ends == 'time') then",
        "if false then",
    ),
    (
        "an audit misses a follower that is none",
        "    return follower and not (locks.follows(other) and locks.of(other) == digest) and follower or nil",
        "    return other == 0 and follower or nil",
    ),
    (
        "an audit takes a job that started for one without its lock",
        " or (ends == 'start' and job.epoch) then return true end",
        " then return true end",
    ),
    (
        "a replaced job holds its lock as long as before",
        "    job.unique = string.match(extras.unique, '^%S+ %S+')\n    fields[#fields + 1], fields[#fields + 2] = 'unique', job.unique\n",
        "",
    ),
    (
        "a job that replaces another one leaves no idempotency key",
        "  if extras.digest then claim_key(w, p, call, id, extras) end\n  if extras.keep",
        "  if extras.keep",
    ),
    (
        "a job that is replaced is kept no longer than before",
        "    fields[#fields + 1], fields[#fields + 2] = 'keep_until', job.keep_until\n",
        "",
    ),
    ("room is made of jobs that hold a lock", " and not locks.outlives(p, id, job) then", " then"),
    (
        "two jobs whose holders are gone both get the lock",
        "    -- Another follower that is due in this call finds it held.\n    w:commit()\n",
        "",
    ),
    (
        "the second of two jobs with one lock delays the first",
        "tonumber(first[2]) >= queue.due",
        "tonumber(first[2]) > queue.due",
    ),
];
