//! Error groups, and the list of the newest jobs.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    ("the newest jobs are not listed", "  w:add('LPUSH', key.recent(p), id)\n", ""),
    (
        "a job that is submitted alone is not among the newest",
        "  call('LPUSH', key.recent(p), id)\n",
        "",
    ),
    (
        "the list of the newest jobs grows for ever",
        "  w:call('LTRIM', key.recent(p), 0, RECENT_JOBS - 1)\n",
        "",
    ),
    ("the oldest of the newest jobs are kept", "0, RECENT_JOBS - 1)", "-RECENT_JOBS, -1)"),
    (
        "a failed attempt that is retried is not counted",
        "CANCELED) end\n  errors.count(w, p, now, id, job, error, kind)\n",
        "CANCELED) end\n",
    ),
    ("failures of one call are counted once", "write.count + 1", "1"),
    ("an error group is not listed", "w:add('ZADD', key.errors(p), int(now), group)", ""),
    (
        "a failed job is in no error group",
        "  w:add('ZADD', key.error_jobs(p, group), job.finished_at, id)\n",
        "",
    ),
    (
        "a job that runs again stays in its error group",
        "  errors.leave(w, p, id, job)\n  w:call('HDEL'",
        "  w:call('HDEL'",
    ),
    (
        "a job that runs again keeps the name of its error group",
        "{ 'error', 'error_group', 'result'",
        "{ 'error', 'result'",
    ),
    (
        "a deleted job stays in its error group",
        "  errors.leave(w, p, id, job)\n  indexes.leave(",
        "  indexes.leave(",
    ),
    (
        "an expired job stays in its error group",
        "if any_failed then errors.leave(",
        "if false then errors.leave(",
    ),
    ("any number of error groups is kept", ">= ERROR_GROUPS then", ">= math.huge then"),
    ("any number of kinds of one task is kept", "< ERROR_KINDS\n", "< math.huge\n"),
    ("kinds of errors are counted for ever", "w:call('HINCRBY', family, 'kinds', -1)", ""),
    ("the count of a task's kinds is never removed", "      w:call('DEL', family)\n", ""),
    (
        "a known kind of errors loses its group at the limit",
        "    if exists(w, p, group) then return group end\n    local is_kind",
        "    local is_kind",
    ),
    (
        "failures of one kind in one call are several kinds of their task",
        "return w.failures[group] ~= nil or redis.call(",
        "return redis.call(",
    ),
    (
        "an error group is removed while it has jobs",
        "KEPT_MS and redis.call('EXISTS', key.error_jobs(p, group)) == 0 then",
        "KEPT_MS then",
    ),
    ("an error group is removed at once", "now - last >= ERROR_GROUP_KEPT_MS", "true"),
    ("error groups stay for ever", "int(errors.tidy(w, p, now, num(state.errors)))", "'0'"),
    ("errors of all kinds are one group", ".. task .. '\\n' .. kind), 1", ".. task), 1"),
    ("errors of all queues are one group", "sha1hex(queue .. '\\n' .. task", "sha1hex(task"),
    ("errors of the functions are one kind", "kind or errors.kind_of(error)", "kind or 'none'"),
    (
        "an audit overlooks a job that is missing from its error group",
        "if group and not is_in_group(p, group, id) then",
        "if false then",
    ),
    (
        "an audit overlooks a job in the error group of others",
        "return group and not own and is_in_group",
        "return false and is_in_group",
    ),
    (
        "an audit overlooks an error group that is not listed",
        "if last and not listed then",
        "if false then",
    ),
];
