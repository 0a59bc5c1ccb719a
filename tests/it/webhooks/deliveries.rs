//! One delivery for each end of a job: signed, and with the job in it.

use crunch_tests::{Receiver, Stage};
use reqwest::Method;
use serde_json::json;

use super::{SECRET, assert_event, deliveries, stack_with, submit, wait_for_delivery};

#[tokio::test]
async fn the_end_of_a_job_is_delivered_once_and_signed() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let options = json!({
        "webhook": { "url": receiver.url("/hook?of=crunch") }, "metadata": { "order": "17" },
    });
    let id = api.submit_with("echo", &json!({ "n": 7 }), &options).await;

    let call = receiver.next_call().await;
    assert_eq!(call.line, "POST /hook?of=crunch HTTP/1.1");
    assert_eq!(call.header("content-type"), "application/json");
    assert!(call.is_signed_by(SECRET));
    assert!(!call.is_signed_by("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    let (message, job) = (call.json(), api.job(&id).await);
    assert_eq!(
        message,
        json!({ "type": "job.succeeded", "timestamp": job["finished_at"], "data": job })
    );
    assert_eq!((&job["result"], &job["metadata"]["order"]), (&json!({ "n": 7 }), &json!("17")));
    let webhook_id = call.header("webhook-id").to_owned();
    call.answer(204, "").await;

    let delivery = wait_for_delivery(&api, &id, "succeeded").await;
    assert_eq!(deliveries(&api, &id).await.len(), 1);
    assert_eq!(
        (&delivery["id"], &delivery["event"], &delivery["response_status"], &delivery["attempt"]),
        (&json!(webhook_id), &json!("job.succeeded"), &json!(204), &json!(1))
    );
    assert_eq!(delivery["url"], receiver.url("/hook?of=crunch"));
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
    assert!(receiver.has_no_call().await);
}

#[tokio::test]
async fn failed_and_canceled_jobs_are_delivered_too() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let (receiver, stage) = (Receiver::open().await, Stage::open().await);
    let webhook = json!({ "webhook": { "url": receiver.url("/") }, "max_attempts": 1 });
    let failed = api.submit_with("act", &stage.payload(), &webhook).await;
    stage.wait_for_handler().await.fails("broken").await;
    let call = receiver.next_call().await;
    assert_event(&call, "job.failed", &failed);
    assert_eq!(call.json()["data"]["error"]["message"], "broken");
    call.answer(200, "").await;

    let running = api.submit_with("act", &stage.payload(), &webhook).await;
    let _actor = stage.wait_for_handler().await;
    api.post_empty(&format!("/jobs/{running}/cancel")).await;
    let call = receiver.next_call().await;
    assert_event(&call, "job.canceled", &running);
    call.answer(200, "").await;

    let waiting = json!({ "webhook": { "url": receiver.url("/") }, "delay_ms": 3_600_000 });
    let waiting = api.submit_with("echo", &json!(1), &waiting).await;
    api.post_empty(&format!("/jobs/{waiting}/cancel")).await;
    let call = receiver.next_call().await;
    assert_event(&call, "job.canceled", &waiting);
    call.answer(200, "").await;
}

#[tokio::test]
async fn only_the_requested_events_are_delivered() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let only_failed = json!({ "webhook": { "url": receiver.url("/"), "events": ["job.failed"] } });
    let unwanted = api.submit_with("echo", &json!(1), &only_failed).await;
    api.wait_for_status(&unwanted, "succeeded").await;
    assert!(deliveries(&api, &unwanted).await.is_empty());

    let id = submit(&api, &receiver).await;
    let call = receiver.next_call().await;
    assert_event(&call, "job.succeeded", &id);
    call.answer(200, "").await;

    let without = api.submit("echo", &json!(1)).await;
    api.wait_for_status(&without, "succeeded").await;
    assert!(deliveries(&api, &without).await.is_empty());
}

#[tokio::test]
async fn a_retried_job_makes_a_second_delivery_with_its_own_id() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let (receiver, stage) = (Receiver::open().await, Stage::open().await);
    let webhook = json!({ "webhook": { "url": receiver.url("/") }, "max_attempts": 1 });
    let id = api.submit_with("act", &stage.payload(), &webhook).await;
    stage.wait_for_handler().await.fails("broken").await;
    let first = receiver.next_call().await;

    api.post_empty(&format!("/jobs/{id}/retry")).await;
    stage.wait_for_handler().await.returns(&json!(1)).await;
    let second = receiver.next_call().await;

    assert_event(&first, "job.failed", &id);
    assert_event(&second, "job.succeeded", &id);
    assert_ne!(first.header("webhook-id"), second.header("webhook-id"));

    first.answer(200, "").await;
    second.answer(200, "").await;
    wait_for_delivery(&api, &id, "succeeded").await;
    let events: Vec<_> =
        deliveries(&api, &id).await.iter().map(|delivery| delivery["event"].clone()).collect();
    assert_eq!(events, [json!("job.failed"), json!("job.succeeded")]);
}

#[tokio::test]
async fn the_delivery_for_a_deleted_job_contains_what_is_still_known() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    // Paused, so that the job is deleted before the delivery is made.
    api.post_empty("/queues/crunch.webhooks/pause").await;
    let id = submit(&api, &receiver).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    let deleted = api.send(api.request(Method::DELETE, &format!("/jobs/{id}"))).await;
    assert_eq!(deleted.status.as_u16(), 204);

    api.post_empty("/queues/crunch.webhooks/resume").await;
    let call = receiver.next_call().await;
    assert!(call.is_signed_by(SECRET));
    assert_eq!(
        call.json()["data"],
        json!({ "id": id, "token": id, "status": "succeeded", "finished_at": job["finished_at"] })
    );
    call.answer(200, "").await;

    let answer = api.get(&format!("/jobs/{id}/deliveries")).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (410, "gone"));
}

#[tokio::test]
async fn a_large_result_is_left_out() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let webhook = json!({ "webhook": { "url": receiver.url("/") } });
    let id = api.submit_with("echo", &json!("x".repeat(40_000)), &webhook).await;
    let call = receiver.next_call().await;
    let data = call.json()["data"].clone();
    assert!(call.body.len() < 20_000 && data["result"].is_null());
    assert_eq!((&data["id"], &data["result_size"]), (&json!(id), &json!(40_002)));
    call.answer(200, "").await;
}

#[tokio::test]
async fn the_trace_of_a_submission_continues_in_its_delivery() {
    let (_stack, api, _worker) = stack_with(&[]).await;
    let receiver = Receiver::open().await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let path = format!("/tasks/echo/jobs?webhook.url={}", receiver.url("/"));
    let request = api.request(Method::POST, &path).json(&json!(1));
    let request = request.header("traceparent", parent).header("tracestate", "a=1");
    assert_eq!(api.send(request).await.status.as_u16(), 202);

    let call = receiver.next_call().await;
    assert_eq!((call.header("traceparent"), call.header("tracestate")), (parent, "a=1"));
    call.answer(200, "").await;
}
