//! A job is one trace: its submission, its attempts and the deliveries of its webhook.

use crunch_tests::collector::{Collector, Span};
use crunch_tests::{Api, Receiver, Stage};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use serde_json::{Value, json};

use super::{only, stack_exporting_to};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

#[tokio::test]
async fn submission_attempts_and_delivery_are_one_trace() {
    let (collector, receiver, stage) =
        (Collector::open().await, Receiver::open().await, Stage::open().await);
    let (_stack, api, _worker) = stack_exporting_to(&collector, &[]).await;
    let webhook = json!({ "url": receiver.url("/hook?secret=1") });
    let options = json!({ "max_attempts": 2, "webhook": webhook });
    let id = api.submit_with("act", &stage.payload(), &options).await;
    stage.wait_for_handler().await.fails("no luck").await;
    stage.wait_for_handler().await.returns(&json!(1)).await;
    receiver.next_call().await.answer(500, "").await;
    let call = receiver.next_call().await;
    let sent = call.header("traceparent").to_owned();
    call.answer(204, "").await;

    let spans = collector.wait_for_spans(5).await;
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["send act", "process act", "process act", "POST", "POST"]);
    let [send, first, second, refused, delivered] = &spans[..] else { panic!("{spans:#?}") };
    assert!(send.time.0 < send.time.1 && first.time.1 <= second.time.0, "{spans:#?}");
    for span in &spans {
        assert_eq!(span.trace, send.trace);
        assert!(span.id == send.id || span.parent == send.id, "{span:#?}");
        assert_eq!(span.schema, "https://opentelemetry.io/schemas/1.42.0");
    }
    assert_eq!(sent, format!("00-{}-{}-01", delivered.trace, delivered.id));

    assert_sent(send, &stage.payload(), &id);
    assert_attempts([first, second], &id);
    assert_deliveries([refused, delivered], &receiver, &id);
    assert!(!format!("{spans:?}").contains("no luck"), "messages of handlers are not exported");
}

fn assert_sent(send: &Span, payload: &Value, id: &str) {
    assert_eq!((send.kind, send.parent.as_str(), send.is_error), (SpanKind::Producer, "", false));
    let expected = [
        ("crunch.task", "act"),
        ("messaging.destination.name", "act"),
        ("messaging.message.body.size", &payload.to_string().len().to_string()),
        ("messaging.message.id", id),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("messaging.system", "crunch"),
    ];
    assert_attributes(send, &expected);
}

/// The first failed, the second succeeded.
fn assert_attempts(attempts: [&Span; 2], id: &str) {
    let outcomes = [("1", "retrying"), ("2", "succeeded")];
    for (span, (attempt, outcome)) in attempts.into_iter().zip(outcomes) {
        let value = |name: &str| span.attributes[name].as_str();
        assert_eq!(span.kind, SpanKind::Consumer);
        assert_eq!(span.resource["service.name"], "crunch-worker");
        assert_eq!((value("crunch.attempt"), value("crunch.outcome")), (attempt, outcome));
        assert_eq!(
            (value("messaging.message.id"), value("messaging.operation.type")),
            (id, "process")
        );
    }
    let [first, second] = attempts;
    assert_eq!((first.is_error, first.attributes["error.type"].as_str()), (true, "task_failed"));
    assert!(!second.is_error && !second.attributes.contains_key("error.type"));
    assert!(first.attributes["crunch.epoch"] < second.attributes["crunch.epoch"]);
}

/// The first was answered with 500, the second with 204.
fn assert_deliveries([refused, delivered]: [&Span; 2], receiver: &Receiver, id: &str) {
    assert_eq!((refused.kind, refused.is_error), (SpanKind::Client, true));
    assert_eq!(refused.attributes["error.type"], "500");
    assert_eq!(
        (delivered.is_error, delivered.resource["service.name"].as_str()),
        (false, "crunch-api")
    );
    let url = receiver.url("/");
    let expected = [
        ("crunch.job.id", id),
        ("http.request.method", "POST"),
        ("http.request.resend_count", "1"),
        ("http.response.status_code", "204"),
        ("server.address", "127.0.0.1"),
        ("server.port", url.trim_end_matches('/').rsplit(':').next().unwrap()),
        ("url.full", &url),
    ];
    assert_attributes(delivered, &expected);
}

fn assert_attributes(span: &Span, expected: &[(&str, &str)]) {
    let all: Vec<_> = span.attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(all, expected);
}

/// Submits a job with this parent.
async fn submit_below(api: &Api, flags: &str) -> String {
    let request = api.request(Method::POST, "/tasks/echo/jobs").json(&json!(1));
    let request = request.header("traceparent", format!("00-{TRACE}-{CALLER}-{flags}"));
    let id = api.send(request.header("tracestate", "a=1,b=2")).await.id();
    api.wait_for_status(&id, "succeeded").await;
    id
}

#[tokio::test]
async fn a_submission_is_a_child_of_its_caller() {
    let collector = Collector::open().await;
    let (_stack, api, _worker) = stack_exporting_to(&collector, &[]).await;
    submit_below(&api, "01").await;
    let spans = collector.wait_for_spans(2).await;
    let (send, process) = (only(&spans, "send echo"), only(&spans, "process echo"));
    assert_eq!((send.trace.as_str(), send.parent.as_str()), (TRACE, CALLER));
    assert_eq!((process.trace.as_str(), &process.parent), (TRACE, &send.id));
    assert_eq!((send.state.as_str(), process.state.as_str()), ("a=1,b=2", "a=1,b=2"));
}

#[tokio::test]
async fn a_batch_has_one_submission_with_the_number_of_its_jobs() {
    let collector = Collector::open().await;
    let (_stack, api, _worker) = stack_exporting_to(&collector, &[]).await;
    let batch = json!({ "jobs": [
        { "task": "echo", "payload": 1 },
        { "task": "nowhere" },
        { "task": "echo", "payload": 2, "queue": "other" },
        { "task": "echo", "payload": 3 },
    ] });
    assert_eq!(api.post("/jobs/batch", &batch).await.status, 202);
    let spans = collector.wait_for_spans(3).await;
    let (send, processes): (Vec<_>, Vec<_>) =
        spans.iter().partition(|span| span.kind == SpanKind::Producer);
    assert_attributes(
        send[0],
        &[
            ("messaging.batch.message_count", "3"),
            ("messaging.operation.name", "send"),
            ("messaging.operation.type", "send"),
            ("messaging.system", "crunch"),
        ],
    );
    assert_eq!((send.len(), send[0].name.as_str(), processes.len()), (1, "send", 2));
    for process in processes {
        assert_eq!((&process.trace, &process.parent), (&send[0].trace, &send[0].id));
    }

    let lines = "{\"task\": \"echo\"}\n".repeat(150);
    let request = api.request(Method::POST, "/jobs/batch").body(lines);
    let answer = api.send(request.header("content-type", "application/x-ndjson")).await;
    assert_eq!(answer.json()["accepted"], 150);
    let spans = collector.wait_for_spans(3 + 2 + 150).await;
    let sends = spans.iter().filter(|span| span.name == "send echo");
    let counts: Vec<_> =
        sends.map(|span| span.attributes["messaging.batch.message_count"].as_str()).collect();
    assert_eq!(counts, ["100", "50"]);
}

#[tokio::test]
async fn a_submission_that_is_not_accepted_is_a_failed_span_of_its_own() {
    let collector = Collector::open().await;
    let (_stack, api, _worker) = stack_exporting_to(&collector, &[]).await;
    let keyed =
        |payload: u8| json!({ "task": "echo", "payload": payload, "idempotency_key": "once" });
    assert_eq!(api.post("/jobs", &keyed(1)).await.status, 202);
    let refused = api.post("/jobs", &keyed(2)).await;
    assert_eq!(refused.problem(), "idempotency-conflict");
    let spans = collector.wait_for_spans(3).await;
    let sends: Vec<_> = spans.iter().filter(|span| span.name == "send echo").collect();
    assert_eq!((sends[0].is_error, sends[1].is_error), (false, true), "{spans:#?}");
    assert_eq!(sends[1].attributes["error.type"], "idempotency-conflict");
    assert!(!sends[1].attributes.contains_key("messaging.message.id"));
    assert_ne!(sends[0].trace, sends[1].trace);
}
