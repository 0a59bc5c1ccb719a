//! The table of alarms. Each is something that a person must act on, and has a section in `docs/operations.md`.
//!
//! Every API exports the same state of queues and workers, so those are combined with `max` or `min`, and never summed.

/// How soon a person must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// At once, also at night: jobs are not accepted or do not run.
    Critical,
    /// On the same day.
    Warning,
}

impl Severity {
    /// The value of the label `severity`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// An alarm.
#[derive(Debug)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// The heading of its section in `docs/operations.md`.
    pub section: &'static str,
    /// How soon a person must act.
    pub severity: Severity,
    /// The condition.
    pub query: &'static str,
    /// How long the condition holds before the alarm fires, as Prometheus writes durations; `0m`: at once.
    pub holds_for: &'static str,
    /// What is wrong, in a line, with the labels of the query.
    pub summary: &'static str,
    /// When it fires, and when it has not yet.
    pub fires: Example,
    /// What looks alike and is none of its business: it never fires.
    pub is_silent: Example,
}

/// Series of which promtool makes one sample a minute.
#[derive(Debug)]
pub struct Example {
    /// Each with its values, in promtool's notation.
    pub series: &'static [(&'static str, &'static str)],
    /// The minute in which nothing fires yet.
    pub before: u32,
    /// A later minute, in which it fires, or in a silent example does not.
    pub at: u32,
}

/// Every alarm, those that concern most clients first.
pub const ALERTS: &[Alert] = &[
    Alert {
        name: "CrunchApiGone",
        section: "No API can be reached",
        severity: Severity::Critical,
        query: "absent(crunch_redis_up)",
        holds_for: "2m",
        summary: "Prometheus gets metrics from no API",
        fires: Example {
            series: &[(r#"crunch_redis_up{instance="a"}"#, "1x5 stale")],
            before: 7,
            at: 12,
        },
        is_silent: Example {
            series: &[
                (r#"crunch_redis_up{instance="a"}"#, "1x5 stale"),
                (r#"crunch_redis_up{instance="b"}"#, "1x30"),
            ],
            before: 0,
            at: 30,
        },
    },
    Alert {
        name: "CrunchRedisDown",
        section: "Redis does not answer, or accepts no writes",
        severity: Severity::Critical,
        query: "crunch_redis_up == 0",
        holds_for: "1m",
        summary: "The API {{ $labels.instance }} cannot use Redis",
        fires: Example {
            series: &[
                (r#"crunch_redis_up{instance="a"}"#, "1x5 0x20"),
                (r#"crunch_redis_up{instance="b"}"#, "1x30"),
            ],
            before: 5,
            at: 8,
        },
        is_silent: Example {
            series: &[(r#"crunch_redis_up{instance="a"}"#, "1x5 0 1x20")],
            before: 6,
            at: 8,
        },
    },
    Alert {
        name: "CrunchRedisMemoryHigh",
        section: "The memory of Redis is nearly full",
        severity: Severity::Warning,
        query: "max by (node) (crunch_redis_memory_bytes / crunch_redis_memory_limit_bytes) > 0.65",
        holds_for: "5m",
        summary: "Redis ({{ $labels.node }}) uses {{ $value | humanizePercentage }} of its memory; from 70 % on, \
                  submissions are rejected",
        fires: Example {
            series: &[
                (r#"crunch_redis_memory_bytes{node="redis"}"#, "50x5 66x30"),
                (r#"crunch_redis_memory_limit_bytes{node="redis"}"#, "100x35"),
            ],
            before: 10,
            at: 12,
        },
        // Without a limit there is no share of it.
        is_silent: Example {
            series: &[
                (r#"crunch_redis_memory_bytes{node="a"}"#, "66x30"),
                (r#"crunch_redis_memory_bytes{node="b"}"#, "64x30"),
                (r#"crunch_redis_memory_limit_bytes{node="b"}"#, "100x30"),
            ],
            before: 0,
            at: 30,
        },
    },
    Alert {
        name: "CrunchRedisDiskFailing",
        section: "Redis cannot write to its disk",
        severity: Severity::Critical,
        query: "min by (node) (crunch_redis_disk_ok) == 0",
        holds_for: "1m",
        summary: "Redis ({{ $labels.node }}) could not write to its disk",
        fires: Example {
            series: &[(r#"crunch_redis_disk_ok{node="redis"}"#, "1x5 0x20")],
            before: 5,
            at: 8,
        },
        is_silent: Example {
            series: &[(r#"crunch_redis_disk_ok{node="redis"}"#, "1x5 0 1x20")],
            before: 6,
            at: 8,
        },
    },
    Alert {
        name: "CrunchServerErrors",
        section: "Requests fail with 5xx",
        severity: Severity::Critical,
        query: "sum(rate(crunch_http_request_duration_seconds_count{status=~\"5..\",route!~\"/livez|/readyz\"}[5m])) \
                / sum(rate(crunch_http_request_duration_seconds_count{route!~\"/livez|/readyz\"}[5m])) > 0.01",
        holds_for: "5m",
        summary: "{{ $value | humanizePercentage }} of all requests fail with 5xx",
        fires: Example {
            series: &[
                (
                    r#"crunch_http_request_duration_seconds_count{route="/jobs",status="202"}"#,
                    "0+90x40",
                ),
                (
                    r#"crunch_http_request_duration_seconds_count{route="/jobs",status="503"}"#,
                    "0x10 0+10x30",
                ),
            ],
            before: 14,
            at: 20,
        },
        is_silent: Example {
            series: &[
                (
                    r#"crunch_http_request_duration_seconds_count{route="/jobs",status="202"}"#,
                    "0+100x40",
                ),
                (
                    r#"crunch_http_request_duration_seconds_count{route="/jobs",status="404"}"#,
                    "0+100x40",
                ),
                (
                    r#"crunch_http_request_duration_seconds_count{route="/readyz",status="503"}"#,
                    "0+100x40",
                ),
            ],
            before: 0,
            at: 40,
        },
    },
    Alert {
        name: "CrunchQueueWithoutWorkers",
        section: "A queue has no workers",
        severity: Severity::Critical,
        query: "max by (queue) (crunch_queue_jobs{state=\"queued\"}) > 0 \
                and on (queue) max by (queue) (crunch_queue_workers) == 0",
        holds_for: "2m",
        summary: "{{ $value }} jobs wait in the queue {{ $labels.queue }}, and no worker claims from it",
        fires: Example {
            series: &[
                (r#"crunch_queue_jobs{queue="q",state="queued"}"#, "3x30"),
                (r#"crunch_queue_workers{queue="q"}"#, "1x5 0x25"),
            ],
            before: 6,
            at: 9,
        },
        is_silent: Example {
            series: &[
                (r#"crunch_queue_jobs{queue="empty",state="queued"}"#, "0x30"),
                (r#"crunch_queue_workers{queue="empty"}"#, "0x30"),
                (r#"crunch_queue_jobs{queue="served",state="queued"}"#, "3x30"),
                (r#"crunch_queue_workers{queue="served"}"#, "1x30"),
            ],
            before: 0,
            at: 30,
        },
    },
    Alert {
        name: "CrunchJobsWaitTooLong",
        section: "Jobs wait too long",
        severity: Severity::Warning,
        query: "max by (queue) (crunch_queue_oldest_age_seconds) > 300 \
                unless on (queue) max by (queue) (crunch_queue_paused) == 1",
        holds_for: "5m",
        summary: "The oldest job that waits in the queue {{ $labels.queue }} is {{ $value | humanizeDuration }} old",
        // Two APIs export the same age.
        fires: Example {
            series: &[
                (r#"crunch_queue_oldest_age_seconds{queue="q",instance="a"}"#, "0x5 301+60x30"),
                (r#"crunch_queue_oldest_age_seconds{queue="q",instance="b"}"#, "0x5 301+60x30"),
                (r#"crunch_queue_paused{queue="q",instance="a"}"#, "0x35"),
            ],
            before: 10,
            at: 12,
        },
        is_silent: Example {
            series: &[
                (r#"crunch_queue_oldest_age_seconds{queue="paused"}"#, "400+60x30"),
                (r#"crunch_queue_paused{queue="paused"}"#, "1x30"),
                (r#"crunch_queue_oldest_age_seconds{queue="busy"}"#, "299x30"),
                (r#"crunch_queue_paused{queue="busy"}"#, "0x30"),
            ],
            before: 0,
            at: 30,
        },
    },
    Alert {
        name: "CrunchQueuePaused",
        section: "A queue is paused for long",
        severity: Severity::Warning,
        // A scrape without Redis does not begin the hour again.
        query: "max by (queue) (max_over_time(crunch_queue_paused[2m])) == 1",
        holds_for: "1h",
        summary: "The queue {{ $labels.queue }} has been paused for more than an hour",
        fires: Example {
            series: &[(r#"crunch_queue_paused{queue="q"}"#, "0x5 1x100")],
            before: 60,
            at: 70,
        },
        is_silent: Example {
            series: &[(r#"crunch_queue_paused{queue="q"}"#, "1x50 0x3 1x50")],
            before: 50,
            at: 100,
        },
    },
    Alert {
        name: "CrunchJobsFailing",
        section: "Many jobs fail for good",
        severity: Severity::Warning,
        // A queue that did not exist had no failed jobs, but if Prometheus did not look yet, nobody knows.
        query: "max by (queue) (crunch_queue_jobs{state=\"failed\"}) \
                - (max by (queue) (crunch_queue_jobs{state=\"failed\"} offset 15m) \
                or (0 * max by (queue) (crunch_queue_jobs{state=\"failed\"}) \
                and on() max(crunch_queue_jobs{state=\"failed\"} offset 15m))) > 10",
        holds_for: "0m",
        summary: "{{ $value }} jobs of the queue {{ $labels.queue }} failed for good in 15 minutes",
        fires: Example {
            // The second queue is new, and all of its jobs fail at once.
            series: &[
                (r#"crunch_queue_jobs{queue="q",state="failed"}"#, "500x60"),
                (r#"crunch_queue_jobs{queue="new",state="failed"}"#, "_x30 50+1x30"),
            ],
            before: 25,
            at: 40,
        },
        is_silent: Example {
            series: &[
                (r#"crunch_queue_jobs{queue="rarely",state="failed"}"#, "500x20 510x30"),
                (r#"crunch_queue_jobs{queue="redriven",state="failed"}"#, "500x20 0x30"),
                (r#"crunch_queue_jobs{queue="full",state="queued"}"#, "0+100x50"),
            ],
            before: 0,
            at: 30,
        },
    },
    Alert {
        name: "CrunchTaskSuspended",
        section: "A machine cannot run a task",
        severity: Severity::Warning,
        query: "max by (task) (crunch_task_suspended_workers) > 0",
        holds_for: "5m",
        summary: "{{ $value }} workers cannot run the task {{ $labels.task }} on their machine",
        fires: Example {
            series: &[(r#"crunch_task_suspended_workers{task="t"}"#, "1x20")],
            before: 4,
            at: 7,
        },
        is_silent: Example {
            series: &[(r#"crunch_task_suspended_workers{task="t"}"#, "1x3 stale")],
            before: 3,
            at: 20,
        },
    },
    Alert {
        name: "CrunchSchedulesLate",
        section: "Schedules are late",
        severity: Severity::Warning,
        query: "max(crunch_schedules_late_seconds) > 60",
        holds_for: "2m",
        summary: "A tick of a schedule has been due for {{ $value | humanizeDuration }}, and no API submits its job",
        fires: Example {
            series: &[("crunch_schedules_late_seconds", "0+60x20")],
            before: 3,
            at: 5,
        },
        is_silent: Example {
            series: &[("crunch_schedules_late_seconds", "0 3 90 0x20")],
            before: 3,
            at: 20,
        },
    },
    Alert {
        name: "CrunchLeasesLost",
        section: "Workers die or hang",
        severity: Severity::Warning,
        query: "sum(increase(crunch_leases_lost_total[10m])) > 0",
        holds_for: "0m",
        summary: "Jobs were taken back from workers that were silent",
        fires: Example {
            series: &[(r#"crunch_leases_lost_total{instance="a"}"#, "0x10 2x20")],
            before: 10,
            at: 12,
        },
        is_silent: Example {
            series: &[(r#"crunch_leases_lost_total{instance="a"}"#, "7x30 0x20")],
            before: 20,
            at: 45,
        },
    },
    Alert {
        name: "CrunchRequestsRefused",
        section: "An API is at its limits",
        severity: Severity::Warning,
        query: "sum by (sum) (increase(crunch_http_refused_total[5m])) > 0",
        holds_for: "5m",
        summary: "APIs reject requests, because their limit of {{ $labels.sum }} is reached",
        fires: Example {
            series: &[(r#"crunch_http_refused_total{sum="bodies"}"#, "0x5 0+3x30")],
            before: 8,
            at: 14,
        },
        is_silent: Example {
            series: &[(r#"crunch_http_refused_total{sum="bodies"}"#, "0x5 3x30")],
            before: 9,
            at: 14,
        },
    },
    Alert {
        name: "CrunchWebhooksFailing",
        section: "Webhooks fail",
        severity: Severity::Warning,
        query: "sum(rate(crunch_webhook_deliveries_total{outcome=~\"retrying|failed\"}[15m])) \
                / sum(rate(crunch_webhook_deliveries_total{outcome!=\"released\"}[15m])) > 0.5",
        holds_for: "15m",
        summary: "{{ $value | humanizePercentage }} of the attempts to deliver a webhook fail",
        fires: Example {
            series: &[
                (r#"crunch_webhook_deliveries_total{outcome="succeeded"}"#, "0+2x60"),
                (r#"crunch_webhook_deliveries_total{outcome="retrying"}"#, "0+4x60"),
            ],
            before: 15,
            at: 20,
        },
        is_silent: Example {
            series: &[
                (r#"crunch_webhook_deliveries_total{outcome="succeeded"}"#, "0+4x60"),
                (r#"crunch_webhook_deliveries_total{outcome="failed"}"#, "0+3x60"),
                (r#"crunch_webhook_deliveries_total{outcome="released"}"#, "0+50x60"),
            ],
            before: 0,
            at: 60,
        },
    },
    Alert {
        name: "CrunchWebhooksStopped",
        section: "No API delivers webhooks",
        severity: Severity::Critical,
        query: "max(crunch_webhooks_up) == 0",
        holds_for: "5m",
        summary: "No API can deliver webhooks",
        fires: Example {
            series: &[(r#"crunch_webhooks_up{instance="a"}"#, "1x5 0x20")],
            before: 9,
            at: 12,
        },
        is_silent: Example {
            series: &[
                (r#"crunch_webhooks_up{instance="a"}"#, "0x30"),
                (r#"crunch_webhooks_up{instance="b"}"#, "1x30"),
            ],
            before: 0,
            at: 30,
        },
    },
];
