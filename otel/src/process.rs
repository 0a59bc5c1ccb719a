//! The attempts of jobs: a span for each, and their metrics.

use std::time::Duration;

use crunch_common::broker::{ClaimedJob, Settlement};
use crunch_common::job::TraceContext;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use crate::Otel;
use crate::names::{
    ATTEMPT, EPOCH, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_BODY_SIZE, MESSAGING_MESSAGE_ID,
    MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM, OUTCOME, PROCESS, SYSTEM,
    TASK,
};
use crate::spans::Span;

/// The outcome and the error of an attempt whose lease was lost.
const LOST: &str = "lost";

impl Otel {
    /// Counts a job that a worker got to run.
    pub fn consumed(&self, job: &ClaimedJob) {
        let measures = self.0.as_ref().and_then(|exporters| exporters.measures.as_ref());
        if let Some(measures) = measures {
            measures.consumed(job.queue.as_str());
        }
    }

    /// Exports an attempt that has ended, whose context was `own`: its job's submission decided whether it is sampled.
    /// Without a settlement its lease was lost.
    pub fn processed(
        &self,
        job: &ClaimedJob,
        own: Option<&TraceContext>,
        settlement: Option<&Settlement>,
        took: Duration,
    ) {
        let Some(exporters) = &self.0 else { return };
        let error = match settlement {
            None => Some(LOST),
            Some(settlement) => settlement.failure().map(|error| error.code.as_str()),
        };
        if let Some(measures) = &exporters.measures {
            measures.processed(job.queue.as_str(), error, took);
        }
        if let (Some(spans), Some(own)) = (&exporters.spans, own.filter(|own| own.is_sampled())) {
            let outcome = settlement.map_or(LOST, Settlement::word);
            spans.export(Span {
                kind: SpanKind::Consumer,
                name: format!("{PROCESS} {}", job.queue),
                context: own,
                parent: job.options.trace.as_ref(),
                took,
                attributes: attributes(job, outcome),
                error: error.map(str::to_owned),
            });
        }
    }
}

fn attributes(job: &ClaimedJob, outcome: &'static str) -> Vec<KeyValue> {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    vec![
        KeyValue::new(MESSAGING_SYSTEM, SYSTEM),
        KeyValue::new(MESSAGING_OPERATION_NAME, PROCESS),
        KeyValue::new(MESSAGING_OPERATION_TYPE, PROCESS),
        KeyValue::new(MESSAGING_DESTINATION_NAME, job.queue.to_string()),
        KeyValue::new(MESSAGING_MESSAGE_ID, job.id.to_string()),
        KeyValue::new(MESSAGING_MESSAGE_BODY_SIZE, whole(job.options.payload_size)),
        KeyValue::new(TASK, job.task.to_string()),
        KeyValue::new(ATTEMPT, i64::from(job.attempt)),
        KeyValue::new(EPOCH, whole(job.epoch.number())),
        KeyValue::new(OUTCOME, outcome),
    ]
}
