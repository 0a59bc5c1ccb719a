//! The submission of jobs: one span for a call, whose context is stored with the jobs; and its metrics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crunch_common::broker::{Enqueued, Error, NewJob};
use crunch_common::job::{JobId, TraceContext};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use crate::names::{
    MESSAGING_BATCH_MESSAGE_COUNT, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_BODY_SIZE,
    MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM,
    SEND, SYSTEM, TASK,
};
use crate::spans::{Span, Spans};
use crate::{Exporters, Otel};

/// Jobs that are being submitted.
#[derive(Debug)]
#[must_use = "it is exported when it ends"]
pub struct Sending(Option<Active>);

#[derive(Debug)]
struct Active {
    exporters: Arc<Exporters>,
    begun: Instant,
    /// The queue of all jobs, if they have the same.
    queue: Option<String>,
    /// `None` if the trace is not sampled.
    span: Option<SendSpan>,
}

#[derive(Debug)]
struct SendSpan {
    context: TraceContext,
    parent: Option<TraceContext>,
    attributes: Vec<KeyValue>,
}

impl Otel {
    /// Begins to submit jobs, all of the same trace or of none. If they are sampled, they belong to the trace from now
    /// on, below this span.
    pub fn sending(&self, jobs: &mut [NewJob]) -> Sending {
        let (Some(exporters), [first, others @ ..]) = (&self.0, &*jobs) else {
            return Sending(None);
        };
        let is_one = others.iter().all(|job| job.queue == first.queue);
        let queue = is_one.then(|| first.queue.to_string());
        let span = exporters.spans.as_ref().and_then(|spans| begin(spans, jobs, queue.as_deref()));
        let exporters = exporters.clone();
        Sending(Some(Active { exporters, begun: Instant::now(), queue, span }))
    }
}

/// Begins a span if the trace is sampled, and makes the jobs part of it. Where the sampler contradicts the client, the
/// jobs follow the sampler: workers export what is sampled.
fn begin(spans: &Spans, jobs: &mut [NewJob], queue: Option<&str>) -> Option<SendSpan> {
    let parent = jobs.first().and_then(|job| job.options.trace.clone());
    let new = parent.as_ref().map_or_else(TraceContext::root, TraceContext::child);
    let is_sampled = spans.samples(&new, parent.as_ref());
    if !is_sampled && parent.as_ref().is_none_or(|parent| !parent.is_sampled()) {
        return None;
    }
    let context = match (is_sampled, &parent) {
        (false, Some(parent)) => parent.with_sampled(false),
        _ => new.with_sampled(is_sampled),
    };
    let attributes = attributes(jobs, queue);
    jobs.iter_mut().for_each(|job| job.set_trace(&context));
    is_sampled.then_some(SendSpan { context, parent, attributes })
}

fn attributes(jobs: &[NewJob], queue: Option<&str>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new(MESSAGING_SYSTEM, SYSTEM),
        KeyValue::new(MESSAGING_OPERATION_NAME, SEND),
        KeyValue::new(MESSAGING_OPERATION_TYPE, SEND),
    ];
    let queue = queue.map(|queue| KeyValue::new(MESSAGING_DESTINATION_NAME, queue.to_owned()));
    attributes.extend(queue);
    match jobs {
        [job] => attributes.extend([
            KeyValue::new(TASK, job.task.to_string()),
            KeyValue::new(MESSAGING_MESSAGE_BODY_SIZE, whole(job.payload.len())),
        ]),
        _ => attributes.push(KeyValue::new(MESSAGING_BATCH_MESSAGE_COUNT, whole(jobs.len()))),
    }
    attributes
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Sending {
    /// Ends the span with the answers to the jobs. It failed if none was accepted.
    pub fn ended(mut self, jobs: &[NewJob], answers: &[Result<Enqueued, Error>]) {
        let Some(mut active) = self.0.take() else { return };
        let errors: Vec<_> = answers.iter().map(error_type).collect();
        if let (Some(span), [answer]) = (&mut active.span, answers) {
            let id = accepted_id(answer, jobs);
            span.attributes
                .extend(id.map(|id| KeyValue::new(MESSAGING_MESSAGE_ID, id.to_string())));
        }
        if let Some(measures) = &active.exporters.measures {
            let mut sent = HashMap::new();
            for ((job, error), answer) in jobs.iter().zip(&errors).zip(answers) {
                // A job that an earlier request created was counted then.
                if !matches!(answer, Ok(Enqueued::Replayed(_) | Enqueued::Existing(_))) {
                    *sent.entry((job.queue.as_str(), *error)).or_default() += 1;
                }
            }
            for ((queue, error), count) in sent {
                measures.sent(queue, error, count);
            }
        }
        let any_accepted = errors.iter().any(Option::is_none);
        active.end(errors.first().copied().flatten().filter(|_| !any_accepted));
    }
}

/// The client disconnected, so there was nobody left to answer; the jobs may have been accepted.
impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(active) = self.0.take() {
            active.end(Some("disconnected"));
        }
    }
}

impl Active {
    fn end(self, error: Option<&'static str>) {
        let Self { exporters, begun, queue, span } = self;
        let took = begun.elapsed();
        if let Some(measures) = &exporters.measures {
            measures.sending(queue.as_deref(), error, took);
        }
        if let (Some(spans), Some(SendSpan { context, parent, attributes })) =
            (&exporters.spans, span)
        {
            let name = queue.map_or_else(|| SEND.to_owned(), |queue| format!("{SEND} {queue}"));
            spans.export(Span {
                kind: SpanKind::Producer,
                name,
                context: &context,
                parent: parent.as_ref(),
                took,
                attributes,
                error: error.map(str::to_owned),
            });
        }
    }
}

/// The id of the job that the answer is about, if one was accepted.
fn accepted_id(answer: &Result<Enqueued, Error>, jobs: &[NewJob]) -> Option<JobId> {
    match answer {
        Ok(Enqueued::Created(_)) => jobs.first().map(|job| job.id),
        Ok(
            Enqueued::AlreadyCreated(id)
            | Enqueued::Replayed(id)
            | Enqueued::Existing(id)
            | Enqueued::Replaced(id),
        ) => Some(*id),
        Ok(Enqueued::Conflict | Enqueued::Locked(_)) | Err(_) => None,
    }
}

/// Why a job was not accepted: the problem that the client gets.
const fn error_type(answer: &Result<Enqueued, Error>) -> Option<&'static str> {
    Some(match answer {
        Ok(Enqueued::Conflict) => "idempotency-conflict",
        Ok(Enqueued::Locked(_)) => "locked",
        Ok(_) => return None,
        Err(Error::Unavailable { .. } | Error::Rejected { .. } | Error::Refused { .. }) => {
            "unavailable"
        }
        Err(Error::NotDurable { .. }) => "not-durable",
        Err(Error::Full) => "full",
        Err(Error::QueueFull { .. }) => "queue-full",
        Err(Error::TooManyQueues { .. }) => "too-many-queues",
        Err(Error::Busy) => "busy",
        Err(_) => "internal",
    })
}
