//! Jobs that must start in time, and jobs that their handler puts off.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    (
        "a claim starts a job that is too late",
        "if ends == 'canceled' and limit <= now then",
        "if false then",
    ),
    (
        "the fast path starts a job that is too late",
        "'waiting_for', 'start_by', 'unique' }",
        "'waiting_for', 'unique' }",
    ),
    (
        "a job that did not start in time fails",
        "      if status == 'canceled' then",
        "      if false then",
    ),
    (
        "a job that started must start in time again",
        "    if job.start_by then return 'start_by', (",
        "    if false then return 'start_by', (",
    ),
    (
        "a job whose worker died must start in time again",
        "    if outcome == 'lost' then",
        "    if false then",
    ),
    (
        "a job that ran and was released must start in time again",
        "'settled_epoch', job.epoch, 'history', history, waits.started(job))\nend\n\ndo",
        "'settled_epoch', job.epoch, 'history', history)\nend\n\ndo",
    ),
    (
        "a job that was put off must start in time again",
        "'history', history, waits.started(job))\n  end\n",
        "'history', history)\n  end\n",
    ),
    (
        "the delay of a job is part of its time to start",
        "due or call.time, extras",
        "call.time, extras",
    ),
    (
        "a job that is retried by hand has no new time to start",
        "    job.start_by = waits.start_by(now, ms)\n",
        "",
    ),
    (
        "an ended job keeps its time to start",
        "if job.deadline or job.start_by then",
        "if job.deadline then",
    ),
    (
        "a job that succeeds keeps its time to start",
        "COMPLETED_OPTIONAL = { 'deadline', 'start_by', ",
        "COMPLETED_OPTIONAL = { 'deadline', ",
    ),
    (
        "a sweep looks at a job that started again and again",
        "then return tonumber(job.deadline or nil) end",
        "then return waits.limit(job) end",
    ),
    (
        "a job that a worker could not run is not looked at again",
        "    waits.list_again(w, p, id, job)\n    return release_later",
        "    return release_later",
    ),
    (
        "a job that no worker received is not looked at again",
        "      waits.list_again(w, p, id, job)\n      to_ready",
        "      to_ready",
    ),
    (
        "the later of deadline and time to start counts",
        "start_by < deadline",
        "start_by > deadline",
    ),
    (
        "jobs that expire in a claim are not counted",
        "  count_ended(w, p, now)\n  w:commit()\n  return call.want > 0 and",
        "  w:commit()\n  return call.want > 0 and",
    ),
    ("a sweep does not count jobs that expire", "swept.expired = swept.expired + 1", ""),
    ("a sweep does not count missed deadlines", "swept.overdue = swept.overdue + 1", ""),
    ("a time to start is no feature", "    use_feature(w, p, 'expiry')\n", ""),
    (
        "an audit misses a time to start that is not listed",
        " or (job.status ~= 'running' and waits.limit(job))",
        "",
    ),
    (
        "an audit reports jobs that started",
        "(job.deadline or job.start_by) and not RETENTION_MS",
        "job.deadline and not RETENTION_MS",
    ),
    (
        "a snooze is charged",
        "  uncharge(job)\n    job.waiting_for = int(",
        "  job.waiting_for = int(",
    ),
    ("the number of snoozes has no limit", "if snoozes > MAX_SNOOZES then", "if false then"),
    ("a snooze ends after the deadline", "due >= num(job.deadline)", "now >= num(job.deadline)"),
    (
        "a snooze wins over a cancel",
        "function settle.snooze(w, p, id, job, now, delay)\n    if job.cancel_requested",
        "function settle.snooze(w, p, id, job, now, delay)\n    if false",
    ),
    ("a snooze leaves no attempt", "history_with(p, id, job, now, 'snoozed')", "''"),
    (
        "a job that is retried by hand keeps its snoozes",
        "'waiting_for', 'unheard', 'snoozes' }",
        "'waiting_for', 'unheard' }",
    ),
    ("a job that was put off does not say so", " .. ' snooze '", " .. ' machine '"),
];
