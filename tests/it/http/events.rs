//! A job's events as they happen, and its log.

use crunch_tests::{Api, EventStream, ServerEvent, Stack, Stage};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::expect_problem;

/// The name of an event, and the relevant member of its data.
fn summary(sent: &ServerEvent) -> (String, Value) {
    let member = match sent.name.as_str() {
        "status" | "done" => "status",
        "progress" => "progress_message",
        _ => "line",
    };
    (sent.name.clone(), sent.data[member].clone())
}

fn summaries(events: &[ServerEvent]) -> Vec<(String, Value)> {
    events.iter().map(summary).collect()
}

fn expected(events: &[(&str, &str)]) -> Vec<(String, Value)> {
    events.iter().map(|(name, data)| ((*name).to_owned(), json!(data))).collect()
}

#[tokio::test]
async fn a_stream_starts_with_the_state_and_continues_in_order_until_the_end() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit_with("act", &stage.payload(), &json!({ "delay_ms": 3_600_000 })).await;
    let mut events = EventStream::open(&api, &id, None).await;
    let first = events.expect("status").await;
    assert_eq!(first.data, json!({ "status": "scheduled", "attempt": 0, "at": null }));

    // Canceled and retried, it starts at once.
    api.post_empty(&format!("/jobs/{id}/cancel")).await;
    let rest = events.rest().await;
    assert_eq!(
        summaries(&rest),
        expected(&[("status", "canceled"), ("done", "canceled")]),
        "a stream ends with the job"
    );
    api.post_empty(&format!("/jobs/{id}/retry")).await;
    let mut actor = stage.wait_for_handler().await;
    let last = rest.last().unwrap().id.clone();
    let mut events = EventStream::open(&api, &id, Some(&last)).await;
    for status in ["queued", "running"] {
        assert_eq!(events.expect("status").await.data["status"], status);
    }
    for (act, name) in [
        (json!({ "log": "one" }), "log"),
        (json!({ "progress": [0.25, "a quarter"] }), "progress"),
        (json!({ "log": "two" }), "log"),
    ] {
        actor.send(&act).await;
        events.expect(name).await;
    }
    actor.returns(&json!({ "answer": 42 })).await;
    let rest = events.rest().await;

    assert_eq!(summaries(&rest), expected(&[("status", "succeeded"), ("done", "succeeded")]));
    assert_eq!(rest[1].data["result"], json!({ "answer": 42 }), "done is the job's document");
    assert_eq!(rest[1].data, api.job(&id).await);
}

#[tokio::test]
async fn a_client_that_reconnects_gets_each_event_once() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let mut stream = EventStream::open(&api, &id, None).await;
    let mut received = vec![stream.expect("status").await];

    for step in 1..=5 {
        actor.send(&json!({ "log": format!("line {step}") })).await;
        received.push(stream.expect("log").await);
        actor.send(&json!({ "progress": [0.1, format!("step {step}")] })).await;
        received.push(stream.expect("progress").await);
    }
    actor.returns(&json!(1)).await;
    received.extend(stream.rest().await);

    let ids: std::collections::BTreeSet<_> = received.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), received.len(), "every event has its own id");
    for (at, event) in received.iter().enumerate() {
        let response = EventStream::request(&api, &id, Some(&event.id)).await;
        if at + 1 == received.len() {
            assert_eq!(response.status().as_u16(), 204, "everything was received");
        } else {
            let rest = EventStream::open(&api, &id, Some(&event.id)).await.rest().await;
            assert_eq!(rest, received[at + 1..], "after {}", event.id);
        }
    }
    stack.assert_clean_audit().await;
}

/// How many functions Redis has run.
async fn function_calls(stack: &Stack) -> u64 {
    let mut redis = stack.redis.connect().await;
    let info: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut redis).await.unwrap();
    let calls = info.lines().filter_map(|line| line.strip_prefix("cmdstat_fcall:calls="));
    calls.map(|rest| rest.split(',').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn a_stream_does_not_poll_redis() {
    // Each partition is swept by itself.
    let (stack, api, _worker) = Stack::with_one_partition().with_api_and_worker(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let mut events = EventStream::open(&api, &id, None).await;
    events.expect("status").await;
    actor.send(&json!({ "progress": [0.5, "half"] })).await;
    events.expect("progress").await;

    let before = function_calls(&stack).await;
    // Sweeps and heartbeats continue: they are some calls a second, not thousands.
    for _ in 0..3 {
        actor.send(&json!({ "log": "a while" })).await;
        events.expect("log").await;
    }
    let calls = function_calls(&stack).await - before;
    assert!(calls < 100, "{calls} calls for three lines");
    actor.returns(&json!(1)).await;
    let rest = events.rest().await;

    assert_eq!(summaries(&rest), expected(&[("status", "succeeded"), ("done", "succeeded")]));
}

#[tokio::test]
async fn a_stream_without_stored_history_starts_with_the_state() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let id = api.submit("echo", &json!("x")).await;
    api.wait_for_status(&id, "succeeded").await;
    for last in [None, Some("2.0"), Some("nonsense"), Some("9999.7")] {
        let received = summaries(&EventStream::open(&api, &id, last).await.rest().await);
        assert_eq!(
            received,
            expected(&[("status", "succeeded"), ("done", "succeeded")]),
            "{last:?}"
        );
    }
}

#[tokio::test]
async fn after_more_changes_than_are_kept_a_stream_starts_with_the_state() {
    let (stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let first = EventStream::open(&api, &id, None).await.expect("status").await;

    actor.send(&json!({ "progress": [0.5, "half"] })).await;
    api.wait_for_job(&id, "half done", |job| job["progress"] == 0.5).await;
    // As if there had been 256 other events since.
    let (mut redis, key) = stack.redis.find(&format!("job:{id}:events")).await;
    let () = redis::cmd("DEL").arg(key).query_async(&mut redis).await.unwrap();
    let mut again = EventStream::open(&api, &id, Some(&first.id)).await;
    assert_eq!(summary(&again.expect("status").await).1, "running");
    assert_eq!(summary(&again.expect("progress").await).1, "half");
    actor.returns(&json!(1)).await;
}

#[tokio::test]
async fn a_stream_survives_an_outage_of_redis() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let _worker = stack.worker(&api, 1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let mut events = EventStream::open(&api, &id, None).await;

    events.expect("status").await;
    proxy.refuse().await;
    actor.send(&json!({ "progress": [0.5, "half"] })).await;
    actor.send(&json!({ "log": "during the outage" })).await;
    proxy.heal();
    actor.returns(&json!(1)).await;
    let received = summaries(&events.rest().await);

    assert_eq!(received.last().unwrap(), &("done".to_owned(), json!("succeeded")), "{received:?}");
    assert!(received.contains(&("log".to_owned(), json!("during the outage"))), "{received:?}");
}

#[tokio::test]
async fn a_stream_ends_when_the_api_shuts_down() {
    let (_stack, mut api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let mut events = EventStream::open(&api, &id, None).await;
    events.expect("status").await;
    api.process.signal(Signal::TERM);
    assert_eq!(events.rest().await, []);
    assert!(api.process.exited().await.success());
    actor.returns(&json!(1)).await;
}

#[tokio::test]
async fn unknown_jobs_have_no_events_and_a_head_request_does_not_hang() {
    let (_stack, api) = super::api_without_workers().await;
    for path in ["/jobs/unknown/events", "/jobs/unknown/logs"] {
        expect_problem(&api, &api.get(path).await, 404, "not-found").await;
    }
    let id = api.submit("t", &json!(1)).await;
    let head = api.send(api.request(Method::HEAD, &format!("/jobs/{id}/events"))).await;
    assert_eq!(
        (head.status.as_u16(), head.header("content-type"), head.header("x-accel-buffering")),
        (200, "text/event-stream", "no")
    );
}

async fn lines(api: &Api, path: &str) -> (Vec<String>, Value) {
    let page = api.get(path).await.json();
    let items = page["items"].as_array().unwrap().iter();
    let lines = items.map(|item| item["line"].as_str().unwrap().to_owned()).collect();
    (lines, page["next_cursor"].clone())
}

#[tokio::test]
async fn a_log_is_read_page_by_page_while_it_grows() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let mut events = EventStream::open(&api, &id, None).await;

    events.expect("status").await;
    for number in 1..=3 {
        actor.send(&json!({ "log": format!("line {number} & more") })).await;
        assert_eq!(events.expect("log").await.data["number"], number);
    }
    let path = format!("/jobs/{id}/logs");
    let (read, cursor) = lines(&api, &format!("{path}?limit=2")).await;
    assert_eq!((read.len(), &cursor), (2, &json!("2")));
    let (read, cursor) = lines(&api, &format!("{path}?limit=2&cursor=2")).await;
    assert_eq!((&read[..], &cursor), (&["line 3 & more".to_owned()][..], &json!("3")));
    let (read, cursor) = lines(&api, &format!("{path}?cursor=3")).await;
    assert_eq!((read.len(), &cursor), (0, &json!("3")), "more lines may follow");
    actor.returns(&json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(lines(&api, &format!("{path}?cursor=3")).await, (vec![], json!(null)));
    for bad in ["cursor=x", "limit=0", "limit=257", "limit=x", "cursor=-1"] {
        let answer = api.get(&format!("{path}?{bad}")).await;
        expect_problem(&api, &answer, 400, "invalid-parameter").await;
    }
}

#[tokio::test]
async fn the_newest_lines_of_a_long_log_are_kept() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;

    for number in 1..=300 {
        actor.send(&json!({ "log": format!("line {number}") })).await;
    }
    actor.returns(&json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    let page = api.get(&format!("/jobs/{id}/logs?limit=256")).await.json();
    let items = page["items"].as_array().unwrap();
    assert_eq!((items.len(), &page["next_cursor"]), (256, &json!(null)));
    // If more were written between two reports than are kept, the worker dropped the oldest of them, and the first line says
    // how many.
    let oldest = items[0]["line"].as_str().unwrap();
    assert!(oldest == "line 45" || oldest.ends_with(" lines are missing]"), "{oldest}");
    let first = items[0]["number"].as_u64().unwrap();
    for (at, item) in (0..).zip(items).skip(1) {
        let expected = (json!(format!("line {}", 45 + at)), json!(1), json!(first + at));
        assert_eq!(
            (&item["line"], &item["attempt"], &item["number"]),
            (&expected.0, &expected.1, &expected.2)
        );
    }
}
