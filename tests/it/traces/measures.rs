//! Metrics by OTLP, under the names of OpenTelemetry's conventions.

use crunch_tests::Stage;
use crunch_tests::collector::Collector;
use serde_json::json;

use super::stack_exporting_to;

#[tokio::test]
async fn jobs_are_counted_under_the_names_of_the_conventions() {
    let (collector, stage) = (Collector::open().await, Stage::open().await);
    let (_stack, api, _worker) = stack_exporting_to(&collector, &[]).await;
    api.submit_with("act", &stage.payload(), &json!({ "max_attempts": 1 })).await;
    stage.wait_for_handler().await.fails("no luck").await;
    api.submit("act", &stage.payload()).await;
    stage.wait_for_handler().await.returns(&json!(1)).await;

    let queue = ("messaging.destination.name", "act");
    let failed = [queue, ("error.type", "task_failed")];
    for (metric, attributes, value) in [
        ("messaging.client.sent.messages", &[queue][..], 2),
        ("messaging.client.operation.duration", &[queue, ("messaging.operation.type", "send")], 2),
        ("messaging.client.consumed.messages", &[queue], 2),
        ("messaging.process.duration", &[queue], 2),
        ("messaging.process.duration", &failed, 1),
    ] {
        collector.wait_for_metric(metric, attributes, value).await;
    }
    let mut units: Vec<_> = collector
        .points()
        .into_iter()
        .map(|point| {
            (point.metric, point.unit, point.attributes["messaging.operation.name"].clone())
        })
        .collect();
    units.sort();
    units.dedup();
    let expected = [
        ("messaging.client.consumed.messages", "{message}", "process"),
        ("messaging.client.operation.duration", "s", "send"),
        ("messaging.client.sent.messages", "{message}", "send"),
        ("messaging.process.duration", "s", "process"),
    ];
    let expected =
        expected.map(|(name, unit, of)| (name.to_owned(), unit.to_owned(), of.to_owned()));
    assert_eq!(units, expected);
}

#[tokio::test]
async fn a_repeated_submission_is_counted_once() {
    let collector = Collector::open().await;
    let (_stack, api, _worker) = stack_exporting_to(&collector, &[]).await;
    let key = json!({ "task": "echo", "idempotency_key": "once", "delay_ms": 3_600_000 });
    for _ in 0..3 {
        assert_eq!(api.post("/jobs", &key).await.status, 202);
    }
    collector.wait_for_metric("messaging.client.operation.duration", &[], 3).await;
    assert_eq!(collector.metric("messaging.client.sent.messages", &[]), 1);
}
