//! The state of Redis, the queues and the workers, as metrics. Every API reads the same state, so these must not be summed
//! over instances: take the maximum.
//!
//! It is read when metrics are collected, and at most every two seconds, however many collect them. Reading never changes
//! anything, and a part that cannot be read is missing.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use crunch_common::broker::{Broker, Error, NodeHealth, QueueDepth, ScheduleCounts, WorkerSummary};
use crunch_common::queue::QueueName;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::document::WorkerKind;

/// The state is read no more often than this.
const FRESH: Duration = Duration::from_secs(2);
/// How many queues are shown: the most recently used ones.
const MAX_QUEUES: usize = 1000;
/// How many hosts are shown, and how many suspended tasks, in both cases by name. Processes that reach Redis choose these
/// names, so the number of series is limited.
const MAX_NAMES: usize = 1000;

/// What every API reads alike.
#[derive(Debug)]
pub(super) struct SharedMetrics {
    broker: Broker,
    cached: Mutex<Option<(Instant, String)>>,
}

/// Queues by name.
type Queues = BTreeMap<QueueName, QueueDepth>;

impl SharedMetrics {
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker, cached: Mutex::default() }
    }

    /// Renders the state: one caller reads it, and callers meanwhile or soon after get the same.
    pub(super) async fn render(&self) -> String {
        let mut cached = self.cached.lock().await;
        if let Some((at, text)) = &*cached
            && at.elapsed() < FRESH
        {
            return text.clone();
        }
        let text = self.read().await;
        *cached = Some((Instant::now(), text.clone()));
        text
    }

    async fn read(&self) -> String {
        // At once: while Redis is away, each of them waits until its deadline.
        let (nodes, opened, state) =
            tokio::join!(self.broker.system(), self.broker.open(), self.state());
        if let Err(error) = &state {
            tracing::debug!(%error, "cannot read the queues: they are missing in the metrics");
        }
        let up = opened.is_ok() && state.is_ok();
        let mut families = of_redis(&nodes, up);
        if let Ok((queues, workers, schedules)) = state {
            families.extend(of_queues(&queues, &workers));
            families.extend(of_rules(&queues));
            families.extend(of_fleet(&workers));
            families.extend(of_schedules(schedules));
        }
        families.concat()
    }

    async fn state(&self) -> Result<(Queues, Vec<WorkerSummary>, ScheduleCounts), Error> {
        let (queues, workers) = (self.broker.depths(MAX_QUEUES).await?, self.broker.fleet().await?);
        Ok((queues, workers, self.broker.schedule_counts().await?))
    }
}

fn of_redis(nodes: &[NodeHealth], up: bool) -> Vec<String> {
    // With one Redis there is no address, and no need to tell nodes apart.
    let states = nodes.iter().filter_map(|node| {
        Some((node.address.as_deref().unwrap_or("redis"), node.state.as_ref().ok()?))
    });
    let states: Vec<_> = states.collect();
    let limits = states.iter().filter_map(|(node, state)| Some((node, state.max_memory?)));
    vec![
        family(
            "crunch_redis_up",
            "Whether Redis answers and accepts writes",
            [sample(&[], u64::from(up))],
        ),
        family(
            "crunch_redis_memory_bytes",
            "Memory that a node of Redis uses",
            states.iter().map(|(node, state)| sample(&[("node", node)], state.used_memory)),
        ),
        family(
            "crunch_redis_memory_limit_bytes",
            "Memory from which a node of Redis rejects writes",
            limits.map(|(node, limit)| sample(&[("node", node)], limit)),
        ),
        family(
            "crunch_redis_disk_ok",
            "Whether the last writes of a node of Redis to its disk succeeded",
            states.iter().map(|(node, state)| sample(&[("node", node)], u64::from(state.disk_ok))),
        ),
    ]
}

fn of_queues(queues: &Queues, workers: &[WorkerSummary]) -> Vec<String> {
    let jobs = queues.iter().flat_map(|(queue, QueueDepth { depth, .. })| {
        let states = [
            ("queued", depth.queued),
            ("delayed", depth.delayed),
            ("running", depth.running),
            ("failed", depth.failed),
        ];
        states.map(|(state, count)| sample(&[("queue", queue.as_str()), ("state", state)], count))
    });
    let ages = queues.iter().map(|(queue, it)| {
        let age = it.depth.oldest_age.unwrap_or_default();
        sample_of_f64(&[("queue", queue.as_str())], age.as_secs_f64())
    });
    let paused =
        queues.iter().map(|(queue, it)| sample(&[("queue", queue.as_str())], u64::from(it.paused)));
    let mut serving: HashMap<&QueueName, u64> = HashMap::new();
    for worker in workers {
        let queues = worker.info.queues.iter().filter(|queue| worker.claims_from(queue));
        queues.for_each(|queue| *serving.entry(queue).or_default() += 1);
    }
    let serving = queues.keys().map(|queue| {
        sample(&[("queue", queue.as_str())], serving.get(queue).copied().unwrap_or_default())
    });
    vec![
        family("crunch_queue_jobs", "Jobs by queue and state", jobs),
        family("crunch_queue_oldest_age_seconds", "Age of the oldest job that could run", ages),
        family("crunch_queue_paused", "Whether a queue is paused", paused),
        family("crunch_queue_workers", "Live workers that claim jobs from a queue", serving),
    ]
}

/// Of queues with groups, and with a limit.
fn of_rules(queues: &Queues) -> Vec<String> {
    let grouped = queues.iter().filter_map(|(queue, it)| Some((queue, it.groups?)));
    let groups = grouped.flat_map(|(queue, counts)| {
        let states = [
            ("runnable", counts.runnable),
            ("delayed", counts.delayed),
            ("blocked", counts.blocked),
        ];
        states.map(|(state, count)| sample(&[("queue", queue.as_str()), ("state", state)], count))
    });
    let limited = queues.iter().filter_map(|(queue, it)| Some((queue, it.concurrency?)));
    let limits = limited.map(|(queue, most)| sample(&[("queue", queue.as_str())], most.into()));
    vec![
        family("crunch_queue_groups", "Groups with jobs that wait, by what they wait for", groups),
        family("crunch_queue_concurrency", "How many jobs of a queue may run", limits),
    ]
}

fn of_schedules(ScheduleCounts { active, inactive, late }: ScheduleCounts) -> Vec<String> {
    let states = [("active", active), ("inactive", inactive)];
    vec![
        family(
            "crunch_schedules",
            "Schedules that have a next tick, and those that do not",
            states.map(|(state, count)| sample(&[("state", state)], count)),
        ),
        family(
            "crunch_schedules_late_seconds",
            "For how long a tick has been due that no API has handled",
            [sample_of_f64(&[], late.as_secs_f64())],
        ),
    ]
}

fn of_fleet(workers: &[WorkerSummary]) -> Vec<String> {
    let workers: Vec<_> =
        workers.iter().filter(|worker| WorkerKind::of(worker) == WorkerKind::Worker).collect();
    let mut hosts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut suspended: BTreeMap<&str, u64> = BTreeMap::new();
    for worker in &workers {
        let (slots, busy) = hosts.entry(&worker.info.host).or_default();
        *slots += worker.info.slots as u64;
        *busy += worker.busy;
        for it in &worker.info.suspended {
            *suspended.entry(it.task.as_str()).or_default() += 1;
        }
    }
    let of_all = |count: u64| [sample(&[], count)];
    let shown = || hosts.iter().take(MAX_NAMES);
    vec![
        family("crunch_fleet_workers", "Live workers", of_all(workers.len() as u64)),
        family(
            "crunch_fleet_slots",
            "Slots of all live workers",
            of_all(hosts.values().map(|(slots, _)| slots).sum()),
        ),
        family(
            "crunch_fleet_slots_busy",
            "Slots of all live workers that run a job",
            of_all(hosts.values().map(|(_, busy)| busy).sum()),
        ),
        family(
            "crunch_host_slots",
            "Slots of the live workers on a host",
            shown().map(|(host, (slots, _))| sample(&[("host", host)], *slots)),
        ),
        family(
            "crunch_host_slots_busy",
            "Slots of the live workers on a host that run a job",
            shown().map(|(host, (_, busy))| sample(&[("host", host)], *busy)),
        ),
        family(
            "crunch_task_suspended_workers",
            "Live workers whose machine cannot run a task for now",
            suspended.iter().take(MAX_NAMES).map(|(task, count)| sample(&[("task", task)], *count)),
        ),
    ]
}

/// Renders one gauge with all its samples.
fn family(name: &str, help: &str, samples: impl IntoIterator<Item = String>) -> String {
    let mut text = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
    for sample in samples {
        let _ = writeln!(text, "{name}{sample}");
    }
    text
}

/// Labels and value of a sample.
fn sample(labels: &[(&str, &str)], value: u64) -> String {
    sample_of_f64(labels, value as f64)
}

fn sample_of_f64(labels: &[(&str, &str)], value: f64) -> String {
    if labels.is_empty() {
        return format!(" {value}");
    }
    let labels: Vec<_> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}} {value}", labels.join(","))
}

/// Names of Crunch need no escapes, but a host may have any name.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_cannot_break_its_line() {
        assert_eq!(sample(&[], 1), " 1");
        assert_eq!(
            sample(&[("host", "a\"b\\c\nd"), ("state", "x")], 1 << 40),
            "{host=\"a\\\"b\\\\c\\nd\",state=\"x\"} 1099511627776"
        );
        assert_eq!(family("m", "Some", [" 1".to_owned()]), "# HELP m Some\n# TYPE m gauge\nm 1\n");
    }
}
