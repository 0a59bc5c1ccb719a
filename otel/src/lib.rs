//! Spans and metrics of a process, exported by OTLP over HTTP to a collector, under the names of OpenTelemetry's
//! semantic conventions.
//!
//! A job is one trace: its submission (`send.rs`), each attempt (`process.rs`) and each delivery of its webhook
//! (`post.rs`). The context of the submission is stored with the job, so it needs no other state in Redis. Without an
//! endpoint everything here does nothing, and nothing here ever delays or fails a job: what cannot be exported is
//! dropped and counted.

mod collector;
mod config;
mod measures;
mod names;
mod pairs;
mod post;
mod process;
mod send;
mod spans;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{ResourceDetector, TelemetryResourceDetector};
use tokio::sync::oneshot;

pub use config::{Compression, Exporter, OtelConfig, Protocol, SamplerName};
pub use pairs::Pairs;
pub use post::{Post, Posting};
pub use send::Sending;

use collector::{Collector, Signal};
use measures::Measures;
use spans::Spans;

/// How long a process that ends waits for its last spans and metrics to be exported.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// What a process exports; clones share it. Does nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Otel(Option<Arc<Exporters>>);

/// Who exports.
#[derive(Debug, Clone, Copy)]
pub struct Service<'a> {
    /// The name, unless the configuration has another one.
    pub name: &'static str,
    /// What distinguishes this process from others of the same service.
    pub instance: &'a str,
}

/// Why the export cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The authorities in the file cannot be used.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE: {reason}")]
    Certificate {
        /// What is wrong with the file.
        reason: String,
    },
}

#[derive(Debug)]
struct Exporters {
    collectors: [Arc<Collector>; 2],
    spans: Option<Spans>,
    measures: Option<Measures>,
}

impl Otel {
    /// Starts to export what is configured; does nothing if no endpoint is.
    ///
    /// # Errors
    /// If the file of certificate authorities cannot be used.
    pub fn start(config: &OtelConfig, service: Service<'_>) -> Result<Self, Error> {
        let Some(endpoint) = config.endpoint.as_deref().filter(|_| !config.disabled) else {
            return Ok(Self::default());
        };
        let collector = |signal| Collector::new(signal, endpoint, config).map(Arc::new);
        let collectors = [collector(Signal::Spans)?, collector(Signal::Metrics)?];
        let [of_spans, of_metrics] = collectors.clone();
        let resource = resource(config, service);
        let spans =
            (config.traces == Exporter::Otlp).then(|| Spans::start(config, &resource, of_spans));
        let measures = (config.metrics == Exporter::Otlp)
            .then(|| Measures::start(config, resource, of_metrics));
        let endpoint = collector::origin(endpoint);
        tracing::info!(
            endpoint,
            traces = spans.is_some(),
            metrics = measures.is_some(),
            "exporting by OTLP"
        );
        Ok(Self(Some(Arc::new(Exporters { collectors, spans, measures }))))
    }

    /// Exports what is left, for at most two seconds. Call it when nothing else runs.
    pub async fn end(&self) {
        let Some(exporters) = self.0.clone() else { return };
        let (done, ended) = oneshot::channel();
        // A thread that nothing waits for: those of a runtime would keep the process from ending.
        let started = thread::Builder::new().name("last-export".to_owned()).spawn(move || {
            exporters.collectors.iter().for_each(|collector| collector.end_retries());
            // Half of the time, so that spans which cannot be exported do not cost the metrics.
            exporters.spans.iter().for_each(|spans| spans.end(LAST_EXPORT / 2));
            exporters.measures.iter().for_each(Measures::end);
            // Fails only if the time is over.
            let _ = done.send(());
        });
        if started.is_err() || tokio::time::timeout(LAST_EXPORT, ended).await.is_err() {
            tracing::warn!("the last spans and metrics were not exported in time");
        }
    }
}

/// The attributes of this process: those of the configuration take precedence.
fn resource(config: &OtelConfig, service: Service<'_>) -> Resource {
    let configured = config.resource_attributes.iter().flat_map(|pairs| pairs.iter());
    let configured = configured.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned()));
    let name = config.service_name.clone().map(|name| KeyValue::new(names::SERVICE_NAME, name));
    Resource::builder_empty()
        .with_schema_url(TelemetryResourceDetector.detect().iter().map(pair), names::SCHEMA_URL)
        .with_attributes([
            KeyValue::new(names::SERVICE_NAME, service.name),
            KeyValue::new(names::SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
            KeyValue::new(names::SERVICE_INSTANCE_ID, service.instance.to_owned()),
        ])
        .with_attributes(configured)
        .with_attributes(name)
        .build()
}

fn pair((key, value): (&opentelemetry::Key, &opentelemetry::Value)) -> KeyValue {
    KeyValue::new(key.clone(), value.clone())
}
