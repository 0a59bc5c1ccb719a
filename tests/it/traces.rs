//! Traces through the queue: what is exported by OTLP, and which headers of clients continue where.

mod export;
mod headers;
mod jobs;
mod measures;
mod sampling;

use crunch_tests::collector::{Collector, Span};
use crunch_tests::{Api, Stack, Worker};

use crate::webhooks;

/// Starts an API that delivers webhooks and a worker, which export to this collector at once, with further environment.
async fn stack_exporting_to(
    collector: &Collector,
    further: &[(&str, &str)],
) -> (Stack, Api, Worker) {
    let url = collector.url();
    let export = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
    ];
    let all: Vec<_> = export.iter().chain(&webhooks::SETTINGS).chain(further).copied().collect();
    let mut stack = Stack::start();
    let api = stack.api_with(&all).await;
    let worker = stack.worker_with(&api, 2, &all).await;
    (stack, api, worker)
}

/// The only span with this name.
fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut named = spans.iter().filter(|span| span.name == name);
    match (named.next(), named.next()) {
        (Some(span), None) => span,
        _ => panic!("there is not one {name} in {spans:#?}"),
    }
}
