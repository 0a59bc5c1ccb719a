//! How attempts end, as clients see it.

use crunch_tests::{Stack, Stage};
use reqwest::StatusCode;
use serde_json::json;

#[tokio::test]
async fn a_real_computation_succeeds_and_its_result_is_read() {
    let (_stack, api, _worker) = Stack::simple(2).await;
    let answer = api.post("/crunch", &json!({ "photons": 20_000, "seed": 7 })).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let id = answer.id();
    assert_eq!(answer.header("location"), format!("{}/result/{id}", api.url));

    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!(job["result"]["photons"], 20_000);
    assert_eq!(job["progress"], 1.0);
    let sum: f64 = ["transmitted", "reflected", "absorbed"]
        .iter()
        .map(|part| job["result"][part]["fraction"].as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-9, "{job}");

    let by_token = api.get(&format!("/result/{id}")).await;
    assert_eq!(by_token.status, StatusCode::OK);
    let raw = api.get(&format!("/jobs/{id}/result")).await;
    assert_eq!(raw.json(), job["result"]);
}

#[tokio::test]
async fn progress_and_status_are_seen_while_a_job_runs() {
    let (_stack, api, worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    assert_eq!((actor.id.as_str(), actor.attempt, actor.pid), (id.as_str(), 1, worker.pid()));

    actor.send(&json!({ "progress": [0.4, "half way, nearly"] })).await;
    let job = api.wait_for_job(&id, "progress", |job| job["progress"] == 0.4).await;
    assert_eq!(job["status"], "running");
    assert_eq!(job["progress_message"], "half way, nearly");
    let pending = api.get(&format!("/result/{id}")).await;
    assert_eq!(pending.status, StatusCode::ACCEPTED);
    assert_eq!(pending.header("retry-after"), "1");
    assert_eq!(api.get(&format!("/jobs/{id}/result")).await.status, StatusCode::ACCEPTED);

    actor.returns(&json!({ "answer": 42 })).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], json!({ "answer": 42 }));
}

#[tokio::test]
async fn the_last_progress_of_a_job_is_stored_before_its_end() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    actor.send(&json!({ "progress": [0.9, "almost done"] })).await;
    actor.returns(&json!(null)).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!((&job["progress"], &job["progress_message"]), (&json!(0.9), &json!("almost done")));
    assert_eq!((&job["result"], &job["result_size"]), (&json!(null), &json!(4)));
}

#[tokio::test]
async fn a_permanent_failure_is_not_retried() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    stage
        .wait_for_handler()
        .await
        .send(&json!({ "fail_for_good": "the input makes no sense" }))
        .await;

    let job = api.wait_for_status(&id, "failed").await;
    let error =
        json!({ "code": "task_failed", "message": "the input makes no sense", "retryable": false });
    assert_eq!((&job["error"], &job["attempt"]), (&error, &json!(1)));

    let result = api.get(&format!("/jobs/{id}/result")).await;
    assert_eq!(
        (result.status, result.problem()),
        (StatusCode::UNPROCESSABLE_ENTITY, "job-failed".to_owned())
    );
    assert_eq!(result.json()["error"], error);
    assert_eq!(api.get(&format!("/result/{id}")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_panic_fails_its_job_and_the_worker_keeps_running() {
    let (_stack, api, worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit_with("act", &stage.payload(), &json!({ "max_attempts": 1 })).await;
    stage.wait_for_handler().await.send(&json!({ "panic": "out of cheese" })).await;
    let job = api.wait_for_status(&id, "failed").await;
    assert_eq!(job["error"]["code"], "handler_panicked");
    assert_eq!(job["error"]["message"], "out of cheese");

    let next = api.submit("echo", &json!([1, 2])).await;
    let next = api.wait_for_status(&next, "succeeded").await;
    assert_eq!(next["result"], json!([1, 2]));
    assert!(worker.pid() > 0);
}

#[tokio::test]
async fn a_payload_that_the_task_rejects_fails_permanently() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    // The slab is too thick in total: the schema limits each member only.
    let thick = json!({ "thickness_cm": 1000, "scattering_per_cm": 1000 });
    let id = api.submit("crunch", &thick).await;
    let job = api.wait_for_status(&id, "failed").await;
    assert_eq!((&job["error"]["code"], &job["attempt"]), (&json!("payload_invalid"), &json!(1)));
}

#[tokio::test]
async fn payloads_and_results_need_not_be_json() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(600, 300, image::Rgb([200, 30, 30]))
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    let submit = api
        .request(reqwest::Method::POST, "/tasks/image.thumbnail/jobs?metadata.size=64")
        .header("content-type", "image/png")
        .body(png.into_inner());
    let id = api.send(submit).await.id();

    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!((&job["result"], &job["result_content_type"]), (&json!(null), &json!("image/png")));
    let result = api.get(&format!("/jobs/{id}/result")).await;
    assert_eq!(result.header("content-type"), "image/png");
    let thumbnail = image::load_from_memory(&result.body).unwrap();
    assert_eq!((thumbnail.width(), thumbnail.height()), (64, 32));
    let payload = api.get(&format!("/jobs/{id}/payload")).await;
    assert_eq!(payload.header("content-type"), "image/png");
}

#[tokio::test]
async fn a_result_over_the_limit_fails_its_job() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let _worker = stack.worker_with(&api, 1, &[("CRUNCH_WORKER_MAX_RESULT", "100")]).await;
    let id = api.submit("echo", &json!("x".repeat(200))).await;
    assert_eq!(api.wait_for_status(&id, "failed").await["error"]["code"], "result_too_large");
}

#[tokio::test]
async fn a_large_result_is_read_separately_and_not_shown_in_the_job() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let text = "y".repeat(100_000);
    let id = api.submit("echo", &json!(text)).await;
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!((&job["result"], &job["result_size"]), (&json!(null), &json!(100_002)));
    assert_eq!(job["result_omitted"], "too_large");
    let listed = api.get("/jobs").await.json()["items"][0].take();
    assert_eq!((&listed["result"], &listed["result_omitted"]), (&json!(null), &json!("list")));
    assert_eq!(api.get(&format!("/jobs/{id}/result")).await.json(), json!(text));
}
