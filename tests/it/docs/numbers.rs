//! Numbers in the documentation that are constants in the code.

use std::collections::BTreeSet;

use crunch_common::job::Status;

use crate::broker::mutants;
use crate::tree::read;

/// A page, its sentence, the file of the constant, and its definition there.
type Number = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const NUMBERS: &[Number] = &[
    ("docs/api.md", "must arrive within 30 seconds and, after the first 5, at no less than 1 KiB a second",
        "api/src/body.rs", "const BODY_DEADLINE: Duration = Duration::from_secs(30);"),
    ("docs/api.md", "took more than 30 seconds, or arrived more slowly than 1 KiB a second",
        "api/src/body.rs", "const MIN_RATE: u64 = 1024;"),
    ("docs/api.md", "after the first 5, at no less than", "api/src/body.rs", "const RATE_GRACE: Duration = Duration::from_secs(5);"),
    ("docs/api.md", "A payload has at most 256 KiB", "common/src/task.rs", "const DEFAULT_MAX_PAYLOAD: u64 = 256 * 1024;"),
    ("docs/api.md", "nested deeper than 64 levels", "common/src/json.rs", "const MAX_DEPTH: usize = 64;"),
    ("docs/api.md", "names up to 20 places in the body", "api/src/submit/envelope.rs", "const MAX_VIOLATIONS: usize = 20;"),
    ("docs/api.md", "at most 32 keys of 1 to 64 bytes, values of at most 1 KiB", "common/src/job/metadata.rs", "const MAX_KEYS: usize = 32;"),
    ("docs/api.md", "keys of 1 to 64 bytes", "common/src/job/metadata.rs", "const MAX_KEY_BYTES: usize = 64;"),
    ("docs/api.md", "values of at most 1 KiB", "common/src/job/metadata.rs", "const MAX_VALUE_BYTES: usize = 1024;"),
    ("docs/api.md", "at most 96 KiB as JSON", "common/src/job/metadata.rs", "const MAX_WRITTEN_BYTES: usize = 96 * 1024;"),
    ("docs/api.md", "including the first | 1 to 100 |", "common/src/job/limits.rs", "const MAX_ATTEMPTS_LIMIT: u32 = 100;"),
    ("docs/api.md", "the task's, 3 |", "common/src/job/options.rs", "const DEFAULT_MAX_ATTEMPTS: u32 = 3;"),
    ("docs/api.md", "the task's, 10 minutes |", "common/src/job/options.rs", "const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);"),
    ("docs/api.md", "never more than 60:", "api/src/prefer.rs", "const LONGEST: Duration = Duration::from_secs(60);"),
    ("docs/api.md", "the same request is repeated within 24 hours",
        "common/src/broker/new_job.rs", "const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);"),
    ("docs/api.md", "1 to 1000 bodies as for `POST /jobs`, 16 MiB in total", "api/src/submit/batch.rs", "const MAX_BATCH_JOBS: usize = 1000;"),
    ("docs/api.md", "16 MiB in total", "api/src/submit/batch.rs", "const MAX_BATCH_BYTES: u64 = 16 * 1024 * 1024;"),
    ("docs/api.md", "the first hundred rejected lines", "api/src/submit/lines.rs", "const MAX_ERRORS: usize = 100;"),
    ("docs/api.md", "if it is JSON of at most 64 KiB", "common/src/job/payload.rs", "const INLINE_RESULT_MAX_BYTES: usize = 64 * 1024;"),
    ("docs/api.md", "if it is JSON of at most 64 KiB", "common/src/broker/lua/settle.lua", "local INLINE_RESULT_BYTES = 65536"),
    ("docs/api.md", "tried again after 1 to 30 s", "common/src/broker/lua/settle.lua", "math.min(1000 * 2 ^ math.min(times, 10), 30000)"),
    ("docs/api.md", "its handler put it off 1000 times, and then once more", "common/src/broker/lua/settle.lua", "local MAX_SNOOZES = 1000"),
    ("docs/commands.md", "A job may be put off 1000 times", "common/src/broker/lua/settle.lua", "local MAX_SNOOZES = 1000"),
    ("docs/flow.md", "At most 1000 times, and never beyond its deadline", "common/src/broker/lua/settle.lua", "local MAX_SNOOZES = 1000"),
    ("docs/commands.md", "The delay is 0 ms to 366 days", "common/src/job/limits.rs", "const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);"),
    ("docs/api.md", "failed to reach a live worker eight times", "common/src/broker/lua/lifecycle.lua", "local SOLITARY_UNHEARD, MAX_UNHEARD = 3, 8"),
    ("docs/api.md", "lists up to ten attempts", "common/src/broker/lua/lifecycle.lua", "local HISTORY_LINES, HISTORY_BYTES = 10, 16384"),
    ("docs/api.md", "If more than 256 changes happened meanwhile", "common/src/broker/lua/lifecycle.lua", "local EVENTS, EVENT_MESSAGE_BYTES = 256, 180"),
    ("docs/api.md", "The newest 256 lines, at most 64 KiB, are kept", "common/src/broker/lua/report.lua", "local LOG_LINES, LOG_BYTES = 256, 65536"),
    ("docs/api.md", "`limit` 1 to 256, default 100", "api/src/routes/events.rs", "const MAX_LINES: usize = 256;"),
    ("docs/api.md", "`limit` 1 to 256, default 100", "api/src/routes/events.rs", "const DEFAULT_LINES: usize = 100;"),
    ("docs/api.md", "A comment every 15 seconds", "api/src/stream.rs", "const SILENCE: Duration = Duration::from_secs(15);"),
    ("docs/api.md", "only that stream, within 60 seconds", "api/src/auth/ticket.rs", "const LIFE: Duration = Duration::from_secs(60);"),
    ("docs/api.md", "| `limit` | 1 to 100, default 20 |", "api/src/routes/jobs.rs", "const MAX_LIMIT: usize = 100;"),
    ("docs/api.md", "| `limit` | 1 to 100, default 20 |", "api/src/routes/jobs.rs", "const DEFAULT_LIMIT: usize = 20;"),
    ("docs/api.md", "reads no more than 1000 jobs and 5000 queues", "common/src/broker/list.rs", "const LOOKS: usize = 1000;"),
    ("docs/api.md", "a page looks at up to ten thousand jobs", "common/src/broker/list.rs", "const SEARCHED: usize = 10_000;"),
    ("docs/api.md", "Values above 64 bytes are not", "common/src/broker/index.rs", "const MAX_VALUE_BYTES: usize = 64;"),
    ("docs/api.md", "1 to 128 bytes of text without control characters", "common/src/job/group.rs", "const MAX_BYTES: usize = 128;"),
    ("docs/api.md", "1 to 1 000 000 starts in 1 ms to a day", "common/src/broker/group_rule.rs", "const MAX_TIME: Duration = Duration::from_secs(86_400);"),
    ("docs/api.md", "1 to 1 000 000 starts in 1 ms to a day", "common/src/broker/group_rule.rs", "const MAX_STARTS: u32 = 1_000_000;"),
    ("docs/api.md", "0.001 to 1000", "common/src/broker/group_rule.rs", "(0.001..=1000.0).contains(&weight)"),
    ("docs/api.md", "one more gets 409 `too-many-rules`", "common/src/broker/lua/rule.lua", "local RULES_MOST = 1000"),
    ("docs/api.md", "There may be ten thousand", "common/src/broker/schedules.rs", "const MAX_SCHEDULES: u64 = 10_000;"),
    ("docs/api.md", "any JSON of at most 64 KiB | `null`", "common/src/broker/bulk.rs", "const LARGE: usize = 64 * 1024;"),
    ("docs/api.md", "1000 ms to a year | this or `cron`", "common/src/schedule/timing.rs", "const MIN_INTERVAL: Duration = Duration::from_secs(1);"),
    ("docs/api.md", "0 ms to a day | 0 |", "common/src/schedule/timing.rs", "const MAX_JITTER: Duration = Duration::from_secs(24 * 3600);"),
    ("docs/api.md", "1 to 1000; 1000 ms to a year | 100, a day |", "common/src/schedule/missed.rs", "const MAX_TICKS: u32 = 1000;"),
    ("docs/api.md", "1 to 1000; 1000 ms to a year | 100, a day |", "common/src/schedule/missed.rs", "const DEFAULT_TICKS: u32 = 100;"),
    ("docs/api.md", "more than ten seconds late", "common/src/schedule/missed.rs", "const LATE: Duration = Duration::from_secs(10);"),
    ("docs/api.md", "tried again every five seconds", "common/src/broker/lua/schedules.lua", "local HELD_LOOK_MS = 5000"),
    ("docs/api.md", "`{\"from\", \"to\"}`, 1000 at most", "api/src/backfill.rs", "const MAX_TICKS: u64 = 1000;"),
    ("docs/api.md", "with its next ten runs", "api/src/document/schedule.rs", "const NEXT_RUNS: usize = 10;"),
    ("docs/redis-schema.md", "leave a schedule to its caller for two seconds", "api/src/scheduler.rs", "const HOLD: Duration = Duration::from_secs(2);"),
    ("docs/commands.md", "at most three labels", "common/src/task/indexes.rs", "const MAX: usize = 3;"),
    ("docs/api.md", "reads no more than 1000 jobs and 5000 queues", "common/src/broker/list/walk.rs", "const ASKS: usize = 5000;"),
    ("docs/api.md", "from then on 410 for 24 hours", "common/src/broker/lua/lifecycle.lua", "local TOMBSTONE_KEPT_MS = 86400000"),
    ("docs/api.md", "`limit` 1 to 100 000, default 1000", "api/src/routes/queues.rs", "const MAX_REDRIVE: u64 = 100_000;"),
    ("docs/api.md", "`limit` 1 to 100 000, default 1000", "api/src/routes/queues.rs", "const DEFAULT_REDRIVE: u64 = 1000;"),
    ("docs/api.md", "a thousand of each partition at most", "common/src/broker/list/newest.rs", "const RECENT_JOBS: usize = 1000;"),
    ("docs/api.md", "a thousand of each partition at most", "common/src/broker/lua/sweep.lua", "local RECENT_JOBS = 1000"),
    ("docs/api.md", "how many jobs at most, 1 to 5000, default 1000", "api/src/routes/summary.rs", "const MAX_JOBS: u64 = 5000;"),
    ("docs/api.md", "how many jobs at most, 1 to 5000, default 1000", "api/src/routes/summary.rs", "const DEFAULT_JOBS: u64 = 1000;"),
    ("docs/api.md", "search ends after two seconds", "api/src/routes/summary.rs", "const TIME_LIMIT: Duration = Duration::from_secs(2);"),
    ("docs/api.md", "the twenty jobs whose last attempt", "api/src/document/summary.rs", "const MAX_SLOWEST: usize = 20;"),
    ("docs/api.md", "the five most frequent [kinds](#errors) of error", "api/src/document/failures.rs", "const MAX_SHOWN: usize = 5;"),
    ("docs/api.md", "a page looks at 2000 actions at", "api/src/routes/action_log.rs", "const LOOKS: usize = 2000;"),
    ("docs/api.md", "how many jobs at most: 1 to 100 000, default 1000", "api/src/routes/actions.rs", "const MAX_JOBS: u64 = 100_000;"),
    ("docs/api.md", "how many jobs at most: 1 to 100 000, default 1000", "api/src/routes/actions.rs", "const DEFAULT_JOBS: u64 = 1000;"),
    ("docs/api.md", "A request ends after five seconds", "api/src/routes/actions.rs", "const TIME_LIMIT: Duration = Duration::from_secs(5);"),
    ("docs/api.md", "for a week after its last failure", "common/src/broker/lua/errors.lua", "local ERROR_GROUP_KEPT_MS = 604800000"),
    ("docs/api.md", "of a thousand in a partition, further ones", "common/src/broker/lua/errors.lua", "local ERROR_GROUPS, OTHER_GROUP = 1000, 'other'"),
    ("docs/api.md", "the last 300 bytes of their messages", "common/src/job/error/kind.rs", "const MAX_BYTES: usize = 300;"),
    ("docs/api.md", "Of a hundred kinds of a task in a queue", "common/src/broker/lua/errors.lua", "local ERROR_KINDS = 100"),
    ("docs/api.md", "`limit` is 1 to 1000, default 1000", "api/src/routes/paging.rs", "const MAX_LIMIT: usize = 1000;"),
    ("docs/api.md", "when their schemas reach 4 MiB", "api/src/routes/tasks.rs", "const MAX_SCHEMAS: usize = 4 * 1024 * 1024;"),
    ("docs/api.md", "a declaration is kept for 30 days", "common/src/broker/lua/announce.lua", "local TASK_KEPT_MS = 2592000000"),
    ("docs/api.md", "the first thousand delayed jobs", "common/src/broker/queues.rs", "const COUNTED: u64 = 1000;"),
    ("docs/api.md", "among the first twenty", "common/src/broker/queues.rs", "const COUNTED_IN_A_LIST: u64 = 20;"),
    ("docs/api.md", "an hour after it was last used", "common/src/broker/lua/sweep.lua", "local QUEUE_KEPT_MS = 3600000"),
    ("docs/api.md", "until 30 seconds after its last heartbeat", "common/src/broker/lua/core.lua", "local WORKER_KEPT_MS = 30000"),
    ("docs/api.md", "counted among the 5000 with the newest heartbeats", "common/src/broker/fleet.rs", "const MAX_COUNTED: usize = 5000;"),
    ("docs/api.md", "At most 16 such tasks", "worker/src/suspension.rs", "const MAX_LISTED: usize = 16;"),
    ("docs/api.md", "Up to 500 tasks are described", "api/src/openapi/tasks.rs", "const MAX_TASKS: usize = 500;"),
    ("docs/api.md", "with 4 MiB of schemas in total", "api/src/openapi/tasks.rs", "const MAX_SCHEMA_BYTES: usize = 4 * 1024 * 1024;"),
    ("docs/api.md", "from 70 % of its `maxmemory` on", "common/src/broker/lua/sweep.lua", "DEFAULT_LEASE_MS, DEFAULT_WATERMARK = 10000, 70"),
    ("docs/webhooks.md", "Up to four secrets may sign at once", "api/src/webhook/secret.rs", "const MAX: usize = 4;"),
    ("docs/quickstart.md", "or after the given number of seconds, at most 60:", "api/src/prefer.rs", "const LONGEST: Duration = Duration::from_secs(60);"),
    ("docs/quickstart.md", "`Retry-After` is then 5 seconds", "api/src/places.rs", "const LATER: &str = \"5\";"),
    ("docs/quickstart.md", "for 24 hours, the same request with the same key is the same job",
        "common/src/broker/new_job.rs", "const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);"),
    ("docs/quickstart.md", "One request may hold up to 1000 jobs", "api/src/submit/batch.rs", "const MAX_BATCH_JOBS: usize = 1000;"),
    ("docs/quickstart.md", "not JSON or larger than 64 KiB", "common/src/job/payload.rs", "const INLINE_RESULT_MAX_BYTES: usize = 64 * 1024;"),
    ("docs/quickstart.md", "exit code 65 says that the payload is wrong", "worker/src/process/ending.rs", "const EX_DATAERR: i32 = 65;"),
    ("docs/comparison.md", "it runs again after the lease (10 s)", "worker/src/config.rs", "default_value = \"10000\", value_parser = milliseconds(1000..=3_600_000)"),
    ("docs/comparison.md", "only the fifth loss fails a job", "common/src/broker/lua/lifecycle.lua", "local SOLITARY_LOSSES, MAX_LOSSES = 2, 5"),
    ("docs/deployment.md", "6 for handlers and commands to stop, 3 for their outcomes", "worker/src/stop.rs", "const STOP_GRACE: Duration = Duration::from_secs(6);"),
    ("docs/deployment.md", "6 for handlers and commands to stop, 3 for their outcomes", "consumer/src/consumer.rs", "const LAST_EXCHANGE: Duration = Duration::from_secs(3);"),
    ("docs/deployment.md", "`CRUNCH_API_DRAIN_MS`, 5 s for the last requests", "api/src/listener.rs", "const LAST_REQUESTS: u64 = 5;"),
    ("docs/deployment.md", "the API keeps an idle connection for 75 s", "api/src/connections.rs", "const KEEP_ALIVE: Duration = Duration::from_secs(75);"),
    ("docs/deployment.md", "streams send a comment every 15 s", "api/src/stream.rs", "const SILENCE: Duration = Duration::from_secs(15);"),
    ("docs/deployment.md", "that does not answer, both need 2 s more", "otel/src/lib.rs", "const LAST_EXPORT: Duration = Duration::from_secs(2);"),
    ("docs/tracing.md", "exports what is left, for at most two seconds", "otel/src/lib.rs", "const LAST_EXPORT: Duration = Duration::from_secs(2);"),
    ("docs/tracing.md", "512 at once or every five seconds", "otel/src/spans.rs", "const BATCH: usize = 512;"),
    ("docs/tracing.md", "so are new spans while 2048 wait", "otel/src/spans.rs", "const MAX_WAITING: usize = 2048;"),
    ("docs/tracing.md", "of a body of lines, each hundred lines", "api/src/submit/lines.rs", "const GROUP_JOBS: usize = 100;"),
    ("docs/tuning.md", "it claims up to 32 in a call", "common/src/broker/exchange.rs", "pub const MAX_CLAIMS: usize = 32;"),
    ("docs/tuning.md", "A worker reads up to 32 queues in a call", "common/src/broker/exchange.rs", "pub const MAX_QUEUES: usize = 32;"),
    ("docs/tuning.md", "every quarter of a lease and at least every 7.5 s", "consumer/src/heartbeat.rs", "const LONGEST_INTERVAL: Duration = Duration::from_millis(7500);"),
    ("docs/tuning.md", "does not stop within 6 s after a timeout", "worker/src/stop.rs", "const STOP_GRACE: Duration = Duration::from_secs(6);"),
    ("docs/tuning.md", "| 95 % | a result above 64 KiB", "common/src/broker/lua/core.lua", "local MEMORY_ALL_BUT_FULL = 95"),
    ("docs/upgrade.md", "layout of the key space, now 3", "common/src/broker/functions.rs", "const LAYOUT: u64 = 3;"),
    ("docs/upgrade.md", "Every worker declares its tasks again each minute", "consumer/src/announcer.rs", "const INTERVAL: Duration = Duration::from_secs(60);"),
    ("docs/upgrade.md", "that no process has used for an hour", "api/src/functions.rs", "const UNUSED: Duration = Duration::from_secs(3600);"),
    ("docs/upgrade.md", "more than 10 000 tasks are declared", "common/src/broker/lua/announce.lua", "local TASKS_MOST = 10000"),
    ("docs/backup.md", "are listed for up to 30 s", "common/src/broker/lua/core.lua", "local WORKER_KEPT_MS = 30000"),
    ("docs/troubleshooting.md", "66 large bodies at once", "api/src/checks.rs", "const WAITING: usize = 64;"),
    ("ARCHITECTURE.md", "given up after 1.8 s and its size ÷ 512 KiB/s", "common/src/broker.rs", "const CALL_DEADLINE: Duration = Duration::from_millis(1800);"),
    ("ARCHITECTURE.md", "given up after 1.8 s and its size ÷ 512 KiB/s", "common/src/broker/transfer.rs", "const SLOWEST_NETWORK: u64 = 512 * 1024;"),
    ("docs/metrics.md", "at most every two seconds", "api/src/metrics/shared.rs", "const FRESH: Duration = Duration::from_secs(2);"),
    ("docs/metrics.md", "the thousand most recently used queues are shown", "api/src/metrics/shared.rs", "const MAX_QUEUES: usize = 1000;"),
    ("docs/metrics.md", "the first thousand by name are shown", "api/src/metrics/shared.rs", "const MAX_NAMES: usize = 1000;"),
    ("docs/metrics.md", "the 5000 workers with the newest heartbeats", "common/src/broker/fleet.rs", "const MAX_COUNTED: usize = 5000;"),
    ("docs/metrics.md", "thousand pairs of task and queue", "common/src/telemetry/metrics.rs", "const MAX_PAIRS: usize = 1000;"),
];

/// The text with one space between words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn numbers_in_the_documentation_are_those_of_the_code() {
    let mut wrong = Vec::new();
    for (page, sentence, source, definition) in NUMBERS {
        if !read(source).contains(definition) {
            wrong.push(format!(
                "{source} does not contain `{definition}`; {page} contains {sentence:?}"
            ));
        }
        let text = words(&read(page)).to_lowercase();
        if !text.contains(&sentence.to_lowercase()) {
            wrong.push(format!("{page} does not contain {sentence:?}, for {definition}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_number_of_mutants_is_the_documented_one() {
    let page = words(&read("docs/reliability.md"));
    let expected = format!("breaks the functions in {} ways", mutants::count());
    assert!(page.contains(&expected), "docs/reliability.md does not contain: {expected}");
    let script = read("script/mutants");
    let is_mutant = |line: &&str| line.starts_with("    of_") || *line == "    Mutant(";
    let expected = format!("in {} ways and runs", script.lines().filter(is_mutant).count());
    assert!(page.contains(&expected), "docs/reliability.md does not contain: {expected}");
}

#[test]
fn the_table_of_statuses_matches_the_code() {
    let page = read("docs/api.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    for status in Status::ALL {
        let named = |row: &(&str, &str)| row.0 == status.as_str();
        let (_, row) = rows.clone().find(named).expect("each status has a row");
        let (_, next) = row.split_once(" | ").unwrap();
        let documented: BTreeSet<_> = next.split('`').skip(1).step_by(2).collect();
        let allowed = Status::ALL.into_iter().filter(|&next| status.can_become(next));
        assert_eq!(documented, allowed.map(Status::as_str).collect(), "after {status}");
    }
}
