//! The deliveries of webhooks: a span for each request, whose context is sent with it.

use std::sync::Arc;
use std::time::Instant;

use crunch_common::job::{JobId, TraceContext};
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanKind;

use crate::names::{
    HTTP_REQUEST_METHOD, HTTP_REQUEST_RESEND_COUNT, HTTP_RESPONSE_STATUS_CODE, JOB_ID,
    SERVER_ADDRESS, SERVER_PORT, URL_FULL,
};
use crate::spans::Span;
use crate::{Exporters, Otel};

const POST: &str = "POST";

/// A request to a receiver, until it is answered.
#[derive(Debug)]
#[must_use = "it is exported when it ends"]
pub struct Posting(Option<Active>);

#[derive(Debug)]
struct Active {
    exporters: Arc<Exporters>,
    begun: Instant,
    context: TraceContext,
    parent: TraceContext,
}

/// A request that has ended.
#[derive(Debug, Clone)]
pub struct Post<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and port, as the Host header has them. Path and query may be secret.
    pub authority: &'a str,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The job whose end is delivered.
    pub job: JobId,
    /// Which attempt of the delivery this was, from 1.
    pub attempt: u32,
    /// What the receiver answered, if it did.
    pub status: Option<u16>,
    /// Why it counts as failed, if it does: the code of the delivery's error.
    pub error: Option<&'a str>,
}

impl Otel {
    /// Begins a request that belongs to a job's trace.
    pub fn posting(&self, trace: Option<&TraceContext>) -> Posting {
        let exporters = self.0.as_ref().filter(|exporters| exporters.spans.is_some());
        let (Some(exporters), Some(parent)) = (exporters, trace.filter(|it| it.is_sampled()))
        else {
            return Posting(None);
        };
        Posting(Some(Active {
            exporters: exporters.clone(),
            begun: Instant::now(),
            context: parent.child(),
            parent: parent.clone(),
        }))
    }
}

impl Posting {
    /// The trace to send with the request, if it is exported.
    #[must_use]
    pub const fn context(&self) -> Option<&TraceContext> {
        match &self.0 {
            Some(active) => Some(&active.context),
            None => None,
        }
    }

    /// Ends the request. One that is dropped instead is not exported: it was not made, or is made again.
    pub fn ended(self, post: &Post<'_>) {
        let Some(Active { exporters, begun, context, parent }) = self.0 else { return };
        let Some(spans) = &exporters.spans else { return };
        spans.export(Span {
            kind: SpanKind::Client,
            name: POST.to_owned(),
            context: &context,
            parent: Some(&parent),
            took: begun.elapsed(),
            attributes: attributes(post),
            error: post.error.map(|code| error_type(code, post.status)),
        });
    }
}

/// As the conventions for HTTP have it: the status if it is an error.
fn error_type(code: &str, status: Option<u16>) -> String {
    status.filter(|status| *status >= 400).map_or_else(|| code.to_owned(), |it| it.to_string())
}

fn attributes(post: &Post<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new(HTTP_REQUEST_METHOD, POST),
        KeyValue::new(URL_FULL, format!("{}://{}/", post.scheme, post.authority)),
        KeyValue::new(SERVER_ADDRESS, post.host.clone()),
        KeyValue::new(SERVER_PORT, i64::from(post.port)),
        KeyValue::new(JOB_ID, post.job.to_string()),
    ];
    if post.attempt > 1 {
        attributes.push(KeyValue::new(HTTP_REQUEST_RESEND_COUNT, i64::from(post.attempt - 1)));
    }
    let status =
        post.status.map(|status| KeyValue::new(HTTP_RESPONSE_STATUS_CODE, i64::from(status)));
    attributes.extend(status);
    attributes
}
