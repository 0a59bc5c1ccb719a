//! Actions on all jobs that a filter finds.

use crunch_tests::{Api, Stack};
use serde_json::{Value, json};

use super::assert_problem;
use super::keys::ApiWithKeys;

const ACCEPT: (&str, &str) = ("CRUNCH_API_UNKNOWN_TASKS", "accept");

/// Submits that many jobs, which no worker runs.
async fn submit(api: &Api, queue: &str, count: usize) {
    let job = json!({ "task": "t", "queue": queue });
    let answer = api.post("/jobs/batch", &json!({ "jobs": vec![job; count] })).await;
    assert_eq!(answer.status.as_u16(), 202, "{answer:?}");
}

/// Repeats an action with its cursors until it is done. Returns what was matched and changed, and how many requests it took.
async fn act(api: &Api, query: &str) -> (u64, u64, usize) {
    let (mut matched, mut changed, mut requests, mut cursor) = (0, 0, 0, String::new());
    loop {
        let answer = api.post_empty(&format!("/jobs/actions?{query}{cursor}")).await;
        assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
        let report = answer.json();
        matched += report["matched"].as_u64().unwrap();
        changed += report["changed"].as_u64().unwrap();
        requests += 1;
        match report["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (matched, changed, requests),
        }
    }
}

async fn count(api: &Api, queue: &str, state: &str) -> Value {
    api.get(&format!("/queues/{queue}")).await.json()["counts"][state].clone()
}

#[tokio::test]
async fn an_action_is_counted_first_and_done_in_steps() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[ACCEPT]).await;
    submit(&api, "one", 250).await;
    submit(&api, "other", 30).await;

    let queued = "status=queued&queue=one";
    assert_eq!(act(&api, &format!("action=cancel&{queued}&dry_run=true")).await.0, 250);
    assert_eq!(count(&api, "one", "queued").await, 250);
    let (matched, changed, requests) = act(&api, &format!("action=cancel&{queued}&limit=60")).await;
    assert_eq!((matched, changed), (250, 250));
    assert!(requests >= 5, "{requests} requests for 250 jobs, 60 in each");
    assert_eq!(count(&api, "one", "queued").await, 0);
    assert_eq!(count(&api, "other", "queued").await, 30);

    let canceled = "status=canceled&queue=one";
    assert_eq!(act(&api, &format!("action=retry&{canceled}&task=none")).await.0, 0);
    assert_eq!(act(&api, &format!("action=retry&{canceled}&task=t")).await.1, 250);
    assert_eq!(count(&api, "one", "queued").await, 250);
    assert_eq!(act(&api, "action=cancel&status=queued").await.1, 280);
    let long_ago = "created_before=2000-01-01T00:00:00Z";
    assert_eq!(act(&api, &format!("action=delete&status=canceled&{long_ago}")).await.0, 0);
    assert_eq!(act(&api, "action=delete&status=canceled").await.1, 280);
    assert_eq!(act(&api, "action=delete&status=canceled&dry_run=true").await.0, 0);
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn the_jobs_of_an_error_group_are_retried_together() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[ACCEPT]).await;
    let late = json!({ "task": "t", "queue": "q", "deadline_ms": 1 });
    let batch = json!({ "jobs": vec![late; 40] });
    assert_eq!(api.post("/jobs/batch", &batch).await.status.as_u16(), 202);
    let failed = async || (count(&api, "q", "failed").await == 40).then_some(());
    crunch_tests::eventually("all have failed", failed).await;
    let errors = api.get("/errors").await.json();
    let group = &errors["items"][0];
    assert_eq!(
        (&group["error"]["code"], &group["failed_jobs"]),
        (&json!("deadline_exceeded"), &json!(40))
    );
    let filter = format!("status=failed&error={}", group["id"].as_str().unwrap());
    assert_eq!(act(&api, &format!("action=retry&{filter}&dry_run=true")).await.0, 40);
    assert_eq!(act(&api, &format!("action=retry&{filter}")).await.1, 40);
}

#[tokio::test]
async fn a_mistake_in_an_action_changes_nothing() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[ACCEPT]).await;
    submit(&api, "q", 3).await;
    for (query, reason) in [
        ("", "action"),
        ("action=cancel", "status"),
        ("action=cancel&status=failed", "one of: scheduled, queued, running, retrying"),
        ("action=cancel&status=queued&taks=t", "did you mean task?"),
        ("action=cancel&status=queued&dry_run=1", "true or false"),
        ("action=drop&status=queued", "action"),
        ("action=retry", "status: it is required"),
        ("action=cancel&status=queued&cursor=x", "cursor"),
    ] {
        let answer = api.post_empty(&format!("/jobs/actions?{query}")).await;
        assert_problem(&answer, 400, "invalid-parameter");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains(reason), "{query}: {detail}");
    }
    assert_eq!(count(&api, "q", "queued").await, 3);
}

#[tokio::test]
async fn an_action_of_a_key_for_some_queues_touches_only_their_jobs() {
    let keyed = ApiWithKeys::start(&[]).await;
    let all = keyed.create_key(&["--scopes", "admin"]).await;
    let some = keyed.create_key(&["--scopes", "admin", "--queues", "mine"]).await;
    for queue in ["mine", "yours"] {
        let job = json!({ "task": "t", "queue": queue });
        assert_eq!(keyed.post(&all, "/jobs", &job).await.status.as_u16(), 202);
    }
    let act = async |key: &str, query: &str| {
        let path = format!("/jobs/actions?action=cancel&status=queued{query}");
        keyed.send(key, "POST", &path).await
    };
    let changed = async |key: &str, query: &str| act(key, query).await.json()["changed"].clone();
    assert_problem(&act(&some, "&queue=yours").await, 404, "not-found");
    assert_eq!(changed(&some, "").await, 1);
    assert_eq!(changed(&all, "").await, 1);
}

#[tokio::test]
async fn an_action_that_goes_on_in_an_outage_says_so() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[ACCEPT]).await;
    submit(&api, "q", 3).await;
    let first = "/jobs/actions?action=cancel&status=queued&limit=1";
    let cursor = api.post_empty(first).await.json()["next_cursor"].as_str().unwrap().to_owned();
    stack.redis.stop();
    for path in [first.to_owned(), format!("{first}&cursor={cursor}")] {
        assert_problem(&api.post_empty(&path).await, 503, "unavailable");
    }
}
