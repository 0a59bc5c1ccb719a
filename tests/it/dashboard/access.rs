//! What a key does not allow is neither shown nor done.

use crunch_tests::RedisServer;
use reqwest::Method;
use serde_json::json;

use super::browser::{Browser, form, tags, text};
use crate::http::keys::ApiWithKeys;

/// Every page that exists without a job, and one of a job.
fn pages(job: &str) -> Vec<String> {
    let fixed = [
        "",
        "/queues",
        "/queues/t",
        "/queues/t/groups",
        "/limits",
        "/jobs",
        "/jobs?status=queued",
        "/errors",
        "/workers",
        "/tasks",
        "/deliveries",
        "/system",
    ];
    let all = fixed.into_iter().map(|path| format!("/dashboard{path}"));
    all.chain([format!("/dashboard/jobs/{job}")]).collect()
}

#[tokio::test]
async fn a_key_to_read_sees_every_page_and_no_verb() {
    let keyed = ApiWithKeys::start(&[]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let id = keyed.post(&admin, "/jobs", &json!({ "task": "t", "group": "acme" })).await.id();
    let reader = keyed.create_key(&["--scopes", "read"]).await;
    let mut browser = Browser::with_key(&keyed.api, &reader).await;

    for path in pages(&id) {
        let html = browser.open(&path).await;
        let posts = tags(&html).into_iter().filter(|tag| tag.get("method") == Some("post"));
        let actions: Vec<_> =
            posts.map(|tag| tag.get("action").unwrap_or_default().to_owned()).collect();
        assert_eq!(actions, ["/dashboard/logout"], "{path}");
        for verb in ["/jobs/actions", "/jobs/new", "/rule"] {
            assert!(!html.contains(verb), "{path}: {verb}");
        }
    }
    let token = form(&browser.open("/dashboard").await, "/dashboard/logout").unwrap();
    for verb in [
        format!("/jobs/{id}/cancel"),
        format!("/jobs/{id}/retry"),
        format!("/jobs/{id}/delete"),
        "/jobs/new".to_owned(),
        "/jobs/actions".to_owned(),
        "/queues/t/pause".to_owned(),
        "/queues/t/resume".to_owned(),
        "/queues/t/purge".to_owned(),
        "/queues/t/rule".to_owned(),
    ] {
        let answer = browser.post(&format!("/dashboard{verb}"), &token).await;
        assert_eq!(answer.status.as_u16(), 403, "{verb}");
    }
    for path in [
        "/jobs/new",
        "/jobs/actions?action=cancel&status=queued",
        "/queues/t/purge",
        "/queues/t/rule?each=1",
    ] {
        let answer = browser.get(&format!("/dashboard{path}")).await;
        assert_eq!(answer.status.as_u16(), 403, "{path}");
    }
    let job = keyed.send(&admin, "GET", &format!("/jobs/{id}")).await.json();
    assert_eq!(job["status"], "queued");
}

#[tokio::test]
async fn a_key_for_other_scopes_reads_no_page() {
    let keyed = ApiWithKeys::start(&[]).await;
    for scope in ["submit", "cancel"] {
        let key = keyed.create_key(&["--scopes", scope]).await;
        let mut browser = Browser::with_key(&keyed.api, &key).await;
        for path in pages("01a22bc0-e66a-8000-984e-8b2c04dda5fa") {
            assert_eq!(browser.get(&path).await.status.as_u16(), 403, "{scope} {path}");
        }
    }
}

/// Makes a kind of error of a queue, with a failed job; returns its id.
async fn make_kind_of_error(redis: &RedisServer, queue: &str) -> &'static str {
    const GROUP: &str = "00112233aabbccdd";
    const JOB: &str = "01a22bc0-e66a-8000-984e-8b2c04dda5fa";
    let error = r#"{"code":"confidential","message":"confidential","retryable":false}"#;
    let (listed, record) = ("crunch:{0}:errors", format!("crunch:{{0}}:error:{GROUP}"));
    let mut pipe = redis::pipe();
    pipe.cmd("HSET").arg(&record).arg("queue").arg(queue).arg("task").arg("t").arg("error");
    pipe.arg(error).arg("job").arg(JOB).arg("first").arg(1).arg("last").arg(1);
    pipe.arg("failures").arg(1).cmd("ZADD").arg(listed).arg(1).arg(GROUP);
    pipe.cmd("ZADD").arg(format!("{record}:jobs")).arg(1).arg(JOB);
    let () = pipe.query_async(&mut redis.connect().await).await.unwrap();
    GROUP
}

#[tokio::test]
async fn a_key_for_some_queues_sees_and_touches_only_theirs() {
    let keyed = ApiWithKeys::start(&[]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let mut ids = Vec::new();
    for queue in ["own", "secret"] {
        let job = json!({ "task": "t", "queue": queue, "payload": format!("content of {queue}") });
        ids.push(keyed.post(&admin, "/jobs", &job).await.id());
    }
    let key = keyed.create_key(&["--scopes", "admin", "--queues", "own"]).await;
    let mut browser = Browser::with_key(&keyed.api, &key).await;
    browser.open("/dashboard/queues/own").await;
    assert!(browser.open(&format!("/dashboard/jobs/{}", ids[0])).await.contains("content of own"));

    for path in ["", "/queues", "/jobs", "/errors", "/workers", "/tasks", "/jobs?status=queued"] {
        let html = browser.open(&format!("/dashboard{path}")).await;
        assert!(!html.contains("secret") && !html.contains(&ids[1]), "{path}: {html}");
    }
    let job = format!("/jobs/{}", ids[1]);
    for path in [
        job.as_str(),
        &format!("{job}/payload"),
        &format!("{job}/result"),
        &format!("/jobs/new?from={}", ids[1]),
        "/queues/secret",
        "/queues/secret/purge",
        "/queues/secret/groups",
        "/queues/secret/rule",
        "/jobs?queue=secret",
        "/errors?queue=secret",
    ] {
        let answer = browser.get(&format!("/dashboard{path}")).await;
        assert_eq!(answer.status.as_u16(), 404, "{path}");
        assert!(!text(&answer).contains("content of"), "{path}");
    }
    assert_eq!(browser.get("/dashboard/system").await.status.as_u16(), 403);
    for query in [ids[1].as_str(), "secret"] {
        let html = browser.open(&format!("/dashboard/find?q={query}")).await;
        assert!(html.contains("Not found"), "{query}");
    }
    let counted = browser.open("/dashboard/jobs/actions?action=cancel&status=queued").await;
    assert!(counted.contains("<strong>1</strong> job."), "{counted}");

    let other = make_kind_of_error(&keyed.stack.redis, "secret").await;
    let asked = browser.open(&format!("/dashboard/jobs/actions?action=retry&error={other}")).await;
    assert!(asked.contains("No job matches") && !asked.contains("confidential"), "{asked}");

    let token = form(&browser.open("/dashboard").await, "/dashboard/logout").unwrap();
    for verb in [
        format!("/jobs/{}/cancel", ids[1]),
        "/queues/secret/pause".to_owned(),
        "/queues/secret/purge".to_owned(),
        "/queues/secret/rule".to_owned(),
    ] {
        let fields: Vec<_> =
            token.iter().cloned().chain([("count".to_owned(), "1".to_owned())]).collect();
        let answer = browser.post(&format!("/dashboard{verb}"), &fields).await;
        assert_eq!(answer.status.as_u16(), 404, "{verb}");
    }
    let mut fields = token.clone();
    for (name, value) in [("task", "t"), ("queue", "secret"), ("payload", "1")] {
        fields.push((name.to_owned(), value.to_owned()));
    }
    let answer = browser.post("/dashboard/jobs/new", &fields).await;
    assert!(answer.status.as_u16() == 422 && text(&answer).contains("does not allow the queue"));
    let job = keyed.send(&admin, "GET", &format!("/jobs/{}", ids[1])).await.json();
    assert_eq!(job["status"], "queued");
    let queue =
        keyed.api.send(keyed.api.request(Method::GET, "/queues/secret").bearer_auth(&admin));
    assert_eq!(queue.await.json()["paused"], false);
}
