//! Which traces are exported: the sampler of the API decides, and workers and deliveries follow it.

use crunch_tests::collector::Collector;
use crunch_tests::{Api, Receiver, Stack};
use reqwest::Method;
use serde_json::json;

use super::stack_exporting_to;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

/// Submits a job, with these flags of a parent if there are any; returns the `traceparent` of its delivery.
async fn delivered(api: &Api, receiver: &Receiver, flags: Option<&str>) -> Option<String> {
    let path = format!("/tasks/echo/jobs?webhook.url={}", receiver.url("/"));
    let request = api.request(Method::POST, &path).json(&json!(1));
    let request = match flags {
        Some(flags) => request.header("traceparent", format!("{PARENT}-{flags}")),
        None => request,
    };
    assert_eq!(api.send(request).await.status, 202);
    let call = receiver.next_call().await;
    let sent = call.headers.get("traceparent").map(|it| it.to_str().unwrap().to_owned());
    call.answer(204, "").await;
    sent
}

#[tokio::test]
async fn a_caller_that_does_not_sample_is_followed() {
    let (collector, receiver) = (Collector::open().await, Receiver::open().await);
    let (_stack, api, _worker) = stack_exporting_to(&collector, &[]).await;
    let sent = delivered(&api, &receiver, Some("00")).await;
    assert_eq!(sent.as_deref(), Some(format!("{PARENT}-00").as_str()), "passed on as it came");
    delivered(&api, &receiver, Some("01")).await;
    let spans = collector.wait_for_spans(3).await;
    assert_eq!(spans.len(), 3, "only those of the second job: {spans:#?}");
}

#[tokio::test]
async fn a_sampler_can_contradict_the_caller_and_jobs_follow_the_sampler() {
    let (collector, receiver) = (Collector::open().await, Receiver::open().await);
    let none = [("OTEL_TRACES_SAMPLER", "always_off")];
    let (_stack, api, _worker) = stack_exporting_to(&collector, &none).await;
    assert_eq!(delivered(&api, &receiver, None).await, None);
    let sent = delivered(&api, &receiver, Some("01")).await;
    assert_eq!(sent.as_deref(), Some(format!("{PARENT}-00").as_str()));

    let all = [("OTEL_TRACES_SAMPLER", "always_on")];
    let (_stack, api, _worker) = stack_exporting_to(&collector, &all).await;
    let sent = delivered(&api, &receiver, Some("00")).await.unwrap();
    let spans = collector.wait_for_spans(3).await;
    assert_eq!(spans.len(), 3, "{spans:#?}");
    assert_eq!(sent, format!("00-{}-{}-01", spans[2].trace, spans[2].id));
    assert_eq!(spans[0].parent, "b7ad6b7169203331");
}

#[tokio::test]
async fn a_ratio_samples_by_the_id_of_the_trace() {
    let collector = Collector::open().await;
    let half =
        [("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.5")];
    let (_stack, api, _worker) = stack_exporting_to(&collector, &half).await;
    for _ in 0..60 {
        let id = api.submit("echo", &json!(1)).await;
        api.wait_for_status(&id, "succeeded").await;
    }
    // Of 60 fair coins, 13 to 47 heads come up in all but one of 100 000 cases.
    let sampled = |spans: usize| (26..=94).contains(&spans) && spans.is_multiple_of(2);
    crunch_tests::eventually("about half of them are exported", async || {
        sampled(collector.spans().len()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_an_endpoint_a_job_has_no_trace_in_redis() {
    let collector = Collector::open().await;
    let url = collector.url();
    let disabled = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()),
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1"),
    ];
    let mut sizes = Vec::new();
    for settings in [&[][..], &disabled, &disabled[..1]] {
        let mut stack = Stack::on_one_node();
        let api = stack.api_with(settings).await;
        let _worker = stack.worker_with(&api, 1, settings).await;
        let id = api.submit("echo", &json!(1)).await;
        api.wait_for_status(&id, "succeeded").await;
        let (mut redis, key) = stack.redis.find(&format!("job:{id}")).await;
        let fields: Vec<(String, Vec<u8>)> =
            redis::cmd("HGETALL").arg(&key).query_async(&mut redis).await.unwrap();
        let spec = fields.iter().find(|(name, _)| name == "spec").unwrap();
        sizes.push((fields.len(), spec.1.len()));
        if settings.len() != 1 {
            assert_eq!(collector.requests(), 0, "{settings:?}");
        }
    }
    assert_eq!(sizes[0], sizes[1], "nothing is added where nothing is exported");
    assert!(sizes[0].1 < sizes[2].1, "and the test would see it");
}
