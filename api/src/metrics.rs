//! Metrics for Prometheus: the counters of this process, and the state that all APIs share.

mod shared;

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use crunch_common::broker::{Broker, Error};
use crunch_common::telemetry::metrics::{
    HTTP_REFUSED, HTTP_REQUESTS, HTTP_WAITING, JOBS_FINISHED, Metrics, SCHEDULE_TICKS,
    WEBHOOK_DELIVERIES, WEBHOOKS_UP, labels,
};

use shared::SharedMetrics;

/// The metrics at `/metrics`.
#[derive(Debug)]
pub(crate) struct ApiMetrics {
    recorder: Option<Metrics>,
    shared: SharedMetrics,
}

impl ApiMetrics {
    /// How often measurements are aggregated.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

    pub(crate) fn new(broker: Broker) -> Self {
        let recorder = Metrics::start(env!("CARGO_PKG_VERSION"));
        start_at_zero();
        Self { recorder, shared: SharedMetrics::new(broker) }
    }

    pub(crate) async fn tick(&self) -> Result<(), Error> {
        self.recorder.iter().for_each(Metrics::upkeep);
        Ok(())
    }

    /// Renders all metrics in the text format 0.0.4 of Prometheus.
    pub(crate) async fn render(&self) -> String {
        let own = self.recorder.as_ref().map(Metrics::render).unwrap_or_default();
        own + &self.shared.render().await
    }
}

/// Creates the counters whose labels are known. Prometheus sees no increase in a counter that begins with its first event,
/// so an alarm about rare events would miss the first ones.
fn start_at_zero() {
    waiting(0.0);
    for sum in Sum::ALL {
        metrics::counter!(HTTP_REFUSED, "sum" => sum.name()).increment(0);
    }
    for outcome in ["submitted", "skipped", "buffered", "missed", "rejected"] {
        ticks(outcome, 0);
    }
}

/// Counts ticks of schedules.
pub(crate) fn ticks(outcome: &'static str, count: u64) {
    metrics::counter!(SCHEDULE_TICKS, "outcome" => outcome).increment(count);
}

/// Counts jobs that were ended by this process.
pub(crate) fn finished(task: &str, queue: &str, status: &'static str, count: u64) {
    metrics::counter!(JOBS_FINISHED, labels(task, queue, &[("status", status)])).increment(count);
}

/// Counts an attempt to deliver a webhook.
pub(crate) fn delivered(outcome: &'static str) {
    metrics::counter!(WEBHOOK_DELIVERIES, "outcome" => outcome).increment(1);
}

/// Creates the counters of deliveries, in an API that makes them.
pub(crate) fn start_deliveries() {
    for outcome in ["succeeded", "retrying", "failed", "released"] {
        metrics::counter!(WEBHOOK_DELIVERIES, "outcome" => outcome).increment(0);
    }
}

/// Shows whether deliveries are claimed and settled.
pub(crate) fn set_delivering(delivering: bool) {
    metrics::gauge!(WEBHOOKS_UP).set(f64::from(u8::from(delivering)));
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
    const ALL: [Self; 5] =
        [Self::Bodies, Self::Answers, Self::Heads, Self::Waiting, Self::Connections];

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
    let known =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS];
    let method = known.iter().find(|method| *method == request.method());
    let labels = [
        ("method", method.map_or("other", Method::as_str).to_owned()),
        ("route", route),
        ("status", response.status().as_u16().to_string()),
    ];
    metrics::histogram!(HTTP_REQUESTS, &labels).record(took.as_secs_f64());
}
