//! Parked jobs, and jobs with a deadline.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    (
        "a job whose task a worker lacks is not parked",
        "  if task then\n    to_ready",
        "  if false then\n    to_ready",
    ),
    ("every worker claims parked jobs", "if can_run(batch, task) then", "if true then"),
    (
        "no worker claims parked jobs",
        "if can_run(batch, task) then tasks[#tasks + 1] = task end",
        "",
    ),
    ("a lane of parked jobs is not listed", "  self:add('SADD', key.parked(p, queue), task)\n", ""),
    (
        "parking wakes no worker",
        "has_ready(p, queue) or w.parked[queue] or has_parked_for",
        "has_ready(p, queue) or has_parked_for",
    ),
    (
        "parked jobs that are left wake no worker",
        "has_ready(p, queue) or w.parked[queue] or has_parked_for(p, call, queue)",
        "has_ready(p, queue) or w.parked[queue]",
    ),
    (
        "a parked job that was delayed is no longer parked",
        "'unheard', 'waiting_for', 'watched', 'group' }",
        "'unheard', 'watched', 'group' }",
    ),
    ("parked tasks take no turns", "(at + batch.number) % #tasks + 1", "at"),
    (
        "the number of parked tasks has no limit",
        "if redis.call('SCARD', parked) < PARKED_TASKS or",
        "if true or",
    ),
    (
        "a job that is retried by hand stays parked",
        "  else\n    job.waiting_for = nil\n  end\n  job.status",
        "  end\n  job.status",
    ),
    (
        "a purge leaves parked jobs",
        "for _, lane in ipairs(all_lanes(p, queue)) do\n    if call.looks",
        "for _, lane in ipairs({ SOLITARY, unpack(LANES) }) do\n    if call.looks",
    ),
    (
        "a sweep leaves ghosts in the ready list",
        "if dropped > 0 then w:call('RPOP', name, dropped) end\n  return dropped",
        "return dropped",
    ),
    (
        "a sweep drops ids that are not ghosts",
        "      if redis.call('SISMEMBER', ghosts, ids[at]) == 0 then\n        continues = false\n        break\n      end\n",
        "",
    ),
    (
        "a sweep leaves ghosts of parked jobs",
        "for at, task in ipairs(lanes[1] and tasks or NONE) do",
        "for at, task in ipairs(NONE) do",
    ),
    (
        "empty lanes of parked jobs stay listed",
        "then w:add('SREM', key.parked(p, queue), task) end",
        "then end",
    ),
    (
        "a queue with parked jobs is not a side queue",
        "names[#names + 3] = key.delayed(p, queue), key.parked(p, queue),",
        "names[#names + 3] = key.delayed(p, queue), key.delayed(p, queue),",
    ),
    (
        "a sweep wakes no worker for parked jobs",
        " or has_parked(p, queue)) and not is_paused",
        ") and not is_paused",
    ),
    (
        "a queue of parked jobs is removed",
        "    key.parked(p, queue), key.delayed(p, queue), key.running",
        "    key.delayed(p, queue), key.running",
    ),
    (
        "an audit misses lanes that are not listed",
        "if task and redis.call('SISMEMBER', key.parked(p, job.queue), task) == 0 then",
        "if false then",
    ),
    (
        "a deadline is not listed",
        "  waits.list(w, p, id, job)\n  if job.indexes",
        "  if job.indexes",
    ),
    ("a deadline is not listed as due", "    w:due(p, job.queue, limit)\n", ""),
    ("an ended job keeps its deadline", "  waits.remove(w, p, id, job)\n", ""),
    (
        "a job that succeeds keeps its deadline",
        "COMPLETED_OPTIONAL = { 'deadline', ",
        "COMPLETED_OPTIONAL = { ",
    ),
    (
        "a job that is retried by hand has no deadline",
        "  waits.list(w, p, id, job)\n  local is_ghost",
        "  local is_ghost",
    ),
    (
        "a running job fails at its deadline",
        "    elseif job.status == 'running' then",
        "    elseif false then",
    ),
    (
        "a job that is lost after its deadline does not fail",
        "      w:add('ZADD', name, int(now + OVERDUE_LOOK_MS), id)\n",
        "      w:add('ZREM', name, id)\n",
    ),
    (
        "a job that missed its deadline stays in its list",
        "      remove_waiting(w, p, id, job)\n      if status == 'canceled' then",
        "      if status == 'canceled' then",
    ),
    (
        "a visit does not list the next deadline as due",
        "key.running(p, queue), key.delayed(p, queue), key.deadlines(p, queue), key",
        "key.running(p, queue), key.delayed(p, queue), key",
    ),
    (
        "an audit misses a deadline that is not listed",
        "if may_end and not is_in(p, job.queue, 'deadlines', id) then",
        "if false then",
    ),
    (
        "an audit accepts any listed deadline",
        "(set == 'deadlines' and (job.deadline or job.start_by) and not RETENTION_MS[job.status])",
        "set == 'deadlines'",
    ),
    (
        "an audit reports ghosts of failed jobs",
        " or (job.status == 'failed' and is_in(p, job.queue, 'ghosts', id))",
        "",
    ),
];
