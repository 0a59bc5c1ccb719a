//! Tickets for event streams: what they permit, what they do not, and that they are never logged.

use crunch_tests::{Answer, Api, RawConnection, eventually};
use serde_json::{Value, json};

use super::keys::ApiWithKeys;
use super::{api_without_workers, assert_problem, expect_problem, pointers};

/// Opens a stream with a ticket only; returns what arrived first.
async fn open_stream(api: &Api, path: &str) -> String {
    let mut raw = RawConnection::to(api).await;
    raw.write_head(&format!("GET {path}"), &["Origin: https://app.example.com"]).await;
    raw.write("\r\n").await.unwrap();
    let mut text = String::new();
    while !text.contains("event: status") {
        text += &String::from_utf8(raw.read_some().await.expect("the stream continues")).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    }
    text
}

fn path_in(api: &Api, ticket: &Value) -> String {
    let url = ticket["url"].as_str().unwrap();
    url.strip_prefix(&api.url).unwrap_or_else(|| panic!("{url}")).to_owned()
}

async fn get_unauthorized(api: &Api, path: &str) -> Answer {
    let answer = api.get(path).await;
    assert_problem(&answer, 401, "unauthorized");
    answer
}

#[tokio::test]
async fn a_ticket_opens_only_the_stream_of_its_job_and_is_never_logged() {
    let environment =
        [("CRUNCH_API_CORS_ORIGINS", "https://app.example.com"), ("CRUNCH_LOG", "trace")];
    let mut keyed = ApiWithKeys::start(&environment).await;
    let key = keyed.create_key(&["--scopes", "submit,read"]).await;
    let other_api = keyed.start_another_api(&[]).await;
    let api = &keyed.api;
    let job = json!({ "task": "t" });
    let [id, other] =
        [keyed.post(&key, "/jobs", &job).await, keyed.post(&key, "/jobs", &job).await]
            .map(|answer| answer.id());
    let created = keyed.post(&key, "/stream-tickets", &json!({ "job": id })).await;
    assert_eq!((created.status.as_u16(), created.header("cache-control")), (201, "no-store"));
    let document = created.json();
    let (path, ticket) = (path_in(api, &document), document["ticket"].as_str().unwrap());
    assert_eq!(path, format!("/jobs/{id}/events?ticket={ticket}"));
    let stream = open_stream(api, &path).await;
    assert!(stream.contains("access-control-allow-origin: https://app.example.com"), "{stream}");
    assert!(open_stream(api, &path).await.contains("event: status"), "a reconnect");
    // A new ticket: on a busy machine the first may have expired.
    let again = keyed.post(&key, "/stream-tickets", &json!({ "job": id })).await.json();
    assert!(open_stream(&other_api, &path_in(api, &again)).await.contains("event: status"));

    // Both of these may contain an underscore themselves.
    let signature = ticket.splitn(4, '_').last().unwrap();
    let start = ticket.strip_suffix(signature).unwrap();
    let forged = format!("{start}{}", signature.chars().rev().collect::<String>());
    let mut refusals = Vec::new();
    for path in [
        format!("/jobs/{other}/events?ticket={ticket}"),
        format!("/jobs/{id}/events?ticket={forged}"),
        format!("/jobs/{id}/events?ticket="),
        format!("/jobs/{id}/events?tikcet={ticket}"),
        format!("/jobs/{id}?ticket={ticket}"),
        format!("/jobs/{id}/logs?ticket={ticket}"),
        format!("/jobs/{id}/events%3Fticket={ticket}x"),
        format!("/jobs?ticket={ticket}"),
    ] {
        let answer = api.get(&path).await;
        assert!([401, 404].contains(&answer.status.as_u16()), "{path}: {answer:?}");
        refusals.push(answer);
    }
    let twice = api.get(&format!("{path}&ticket={ticket}")).await;
    refusals.push(twice.clone());
    assert_repeated_parameter(&twice);
    let with_key = keyed.send(&key, "GET", &path).await;
    assert_problem(&with_key, 401, "unauthorized");
    refusals.push(with_key);
    refusals.push(keyed.send(&key, "GET", &format!("/queues?ticket={ticket}")).await);
    let cancel = format!("/jobs/{id}/cancel?ticket={ticket}");
    assert_problem(&api.post_empty(&cancel).await, 401, "unauthorized");

    keyed.revoke(&key).await;
    eventually("the ticket ends with its key", async || {
        (api.send(api.request(reqwest::Method::HEAD, &path)).await.status == 401).then_some(())
    })
    .await;
    refusals.push(get_unauthorized(api, &path).await);
    for answer in &refusals {
        assert!(!String::from_utf8_lossy(&answer.body).contains(signature), "{answer:?}");
    }
    for log in [api.process.log(), other_api.process.log()] {
        let secret = key.splitn(3, '_').last().unwrap();
        let leak = log.lines().find(|line| line.contains(signature) || line.contains(secret));
        assert_eq!(leak, None, "a ticket or a key is in the log");
    }
    assert!(api.process.log().contains("stream ticket rejected"));
}

fn assert_repeated_parameter(answer: &Answer) {
    assert_problem(answer, 400, "invalid-parameter");
    assert_eq!(answer.json()["detail"], "ticket: is given twice");
}

#[tokio::test]
async fn a_ticket_is_created_for_jobs_that_the_caller_may_see() {
    let keyed = ApiWithKeys::start(&[]).await;
    let (mine, submitter) = (
        keyed.create_key(&["--scopes", "read", "--queues", "mine"]).await,
        keyed.create_key(&["--scopes", "submit"]).await,
    );
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let submit = async |queue: &str| {
        keyed.post(&admin, "/jobs", &json!({ "task": "t", "queue": queue })).await.id()
    };
    let (own, other) = (submit("mine").await, submit("yours").await);
    let create = async |key: &str, body: Value| keyed.post(key, "/stream-tickets", &body).await;

    assert_eq!(create(&mine, json!({ "job": own })).await.status, 201);
    assert_problem(&create(&mine, json!({ "job": other })).await, 404, "not-found");
    assert_problem(&create(&admin, json!({ "job": "x" })).await, 404, "not-found");
    assert_problem(&create(&submitter, json!({ "job": own })).await, 403, "forbidden");
    for (body, pointer) in [
        (json!({}), "/job"),
        (json!({ "job": 1 }), "/job"),
        (json!({ "job": own, "jobs": 1 }), "/jobs"),
        (json!([]), ""),
    ] {
        let answer = create(&admin, body).await;
        assert_problem(&answer, 422, "invalid-submission");
        assert_eq!(pointers(&answer.json()), [pointer]);
    }
    let path = "/stream-tickets?job=x";

    assert_problem(
        &keyed.post(&admin, path, &json!({ "job": own })).await,
        400,
        "invalid-parameter",
    );
}

#[tokio::test]
async fn tickets_work_on_an_api_without_keys() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let created = api.post("/stream-tickets", &json!({ "job": id })).await;
    assert_eq!(created.status, 201);
    assert!(open_stream(&api, &path_in(&api, &created.json())).await.contains("event: status"));
    let text = api.request(reqwest::Method::POST, "/stream-tickets").body("{}");
    expect_problem(&api, &api.send(text).await, 415, "unsupported-media-type").await;
}
