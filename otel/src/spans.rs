//! Exports spans that have ended, in batches, on a thread of the SDK.
//!
//! No tracer of the SDK begins them: the context of a span is passed on long before it ends, to a command, to Redis or
//! to a receiver of webhooks, and all of it is known when it ends. The queue is bounded: while the collector does not
//! keep up, new spans are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crunch_common::job::TraceContext;
use crunch_common::telemetry::LogLimit;
use crunch_common::telemetry::metrics::SPANS_DROPPED;
use crunch_common::time::local_clock;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, ShouldSample, SpanData,
    SpanExporter, SpanProcessor,
};
use prost::Message;

use crate::collector::Collector;
use crate::config::{OtelConfig, SamplerName};
use crate::names::{ERROR_TYPE, SCHEMA_URL, SCOPE};

/// How many spans wait for their export, about a kilobyte each; a full batch is exported at once.
const MAX_WAITING: usize = 2048;
/// How many spans are exported together.
const BATCH: usize = 512;

/// Spans are dropped: logged once a minute.
static DROPPED: LogLimit = LogLimit::new(Duration::from_secs(60));

#[derive(Debug)]
pub(crate) struct Spans {
    processor: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    sampler: Sampler,
    scope: InstrumentationScope,
}

/// A span that has ended just now.
pub(crate) struct Span<'a> {
    pub(crate) kind: SpanKind,
    pub(crate) name: String,
    pub(crate) context: &'a TraceContext,
    pub(crate) parent: Option<&'a TraceContext>,
    pub(crate) took: Duration,
    pub(crate) attributes: Vec<KeyValue>,
    /// A short word for why it failed; no text of clients or handlers.
    pub(crate) error: Option<String>,
}

impl Spans {
    pub(crate) fn start(
        config: &OtelConfig,
        resource: &Resource,
        collector: Arc<Collector>,
    ) -> Self {
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = Exporter { collector, resource: resource.into(), waiting: waiting.clone() };
        let batches = BatchConfigBuilder::default()
            // Never full: `waiting` counts a span from before it is in the queue until it has left it.
            .with_max_queue_size(MAX_WAITING)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(config.span_delay);
        Self {
            processor: BatchSpanProcessor::new(exporter, batches.build()),
            waiting,
            sampler: sampler(config),
            scope: scope(),
        }
    }

    /// Whether a new span is exported, and those below it.
    pub(crate) fn samples(&self, context: &TraceContext, parent: Option<&TraceContext>) -> bool {
        let parent = parent
            .map(|parent| Context::new().with_remote_span_context(span_context(parent, true)));
        let trace = trace_id(context);
        let kind = SpanKind::Producer;
        let result = self.sampler.should_sample(parent.as_ref(), trace, "", &kind, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    /// Queues a span; drops it if too many wait.
    pub(crate) fn export(&self, span: Span<'_>) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return dropped(1, "the collector does not keep up");
        }
        self.processor.on_end(self.data(span));
    }

    fn data(&self, span: Span<'_>) -> SpanData {
        let Span { kind, name, context, parent, took, mut attributes, error } = span;
        let end_time = local_clock();
        let status = if error.is_some() { Status::error("") } else { Status::Unset };
        attributes.extend(error.map(|error| KeyValue::new(ERROR_TYPE, error)));
        SpanData {
            span_context: span_context(context, false),
            parent_span_id: parent.map_or(SpanId::INVALID, span_id),
            parent_span_is_remote: parent.is_some(),
            span_kind: kind,
            name: name.into(),
            start_time: end_time.checked_sub(took).unwrap_or(end_time),
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// Exports what waits, within a time limit.
    pub(crate) fn end(&self, time_limit: Duration) {
        // What could not be exported is counted by the exporter.
        let _ = self.processor.shutdown_with_timeout(time_limit);
    }
}

/// The scope of all spans and metrics.
pub(crate) fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION");
    InstrumentationScope::builder(SCOPE).with_version(version).with_schema_url(SCHEMA_URL).build()
}

fn sampler(config: &OtelConfig) -> Sampler {
    let ratio = || Sampler::TraceIdRatioBased(config.sampler_ratio.unwrap_or(1.0));
    let or_parent = |root: Sampler| Sampler::ParentBased(Box::new(root));
    match config.sampler {
        SamplerName::AlwaysOn => Sampler::AlwaysOn,
        SamplerName::AlwaysOff => Sampler::AlwaysOff,
        SamplerName::Ratio => ratio(),
        SamplerName::ParentBasedAlwaysOn => or_parent(Sampler::AlwaysOn),
        SamplerName::ParentBasedAlwaysOff => or_parent(Sampler::AlwaysOff),
        SamplerName::ParentBasedRatio => or_parent(ratio()),
    }
}

fn span_context(trace: &TraceContext, is_remote: bool) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(trace.is_sampled());
    let state = trace.tracestate().and_then(|state| state.parse::<TraceState>().ok());
    SpanContext::new(trace_id(trace), span_id(trace), flags, is_remote, state.unwrap_or_default())
}

fn trace_id(trace: &TraceContext) -> TraceId {
    TraceId::from_hex(trace.trace_id()).unwrap_or(TraceId::INVALID)
}

fn span_id(trace: &TraceContext) -> SpanId {
    SpanId::from_hex(trace.span_id()).unwrap_or(SpanId::INVALID)
}

/// Sends batches to the collector.
#[derive(Debug)]
struct Exporter {
    collector: Arc<Collector>,
    resource: ResourceAttributesWithSchema,
    waiting: Arc<AtomicUsize>,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let response = self
            .collector
            .send(&ExportTraceServiceRequest { resource_spans })
            .inspect_err(|_| count_dropped(count as u64))?;
        let response = ExportTraceServiceResponse::decode(response.as_slice()).unwrap_or_default();
        let rejected = response.partial_success.map_or(0, |partial| partial.rejected_spans);
        if let Ok(rejected @ 1..) = u64::try_from(rejected) {
            dropped(rejected, "the collector rejected them");
        }
        Ok(())
    }
}

/// Counts spans that are not exported. A failed export is logged by `collector.rs`.
fn count_dropped(count: u64) {
    metrics::counter!(SPANS_DROPPED).increment(count);
}

fn dropped(count: u64, reason: &'static str) {
    count_dropped(count);
    if let Some(left_out) = DROPPED.admit() {
        tracing::warn!(count, left_out, reason, "spans are dropped");
    }
}
