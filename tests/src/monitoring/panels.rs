//! The table of the dashboard: rows, their panels, and the queries of each.
//!
//! `$queue` is what the viewer chose, `$__rate_interval` what Grafana computes from the scrape interval. Every API exports
//! the same state of queues and workers, so those are combined with `max`, and never summed.

/// A row of panels.
#[derive(Debug)]
pub struct Row {
    /// Its title.
    pub title: &'static str,
    /// Its panels; three are beside each other, or eight with one number each.
    pub panels: &'static [Panel],
}

/// A panel.
#[derive(Debug)]
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    /// What to look for.
    pub help: &'static str,
    /// The unit of its values, as Grafana names it.
    pub unit: &'static str,
    /// Whether it shows the last value only, as a number.
    pub is_number: bool,
    /// Its queries.
    pub queries: &'static [Query],
}

/// A query, and how its series are called.
#[derive(Debug)]
pub struct Query {
    /// The query.
    pub text: &'static str,
    /// The name of its series, with their labels.
    pub legend: &'static str,
}

const fn query(text: &'static str, legend: &'static str) -> Query {
    Query { text, legend }
}

const fn chart(
    title: &'static str,
    help: &'static str,
    unit: &'static str,
    queries: &'static [Query],
) -> Panel {
    Panel { title, help, unit, is_number: false, queries }
}

const fn number(
    title: &'static str,
    help: &'static str,
    unit: &'static str,
    queries: &'static [Query],
) -> Panel {
    Panel { title, help, unit, is_number: true, queries }
}

/// The whole dashboard.
pub const PANELS: &[Row] = &[
    Row {
        title: "Now",
        panels: &[
            number(
                "Redis",
                "1 if every API can use Redis",
                "none",
                &[query("min(crunch_redis_up)", "up")],
            ),
            number(
                "Memory of Redis",
                "From 70 % on, submissions are rejected",
                "percentunit",
                &[query(
                    "max(crunch_redis_memory_bytes / crunch_redis_memory_limit_bytes)",
                    "of its limit",
                )],
            ),
            number(
                "Oldest waiting job",
                "Over all queues",
                "s",
                &[query("max(crunch_queue_oldest_age_seconds)", "age")],
            ),
            number(
                "Waiting jobs",
                "That could run now",
                "short",
                &[query("sum(max by (queue) (crunch_queue_jobs{state=\"queued\"}))", "queued")],
            ),
            number(
                "Failed jobs",
                "That failed for good and are kept",
                "short",
                &[query("sum(max by (queue) (crunch_queue_jobs{state=\"failed\"}))", "failed")],
            ),
            number(
                "Workers",
                "Live workers",
                "short",
                &[query("max(crunch_fleet_workers)", "workers")],
            ),
            number(
                "Busy slots",
                "At 100 %, jobs wait for slots",
                "percentunit",
                &[query("max(crunch_fleet_slots_busy) / max(crunch_fleet_slots)", "busy")],
            ),
            number(
                "Requests that fail",
                "With 5xx, in the last five minutes",
                "percentunit",
                &[query(
                    "sum(rate(crunch_http_request_duration_seconds_count{status=~\"5..\",route!~\"/livez|/readyz\"}[5m])) \
                     / sum(rate(crunch_http_request_duration_seconds_count{route!~\"/livez|/readyz\"}[5m])) or vector(0)",
                    "5xx",
                )],
            ),
        ],
    },
    Row {
        title: "Queues",
        panels: &[
            chart(
                "Age of the oldest waiting job",
                "The best sign of too few workers",
                "s",
                &[query(
                    "max by (queue) (crunch_queue_oldest_age_seconds{queue=~\"$queue\"})",
                    "{{queue}}",
                )],
            ),
            chart(
                "Waiting jobs",
                "That could run now",
                "short",
                &[query(
                    "max by (queue) (crunch_queue_jobs{state=\"queued\",queue=~\"$queue\"})",
                    "{{queue}}",
                )],
            ),
            chart(
                "Scheduled and retrying jobs",
                "That wait for their time or their next attempt",
                "short",
                &[query(
                    "max by (queue) (crunch_queue_jobs{state=\"delayed\",queue=~\"$queue\"})",
                    "{{queue}}",
                )],
            ),
            chart(
                "Running jobs",
                "",
                "short",
                &[query(
                    "max by (queue) (crunch_queue_jobs{state=\"running\",queue=~\"$queue\"})",
                    "{{queue}}",
                )],
            ),
            chart(
                "Failed jobs",
                "A line that rises: see the errors, GET /errors",
                "short",
                &[query(
                    "max by (queue) (crunch_queue_jobs{state=\"failed\",queue=~\"$queue\"})",
                    "{{queue}}",
                )],
            ),
            chart(
                "Workers of each queue, and paused queues",
                "A queue with 0 workers runs nothing",
                "short",
                &[
                    query("max by (queue) (crunch_queue_workers{queue=~\"$queue\"})", "{{queue}}"),
                    query(
                        "max by (queue) (crunch_queue_paused{queue=~\"$queue\"}) == 1",
                        "{{queue}} is paused",
                    ),
                ],
            ),
        ],
    },
    Row {
        title: "Jobs",
        panels: &[
            chart(
                "Submitted jobs",
                "Per second",
                "ops",
                &[query(
                    "sum by (task) (rate(crunch_jobs_submitted_total{queue=~\"$queue\"}[$__rate_interval]))",
                    "{{task}}",
                )],
            ),
            chart(
                "Ended jobs",
                "Per second",
                "ops",
                &[query(
                    "sum by (status) (rate(crunch_jobs_finished_total{queue=~\"$queue\"}[$__rate_interval]))",
                    "{{status}}",
                )],
            ),
            chart(
                "Attempts that did not succeed",
                "Per second: failed and tried again, failed for good, lost with their lease, released",
                "ops",
                &[query(
                    "sum by (task, outcome) \
                     (rate(crunch_attempts_total{outcome!=\"succeeded\",queue=~\"$queue\"}[$__rate_interval]))",
                    "{{task}} {{outcome}}",
                )],
            ),
            chart(
                "How long attempts take",
                "By task; needs the metrics of workers",
                "s",
                &[
                    query(
                        "histogram_quantile(0.5, sum by (task, le) \
                         (rate(crunch_job_run_seconds_bucket{queue=~\"$queue\"}[$__rate_interval])))",
                        "{{task}} p50",
                    ),
                    query(
                        "histogram_quantile(0.95, sum by (task, le) \
                         (rate(crunch_job_run_seconds_bucket{queue=~\"$queue\"}[$__rate_interval])))",
                        "{{task}} p95",
                    ),
                ],
            ),
            chart(
                "How long jobs wait for a slot",
                "By queue; needs the metrics of workers",
                "s",
                &[
                    query(
                        "histogram_quantile(0.5, sum by (queue, le) \
                         (rate(crunch_job_wait_seconds_bucket{queue=~\"$queue\"}[$__rate_interval])))",
                        "{{queue}} p50",
                    ),
                    query(
                        "histogram_quantile(0.95, sum by (queue, le) \
                         (rate(crunch_job_wait_seconds_bucket{queue=~\"$queue\"}[$__rate_interval])))",
                        "{{queue}} p95",
                    ),
                ],
            ),
            chart(
                "Slots that tasks keep busy",
                "The attempts that ended in this time, in slots",
                "short",
                &[query(
                    "sum by (task) (rate(crunch_job_run_seconds_sum{queue=~\"$queue\"}[$__rate_interval]))",
                    "{{task}}",
                )],
            ),
        ],
    },
    Row {
        title: "Workers",
        panels: &[
            chart(
                "Slots of all workers",
                "Where both lines meet, jobs wait for slots",
                "short",
                &[
                    query("max(crunch_fleet_slots)", "slots"),
                    query("max(crunch_fleet_slots_busy)", "busy"),
                    query("max(crunch_fleet_workers)", "workers"),
                ],
            ),
            chart(
                "Busy slots by host",
                "The share of the slots of each host",
                "percentunit",
                &[query(
                    "max by (host) (crunch_host_slots_busy) / max by (host) (crunch_host_slots)",
                    "{{host}}",
                )],
            ),
            chart(
                "Busy slots of each worker",
                "Of workers with a health port",
                "percentunit",
                &[query("crunch_worker_slots_busy / crunch_worker_slots", "{{instance}}")],
            ),
            chart(
                "Suspended tasks",
                "How many workers cannot run a task on their machine",
                "short",
                &[query("max by (task) (crunch_task_suspended_workers)", "{{task}}")],
            ),
            chart(
                "Jobs taken back from silent workers",
                "And outcomes that came too late, answers of children to nothing, and jobs that did not start in time; each in a minute",
                "short",
                &[
                    query("sum(increase(crunch_leases_lost_total[1m]))", "leases lost"),
                    query("sum(increase(crunch_stale_settlements_total[1m]))", "late outcomes"),
                    query("sum(increase(crunch_worker_ignored_answers_total[1m]))", "late answers"),
                    query("sum(increase(crunch_jobs_expired_total[1m]))", "expired jobs"),
                ],
            ),
            chart(
                "Groups that wait",
                "Groups with jobs, by what they wait for: a turn, their rate, or the end of one of their jobs",
                "short",
                &[query("max by (queue, state) (crunch_queue_groups)", "{{queue}} {{state}}")],
            ),
            chart(
                "Unique jobs and schedules",
                "Submissions whose lock another job held, and ticks of schedules; each in a minute",
                "short",
                &[
                    query(
                        "sum by (outcome) (increase(crunch_submissions_conflicting_total[1m]))",
                        "conflict: {{outcome}}",
                    ),
                    query(
                        "sum by (outcome) (increase(crunch_schedule_ticks_total[1m]))",
                        "tick: {{outcome}}",
                    ),
                ],
            ),
            chart(
                "Versions",
                "Processes of each version",
                "short",
                &[query("count by (job, version) (crunch_build_info)", "{{job}} {{version}}")],
            ),
        ],
    },
    Row {
        title: "API",
        panels: &[
            chart(
                "Requests",
                "Per second, by status",
                "reqps",
                &[query(
                    "sum by (status) \
                     (rate(crunch_http_request_duration_seconds_count[$__rate_interval]))",
                    "{{status}}",
                )],
            ),
            chart(
                "Duration of submissions",
                "Until the response begins; includes waiting, where a request asks for it",
                "s",
                &[
                    query(
                        "histogram_quantile(0.5, sum by (le) \
                         (rate(crunch_http_request_duration_seconds_bucket{method=\"POST\"}[$__rate_interval])))",
                        "p50",
                    ),
                    query(
                        "histogram_quantile(0.99, sum by (le) \
                         (rate(crunch_http_request_duration_seconds_bucket{method=\"POST\"}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
            chart(
                "Requests rejected at a limit",
                "Each in a minute, by the limit",
                "short",
                &[query("sum by (sum) (increase(crunch_http_refused_total[1m]))", "{{sum}}")],
            ),
            chart(
                "Waiting clients",
                "Which wait for a job, or read its events",
                "short",
                &[query("sum by (instance) (crunch_http_waiting)", "{{instance}}")],
            ),
            chart(
                "Webhooks",
                "Attempts to deliver one, per second",
                "ops",
                &[
                    query(
                        "sum by (outcome) (rate(crunch_webhook_deliveries_total[$__rate_interval]))",
                        "{{outcome}}",
                    ),
                    query("max(crunch_webhooks_up)", "an API can deliver"),
                ],
            ),
        ],
    },
    Row {
        title: "Redis",
        panels: &[
            chart(
                "Memory",
                "Of each node, and its limit",
                "bytes",
                &[
                    query("max by (node) (crunch_redis_memory_bytes)", "{{node}}"),
                    query("max by (node) (crunch_redis_memory_limit_bytes)", "limit of {{node}}"),
                ],
            ),
            chart(
                "Whether it can be used",
                "By each API, and whether its disk accepts writes",
                "short",
                &[
                    query("crunch_redis_up", "{{instance}}"),
                    query("min by (node) (crunch_redis_disk_ok)", "disk of {{node}}"),
                ],
            ),
            chart(
                "Connections that were opened",
                "Each in a minute; more than a few are reconnections",
                "short",
                &[query(
                    "sum by (job, outcome) (increase(crunch_redis_connects_total[1m]))",
                    "{{job}} {{outcome}}",
                )],
            ),
        ],
    },
];
