//! Verbs on many jobs: counted, confirmed, done.

use crunch_tests::{Api, Stack};
use serde_json::json;

use super::Crunch;

async fn with_waiting_jobs(count: usize) -> (Stack, Api, Crunch) {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    for _ in 0..count {
        api.submit("t", &json!(1)).await;
    }
    let crunch = Crunch::of(&api);
    (stack, api, crunch)
}

#[tokio::test]
async fn a_destructive_verb_counts_first_and_needs_consent() {
    let (_stack, api, crunch) = with_waiting_jobs(3).await;
    api.submit_with("t", &json!(1), &json!({ "delay_ms": 600_000 })).await;

    assert_eq!(crunch.prints(&["purge", "t", "--dry-run"]).await, "4\n");
    let refused = crunch.run(&["purge", "t"]).await;
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("this would cancel 4 jobs"), "{}", refused.err);
    assert_eq!(
        crunch.prints(&["cancel", "--status", "queued", "--limit", "1", "--yes"]).await,
        "1\n"
    );
    assert_eq!(crunch.prints(&["purge", "t", "--yes"]).await, "3\n");
    assert_eq!(crunch.prints(&["delete", "--status", "canceled", "-y"]).await, "4\n");
    assert_eq!(crunch.prints(&["jobs"]).await, "");
    // Nothing to do is done without a question.
    assert_eq!(crunch.prints(&["purge", "t"]).await, "0\n");
}

#[tokio::test]
async fn a_verb_needs_to_know_which_jobs() {
    let (_stack, api, crunch) = with_waiting_jobs(1).await;
    let id = api.get("/jobs").await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    for arguments in [
        &["cancel"][..],
        &["cancel", "--queue", "t"],
        &["cancel", &id, "--status", "queued"],
        &["cancel", &id, "--dry-run"],
        &["cancel", "--status", "queued", "--limit", "0"],
    ] {
        assert_eq!(crunch.run(arguments).await.code, 2, "{arguments:?}");
    }
    // The API knows what applies to what.
    assert_eq!(crunch.run(&["retry", "--status", "queued"]).await.code, 5);
    assert_eq!(crunch.run(&["purge", "no.such.queue", "--yes"]).await.code, 3);
}

#[tokio::test]
async fn failed_jobs_run_again_by_queue_and_by_their_error() {
    let (_stack, api, _worker) = Stack::simple(2).await;
    let crunch = Crunch::of(&api);
    let mut ids = Vec::new();
    for payload in [json!({ "n": "no number" }), json!({ "n": "neither" }), json!(7)] {
        let id = api.submit_with("square", &payload, &json!({ "max_attempts": 1 })).await;
        api.wait_for_status(&id, "failed").await;
        ids.push(id);
    }
    let errors = crunch.prints(&["errors", "--queue", "square"]).await;
    assert!(!errors.is_empty() && errors.lines().all(|line| line.contains("\tsquare\tsquare\t")));
    let first = errors.lines().next().unwrap();
    let cells: Vec<_> = first.split('\t').collect();
    let counted = crunch.prints(&["redrive", "square", "--error", cells[0], "--dry-run"]).await;
    assert_eq!(counted.trim(), cells[1], "{errors}");
    assert_eq!(crunch.prints(&["redrive", "square", "--dry-run"]).await, "3\n");
    let json = crunch.run(&["redrive", "square", "--json"]).await;
    let done = json.documents().remove(0);
    let members = ["matched", "changed", "next_cursor", "search"].map(|name| done[name].clone());
    assert_eq!(json!(members), json!([3, 3, null, null]));
    let counts = done["failures"].as_array().unwrap().iter();
    let jobs: u64 = counts.map(|failure| failure["jobs"].as_u64().unwrap()).sum();
    assert_eq!((jobs, &done["failures"][0]["error"]["task"]), (3, &json!("square")), "{done}");
    for id in ids {
        assert_eq!(crunch.run(&["wait", &id]).await.code, 1);
        assert_eq!(crunch.prints(&["attempts", &id]).await.lines().count(), 2);
    }
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed() {
    let (_stack, _api, crunch) = with_waiting_jobs(1).await;

    let state = |row: &str| row.split('\t').nth(1).unwrap().to_owned();
    assert_eq!(state(&crunch.prints(&["pause", "t"]).await), "paused, no worker");
    assert_eq!(state(&crunch.prints(&["queues", "t"]).await), "paused, no worker");
    assert_eq!(state(&crunch.prints(&["resume", "t"]).await), "no worker");
}
