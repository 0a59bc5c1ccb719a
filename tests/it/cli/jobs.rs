//! Single jobs: submitted, followed, changed; and the exit codes, by which scripts decide.

use crunch_tests::{Stack, Stage};
use serde_json::{Value, json};

use super::{Crunch, finish};

#[tokio::test]
async fn a_submission_that_waits_prints_only_the_result() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);

    assert_eq!(
        crunch.prints(&["submit", "repeat", "-d", r#"{"n":1e2}"#, "--wait"]).await,
        r#"{"n":1e2}"#
    );
    let run = crunch.run_with_input(&["submit", "echo", "-", "--wait=20s"], b"[1, 2]").await;
    assert_eq!((run.code, run.out.as_str()), (0, "[1,2]"));
    std::fs::write(crunch.path("payload.json"), "\"file\"").unwrap();
    let file = crunch.path("payload.json").display().to_string();
    assert_eq!(crunch.prints(&["submit", "echo", "-f", &file, "--wait"]).await, "\"file\"");
    assert_eq!(crunch.prints(&["submit", "echo", "--wait"]).await, "null");
}

#[tokio::test]
async fn options_of_a_submission_are_those_of_the_api() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);
    let all = "submit echo -d 1 --queue slow --priority high --in 1h --timeout 90s --max-attempts 7 \
               --metadata a=b --metadata c=d=e --key order-17 --json";
    let arguments: Vec<_> = all.split_whitespace().collect();
    let job: Value = serde_json::from_str(&crunch.prints(&arguments).await).unwrap();

    assert_eq!((&job["queue"], &job["priority"]), (&json!("slow"), &json!("high")));
    assert_eq!((&job["status"], &job["max_attempts"]), (&json!("scheduled"), &json!(7)));
    assert_eq!(job["metadata"], json!({ "a": "b", "c": "d=e" }));
    let again: Value = serde_json::from_str(&crunch.prints(&arguments).await).unwrap();
    assert_eq!(again["id"], job["id"], "the same key is the same job");
}

#[tokio::test]
async fn a_job_is_shown_canceled_retried_and_deleted() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let payload = stage.payload().to_string();
    let id = crunch.prints(&["submit", "act", "-d", &payload]).await.trim().to_owned();
    let mut actor = stage.wait_for_handler().await;
    actor.send(&json!({ "progress": [0.25, "a quarter"] })).await;
    api.wait_for_job(&id, "progress", |job| job["progress"] == 0.25).await;

    let shown = crunch.prints(&["get", &id]).await;
    let cells: Vec<_> = shown.trim_end().split('\t').collect();
    assert_eq!(
        (cells[0], cells[1], cells[2], cells[5], cells[7]),
        (&*id, "running", "act", "0.25", "a quarter")
    );
    // The worker may be faster than the answer, here and below.
    let canceled = crunch.prints(&["cancel", &id]).await;
    assert!(
        canceled.ends_with("\tcanceling\n") || canceled.ends_with("\tcanceled\n"),
        "{canceled}"
    );
    actor.wait_for_stop_request().await;
    assert_eq!(crunch.run(&["wait", &id]).await.code, 1, "canceled");
    let retried = crunch.prints(&["retry", &id]).await;
    assert!(retried.ends_with("\tqueued\n") || retried.ends_with("\trunning\n"), "{retried}");
    stage.wait_for_handler().await.returns(&json!("done")).await;
    assert_eq!(crunch.prints(&["wait", &id]).await, format!("{id}\tsucceeded\t\n"));
    assert_eq!(crunch.prints(&["result", &id]).await, "\"done\"");
    assert_eq!(crunch.prints(&["payload", &id]).await, payload);
    assert_eq!(crunch.prints(&["attempts", &id]).await.lines().count(), 2);
    assert_eq!(crunch.prints(&["delete", &id]).await, format!("{id}\tdeleted\n"));
    assert_eq!(crunch.run(&["get", &id]).await.code, 3);
}

#[tokio::test]
async fn every_outcome_has_its_exit_code() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let payload = stage.payload().to_string();
    let waits = crunch.start(&["submit", "act", "-d", &payload, "--max-attempts", "1", "--wait"]);
    stage.wait_for_handler().await.fails("a reason").await;
    let failed = finish(waits).await;
    assert_eq!((failed.code, failed.out.as_str()), (1, ""));
    assert!(failed.err.contains("failed (task_failed: a reason)"), "{}", failed.err);

    let late = crunch.run(&["submit", "act", "-d", &payload, "--wait=100ms"]).await;
    assert_eq!((late.code, late.out.as_str()), (7, ""));
    let id = late.err.split("crunch wait ").nth(1).unwrap().trim().to_owned();
    let unknown = "01a20c36-14f1-8000-8f8f-f34074aa25aa";
    for (code, arguments) in [
        (2, vec!["submit"]),
        (2, vec!["jobs", "--status", "done"]),
        (2, vec!["submit", "echo", "-f", "/no/such/file"]),
        (2, vec!["cancel"]),
        (2, vec!["result", &id]),
        (3, vec!["get", unknown]),
        (3, vec!["get", unknown, &id]),
        (3, vec!["submit", "no.such.task"]),
        (3, vec!["queues", "no.such.queue"]),
        (5, vec!["submit", "echo", "-d", "[1"]),
        (5, vec!["submit", "crunch", "-d", r#"{"photons":0}"#]),
        (5, vec!["delete", &id]),
        (5, vec!["retry", &id]),
        (6, vec!["--url", "http://127.0.0.1:1", "--retry-for", "0s", "jobs"]),
        (7, vec!["wait", &id, "--timeout", "50ms"]),
    ] {
        let run = crunch.run(&arguments).await;
        assert_eq!(run.code, code, "{arguments:?}: {}", run.err);
        let lines = run.err.lines().count();
        assert!(code == 2 || lines == 2 || arguments.len() > 2, "{arguments:?}: {}", run.err);
    }
    stage.wait_for_handler().await.returns(&json!(1)).await;
    assert_eq!(crunch.run(&["wait", &id]).await.code, 0);
}

#[tokio::test]
async fn a_result_in_a_file_is_whole_and_byte_by_byte() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);
    image::RgbImage::new(60, 40).save(crunch.path("photo.png")).unwrap();
    let (photo, small) = (crunch.path("photo.png"), crunch.path("small.png"));
    let (photo, small) = (photo.to_str().unwrap(), small.to_str().unwrap());
    let arguments = ["submit", "image.thumbnail", "-f", photo, "--metadata", "size=10"];
    let id = crunch.prints(&arguments).await.trim().to_owned();
    crunch.prints(&["wait", &id]).await;

    assert_eq!(crunch.prints(&["result", &id, "-o", small]).await, "");
    assert_eq!(image::open(small).unwrap().width(), 10);
    let payload = crunch.path("again.png");
    crunch.prints(&["payload", &id, "-o", payload.to_str().unwrap()]).await;
    assert_eq!(std::fs::read(payload).unwrap(), std::fs::read(photo).unwrap());
}

#[tokio::test]
async fn a_log_is_printed_from_its_end_and_followed() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    for line in ["one", "two", "three"] {
        actor.send(&json!({ "log": line })).await;
    }
    let follows = crunch.start(&["logs", "-f", &id]);
    actor.send(&json!({ "log": "four" })).await;
    actor.returns(&json!(null)).await;

    assert_eq!(finish(follows).await.out, "one\ntwo\nthree\nfour\n");
    assert_eq!(crunch.prints(&["logs", &id, "-n", "2"]).await, "three\nfour\n");
    let timed = crunch.prints(&["logs", &id, "-t"]).await;
    assert!(timed.lines().all(|line| line.split('\t').nth(1) == Some("1")), "{timed}");
    let events = crunch.prints(&["events", &id]).await;
    assert!(events.lines().last().unwrap().starts_with("done\t{"), "{events}");
}
