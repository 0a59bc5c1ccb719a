//! How spans and metrics reach the collector, and what happens while it is away.

use std::time::{Duration, Instant};

use crunch_tests::collector::Collector;
use crunch_tests::{Stack, eventually};
use serde_json::json;
use tokio::net::TcpListener;

use super::{only, stack_exporting_to};

#[tokio::test]
async fn requests_have_the_configured_headers_and_processes_their_attributes() {
    let collector = Collector::open().await;
    let settings = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=a%20key,x-other=1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_SERVICE_NAME", "orders"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=a%2Cb,service.name=ignored"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ];
    let (_stack, api, _worker) = stack_exporting_to(&collector, &settings).await;
    api.submit("echo", &json!(1)).await;
    let spans = collector.wait_for_spans(2).await;
    let (send, process) = (only(&spans, "send echo"), only(&spans, "process echo"));
    for span in &spans {
        assert_eq!(span.resource["service.name"], "orders");
        assert_eq!(span.resource["deployment.environment.name"], "a,b");
        assert_eq!(span.resource["telemetry.sdk.language"], "rust");
        assert!(!span.resource["service.version"].is_empty());
    }
    assert_ne!(send.resource["service.instance.id"], process.resource["service.instance.id"]);
    let head = collector.first_head();
    for line in [
        "x-api-key: a key",
        "x-other: 1",
        "content-type: application/x-protobuf",
        "content-encoding: gzip",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
    assert!(collector.points().is_empty());
}

#[tokio::test]
async fn the_last_spans_are_exported_before_a_process_ends() {
    let collector = Collector::open().await;
    let late = [("OTEL_BSP_SCHEDULE_DELAY", "600000"), ("OTEL_METRIC_EXPORT_INTERVAL", "86400000")];
    let (_stack, mut api, mut worker) = stack_exporting_to(&collector, &late).await;
    let id = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(collector.requests(), 0);
    assert!(worker.terminate().await.success());
    assert!(api.process.terminate().await.success());
    assert_eq!(collector.spans().len(), 2);
    assert_eq!(collector.metric("messaging.client.sent.messages", &[]), 1);
    assert_eq!(collector.metric("messaging.client.consumed.messages", &[]), 1);
}

/// Starts a stack whose collector is at this address, and lets a hundred jobs succeed.
async fn run_jobs(address: &str) -> (Stack, crunch_tests::Api, crunch_tests::Worker) {
    let endpoint = format!("http://{address}");
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
    ];
    let mut stack = Stack::start();
    let api = stack.api_with(&settings).await;
    let worker = stack.worker_with(&api, 2, &settings).await;
    for _ in 0..100 {
        let answer = api.post("/tasks/echo/jobs?wait=20", &json!(1)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    (stack, api, worker)
}

#[tokio::test]
async fn jobs_do_not_notice_that_the_collector_is_away() {
    // Bound and not listened on: connections are refused, and no other process gets the port.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap().to_string();
    drop(unused);
    let (stack, mut api, mut worker) = run_jobs(&address).await;
    eventually("dropped spans are counted", async || {
        let metrics = api.get("/metrics").await.body;
        let metrics = String::from_utf8(metrics.to_vec()).unwrap();
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("crunch_spans_dropped_total "));
        line.is_some_and(|count| count.parse::<f64>().unwrap() > 0.0).then_some(())
    })
    .await;
    let begun = Instant::now();
    assert!(worker.terminate().await.success() && api.process.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    for log in [worker.log(), api.process.log()] {
        for signal in ["Spans", "Metrics"] {
            let begins = |line: &&str| line.contains("cannot export") && line.contains(signal);
            assert_eq!(log.lines().filter(begins).count(), 1, "{signal}, once: {log}");
        }
    }
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn jobs_do_not_notice_a_collector_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let (stack, mut api, mut worker) = run_jobs(&address).await;
    let begun = Instant::now();
    assert!(worker.terminate().await.success() && api.process.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_spans_again() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let (_stack, mut api, _worker) = run_jobs(&address.to_string()).await;
    api.process.wait_for_log("cannot export to the OpenTelemetry collector").await;
    let collector = Collector::open_at(address).await;
    let id = api.submit("echo", &json!("now")).await;
    api.wait_for_status(&id, "succeeded").await;
    api.process.wait_for_log("accepts exports again").await;
    eventually("the last job is exported", async || {
        let has_id = |span: &crunch_tests::collector::Span| {
            span.attributes.get("messaging.message.id") == Some(&id)
        };
        (collector.spans().iter().filter(|span| has_id(span)).count() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn wrong_values_are_refused() {
    let stack = Stack::start();
    for (variable, value, message) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "collector:4318",
            "OTEL_EXPORTER_OTLP_ENDPOINT: expected an address",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://a:b@collector",
            "OTEL_EXPORTER_OTLP_ENDPOINT: expected an address",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "=grpc: expected one of http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "OTEL_EXPORTER_OTLP_HEADERS: expected key=value"),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "/nowhere.pem",
            "/nowhere.pem: expected certificates in PEM",
        ),
        ("OTEL_TRACES_SAMPLER", "some", "expected one of always_on"),
        ("OTEL_TRACES_SAMPLER_ARG", "2", "=2: expected a number from 0 to 1"),
        ("OTEL_SDK_DISABLED", "yes", "=yes: expected true or false"),
    ] {
        for name in ["test-api", "test-worker"] {
            let mut command = stack.command(name);
            command.env("CRUNCH_API_ADDR", "127.0.0.1:0");
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1").env(variable, value);
            let output = command.output().await.unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(text.contains(message) && text.contains(variable), "{text}");
            assert_eq!(output.status.code(), Some(2), "{text}");
        }
    }
}
