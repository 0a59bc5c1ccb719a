//! Metrics under the conventions' names, exported periodically on a thread of the SDK.
//!
//! Not shown at `/metrics`, which has its own names for the same events. Queues are labels: beyond two thousand of them
//! the SDK counts further ones together.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, MeterProvider as _};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};

use crate::collector::Collector;
use crate::config::OtelConfig;
use crate::names::{
    ERROR_TYPE, MESSAGING_CLIENT_CONSUMED_MESSAGES, MESSAGING_CLIENT_OPERATION_DURATION,
    MESSAGING_CLIENT_SENT_MESSAGES, MESSAGING_DESTINATION_NAME, MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE, MESSAGING_PROCESS_DURATION, MESSAGING_SYSTEM, PROCESS, SEND, SYSTEM,
};
use crate::spans::scope;

/// The bounds that the conventions recommend, and further ones for processing: a job may take an hour.
const BOUNDS: [f64; 20] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    300.0, 600.0, 1800.0, 3600.0,
];
/// How many of them are the conventions'.
const OF_CONVENTIONS: usize = 14;

#[derive(Debug)]
pub(crate) struct Measures {
    provider: SdkMeterProvider,
    operations: Histogram<f64>,
    sent: Counter<u64>,
    consumed: Counter<u64>,
    processes: Histogram<f64>,
}

impl Measures {
    pub(crate) fn start(
        config: &OtelConfig,
        resource: Resource,
        collector: Arc<Collector>,
    ) -> Self {
        let reader = PeriodicReader::builder(Exporter(collector));
        let provider = SdkMeterProvider::builder()
            .with_reader(reader.with_interval(config.metric_interval).build())
            .with_resource(resource)
            .build();
        let meter = provider.meter_with_scope(scope());
        let histogram = |name: &'static str, bounds: &[f64]| {
            meter.f64_histogram(name).with_unit("s").with_boundaries(bounds.to_vec()).build()
        };
        let counter = |name: &'static str| meter.u64_counter(name).with_unit("{message}").build();
        Self {
            operations: histogram(MESSAGING_CLIENT_OPERATION_DURATION, &BOUNDS[..OF_CONVENTIONS]),
            sent: counter(MESSAGING_CLIENT_SENT_MESSAGES),
            consumed: counter(MESSAGING_CLIENT_CONSUMED_MESSAGES),
            processes: histogram(MESSAGING_PROCESS_DURATION, &BOUNDS),
            provider,
        }
    }

    /// Records that a call submitted jobs; it has no queue if there were several.
    pub(crate) fn sending(&self, queue: Option<&str>, error: Option<&str>, took: Duration) {
        let mut labels = labels(SEND, queue, error);
        labels.push(KeyValue::new(MESSAGING_OPERATION_TYPE, SEND));
        self.operations.record(took.as_secs_f64(), &labels);
    }

    /// Counts jobs that were submitted, or could not be.
    pub(crate) fn sent(&self, queue: &str, error: Option<&str>, count: u64) {
        self.sent.add(count, &labels(SEND, Some(queue), error));
    }

    /// Counts a job that a worker got to run.
    pub(crate) fn consumed(&self, queue: &str) {
        self.consumed.add(1, &labels(PROCESS, Some(queue), None));
    }

    /// Records an attempt.
    pub(crate) fn processed(&self, queue: &str, error: Option<&str>, took: Duration) {
        self.processes.record(took.as_secs_f64(), &labels(PROCESS, Some(queue), error));
    }

    /// Exports once more.
    pub(crate) fn end(&self) {
        // A failure is logged by `collector.rs`.
        let _ = self.provider.shutdown();
    }
}

fn labels(operation: &'static str, queue: Option<&str>, error: Option<&str>) -> Vec<KeyValue> {
    let given = [(MESSAGING_DESTINATION_NAME, queue), (ERROR_TYPE, error)];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
    [KeyValue::new(MESSAGING_SYSTEM, SYSTEM), KeyValue::new(MESSAGING_OPERATION_NAME, operation)]
        .into_iter()
        .chain(given.map(|(name, value)| KeyValue::new(name, value.to_owned())))
        .collect()
}

/// Sends metrics to the collector.
#[derive(Debug)]
struct Exporter(Arc<Collector>);

impl PushMetricExporter for Exporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.0.send(&ExportMetricsServiceRequest::from(metrics)).map(drop)
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
