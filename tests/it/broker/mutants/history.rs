//! The history, and what operators request of workers.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    (
        "what an operator requested is not kept",
        "  w:call('HSET', key.worker(p, worker), 'wanted', argv[2])\n",
        "",
    ),
    (
        "a worker that is not known gets requests",
        "  if redis.call('HEXISTS', key.worker(p, worker), 'info') == 0 then return 0 end\n",
        "",
    ),
    ("a worker does not learn what was requested", "known[4] or ''", "''"),
    (
        "a worker is not asked for a heartbeat",
        "  redis.pcall('SPUBLISH', key.control(p, worker), 'heartbeat')\n",
        "",
    ),
    ("counts that are sent again are added again", "num(number) > num(known[3])", "true"),
    (
        "counts that may have been added are added",
        "(known[1] or number == '1') and num(number)",
        "num(number)",
    ),
    ("the first counts of a worker are left out", "(known[1] or number == '1')", "known[1]"),
    (
        "the number of counts is not kept",
        "  w:call('HSET', key.worker(p, worker), 'counted', number)\n",
        "",
    ),
    (
        "counts replace those of the same minute",
        "sum((redis.call('HGET', span.key, field) or '') .. counts)",
        "sum(counts)",
    ),
    (
        "a series of one call replaces another",
        "(added[field] or '') .. ' ' .. counts",
        "' ' .. counts",
    ),
    ("attempts are not added up", "(sums[number] or 0) + tonumber(count)", "tonumber(count)"),
    ("the longest durations are left out", "local COUNTS = 29", "local COUNTS = 9"),
    ("an hour has any number of series", "if known + new.count >= MOST then return OTHER end", ""),
    (
        "the series of one call are not counted",
        "new[name], new.count = true, new.count + 1",
        "new[name] = true",
    ),
    (
        "attempts of an hour are not kept",
        "      w:call('PEXPIRE', span.key, int(span.kept_ms))\n",
        "",
    ),
    ("minutes are kept as long as hours", "kept_ms = 259200000", "kept_ms = 7776000000"),
    ("hours are kept as long as minutes", "kept_ms = 7776000000", "kept_ms = 259200000"),
    ("a minute is sampled repeatedly", "  if history.is_sampled(p, now) then return 0 end\n", ""),
    (
        "samples of minutes stay for ever",
        "    w:call('PEXPIRE', minute.key, int(minute.kept_ms))\n",
        "",
    ),
    ("samples of hours stay for ever", "    w:call('PEXPIRE', hour.key, int(hour.kept_ms))\n", ""),
    (
        "the hour has the last depths",
        "highest(redis.call('HGET', hour.key, queue) or '', numbers)",
        "numbers",
    ),
];
