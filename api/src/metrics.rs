//! Metrics for Prometheus: the counters of this process, and the state of the queues and workers.
//!
//! Every API reads the same queues and workers, so their metrics must not be summed over instances: take the maximum.

use std::fmt::Write as _;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use crunch_common::broker::{Broker, Error, QueueDepth};
use crunch_common::telemetry::metrics::{
    HTTP_REFUSED, HTTP_REQUESTS, HTTP_WAITING, JOBS_FINISHED, LEASES_LOST, Metrics,
    WEBHOOK_DELIVERIES, WEBHOOKS_UP, labels,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::document::WorkerKind;

/// Queues and workers are read no more often than this, however many scrapes there are.
const FRESH: Duration = Duration::from_secs(2);
/// How many queues are shown: the most recently used ones.
const MAX_QUEUES: usize = 1000;

const UP: &str = "Whether Redis answers and accepts writes";

/// The metrics at `/metrics`.
#[derive(Debug)]
pub(crate) struct ApiMetrics {
    recorder: Option<Metrics>,
    broker: Broker,
    cached: Mutex<Option<(Instant, String)>>,
}

impl ApiMetrics {
    /// How often measurements are aggregated.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

    pub(crate) fn new(broker: Broker) -> Self {
        let recorder = Metrics::start(env!("CARGO_PKG_VERSION"));
        Self { recorder, broker, cached: Mutex::default() }
    }

    pub(crate) async fn tick(&self) -> Result<(), Error> {
        self.recorder.iter().for_each(Metrics::upkeep);
        Ok(())
    }

    /// Renders all metrics in the text format 0.0.4 of Prometheus.
    pub(crate) async fn render(&self) -> String {
        let own = self.recorder.as_ref().map(Metrics::render).unwrap_or_default();
        own + &self.shared().await
    }

    /// Renders the state of queues and workers: one caller reads it, and callers meanwhile or soon after get the same.
    async fn shared(&self) -> String {
        let mut cached = self.cached.lock().await;
        if let Some((at, text)) = &*cached
            && at.elapsed() < FRESH
        {
            return text.clone();
        }
        let text = self.read().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot read the queues: they are missing in the metrics");
            family("crunch_redis_up", UP, [(String::new(), 0.0)])
        });
        *cached = Some((Instant::now(), text.clone()));
        text
    }

    async fn read(&self) -> Result<String, Error> {
        let up = self.broker.open().await.is_ok();
        let depths = self.broker.depths(MAX_QUEUES).await?;
        let mut workers = self.broker.fleet().await?;
        workers.retain(|worker| WorkerKind::of(worker) == WorkerKind::Worker);
        let jobs = depths.iter().flat_map(|(queue, QueueDepth { depth, .. })| {
            let states = [
                ("queued", depth.queued),
                ("delayed", depth.delayed),
                ("running", depth.running),
                ("failed", depth.failed),
            ];
            states.map(|(state, count)| {
                (format!("{{queue=\"{queue}\",state=\"{state}\"}}"), count as f64)
            })
        });
        let ages = depths.iter().map(|(queue, QueueDepth { depth, .. })| {
            let age = depth.oldest_age.unwrap_or_default();
            (format!("{{queue=\"{queue}\"}}"), age.as_secs_f64())
        });
        let of_fleet = |count: u64| [(String::new(), count as f64)];
        let slots = workers.iter().map(|worker| worker.info.slots as u64).sum();
        let busy = workers.iter().map(|worker| worker.busy).sum();
        Ok([
            family("crunch_redis_up", UP, of_fleet(up.into())),
            family("crunch_queue_jobs", "Jobs by queue and state", jobs),
            family("crunch_queue_oldest_age_seconds", "Age of the oldest job that could run", ages),
            family("crunch_fleet_workers", "Live workers", of_fleet(workers.len() as u64)),
            family("crunch_fleet_slots", "Slots of all live workers", of_fleet(slots)),
            family(
                "crunch_fleet_slots_busy",
                "Slots of all live workers that run a job",
                of_fleet(busy),
            ),
        ]
        .concat())
    }
}

/// Renders one gauge with all its series. Label values are names of Crunch: nothing in them needs to be escaped.
fn family(name: &str, help: &str, series: impl IntoIterator<Item = (String, f64)>) -> String {
    let mut text = format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
    for (labels, value) in series {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
    text
}

/// Counts jobs that were ended by this process.
pub(crate) fn finished(task: &str, queue: &str, status: &'static str, count: u64) {
    metrics::counter!(JOBS_FINISHED, labels(task, queue, &[("status", status)])).increment(count);
}

/// Counts an attempt to deliver a webhook.
pub(crate) fn delivered(outcome: &'static str) {
    metrics::counter!(WEBHOOK_DELIVERIES, "outcome" => outcome).increment(1);
}

/// Shows whether deliveries are claimed and settled.
pub(crate) fn set_delivering(delivering: bool) {
    metrics::gauge!(WEBHOOKS_UP).set(f64::from(u8::from(delivering)));
}

/// Counts leases that were reclaimed from silent workers.
pub(crate) fn leases_lost(count: u64) {
    metrics::counter!(LEASES_LOST).increment(count);
}

/// Totals that are limited over all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sum {
    /// Bytes of request bodies.
    Bodies,
    /// Bytes of answers.
    Answers,
    /// Bytes of large heads.
    Heads,
    /// Requests that wait.
    Waiting,
    /// Connections.
    Connections,
}

impl Sum {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Answers => "answers",
            Self::Heads => "heads",
            Self::Waiting => "waiting",
            Self::Connections => "connections",
        }
    }
}

/// Counts a request that was rejected because a total is exceeded.
pub(crate) fn refused(sum: Sum) {
    metrics::counter!(HTTP_REFUSED, "sum" => sum.name()).increment(1);
}

/// Changes the number of clients that wait by `more`.
pub(crate) fn waiting(more: f64) {
    metrics::gauge!(HTTP_WAITING).increment(more);
}

/// Records the answer to a request; of an event stream, its start.
pub(crate) fn answered(response: &ServiceResponse<BoxBody>, took: Duration) {
    let request = response.request();
    let route = request.match_pattern().unwrap_or_else(|| "other".to_owned());
    let known = [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS];
    let method = known.iter().find(|method| *method == request.method());
    let labels = [
        ("method", method.map_or("other", Method::as_str).to_owned()),
        ("route", route),
        ("status", response.status().as_u16().to_string()),
    ];
    metrics::histogram!(HTTP_REQUESTS, &labels).record(took.as_secs_f64());
}
