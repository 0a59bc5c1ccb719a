//! Tickets for event streams: what they open, what they do not, and that no log has them.

use crunch_tests::{Answer, Api, RawConnection, eventually};
use serde_json::{Value, json};

use super::keys::Keyed;
use super::{is_problem, lone, pointers, refused};

/// Opens a stream with a ticket only; what arrived first.
async fn opened(api: &Api, path: &str) -> String {
    let mut raw = RawConnection::to(api).await;
    raw.write_head(&format!("GET {path}"), &["Origin: https://app.example.com"]).await;
    raw.write("\r\n").await.unwrap();
    let mut text = String::new();
    while !text.contains("event: status") {
        text += &String::from_utf8(raw.read_some().await.expect("the stream goes on")).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    }
    text
}

fn path_in(api: &Api, ticket: &Value) -> String {
    let url = ticket["url"].as_str().unwrap();
    url.strip_prefix(&api.url).unwrap_or_else(|| panic!("{url}")).to_owned()
}

async fn unauthorized(api: &Api, path: &str) -> Answer {
    let answer = api.get(path).await;
    is_problem(&answer, 401, "unauthorized");
    answer
}

#[tokio::test]
async fn a_ticket_opens_only_the_stream_of_its_job_and_is_never_logged() {
    let environment =
        [("CRUNCH_API_CORS_ORIGINS", "https://app.example.com"), ("CRUNCH_LOG", "trace")];
    let mut keyed = Keyed::start(&environment).await;
    let key = keyed.key(&["--scopes", "submit,read"]).await;
    let other_api = keyed.another_api(&[]).await;
    let api = &keyed.api;
    let job = json!({ "task": "t" });
    let [id, other] =
        [keyed.post(&key, "/jobs", &job).await, keyed.post(&key, "/jobs", &job).await]
            .map(|answer| answer.id());
    let made = keyed.post(&key, "/stream-tickets", &json!({ "job": id })).await;
    assert_eq!((made.status.as_u16(), made.header("cache-control")), (201, "no-store"));
    let document = made.json();
    let (path, ticket) = (path_in(api, &document), document["ticket"].as_str().unwrap());
    assert_eq!(path, format!("/jobs/{id}/events?ticket={ticket}"));
    let stream = opened(api, &path).await;
    assert!(stream.contains("access-control-allow-origin: https://app.example.com"), "{stream}");
    assert!(opened(api, &path).await.contains("event: status"), "a reconnect");
    // A fresh one: on a busy machine the first may be old by now.
    let again = keyed.post(&key, "/stream-tickets", &json!({ "job": id })).await.json();
    assert!(opened(&other_api, &path_in(api, &again)).await.contains("event: status"));

    let (start, seal) = ticket.rsplit_once('_').unwrap();
    let forged = format!("{start}_{}", seal.chars().rev().collect::<String>());
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
    refused_twice(&twice);
    let beside = keyed.ask(&key, "GET", &path).await;
    is_problem(&beside, 401, "unauthorized");
    refusals.push(beside);
    refusals.push(keyed.ask(&key, "GET", &format!("/queues?ticket={ticket}")).await);
    let cancel = format!("/jobs/{id}/cancel?ticket={ticket}");
    is_problem(&api.post_empty(&cancel).await, 401, "unauthorized");

    keyed.revoke(&key).await;
    eventually("the ticket ends with its key", async || {
        (api.send(api.request(reqwest::Method::HEAD, &path)).await.status == 401).then_some(())
    })
    .await;
    refusals.push(unauthorized(api, &path).await);
    for answer in &refusals {
        assert!(!String::from_utf8_lossy(&answer.body).contains(seal), "{answer:?}");
    }
    for log in [api.process.log(), other_api.process.log()] {
        let secret = key.rsplit_once('_').unwrap().1;
        let leak = log.lines().find(|line| line.contains(seal) || line.contains(secret));
        assert_eq!(leak, None, "a ticket or a key is in the log");
    }
    assert!(api.process.log().contains("stream ticket rejected"));
}

fn refused_twice(answer: &Answer) {
    is_problem(answer, 400, "invalid-parameter");
    assert_eq!(answer.json()["detail"], "ticket: is given twice");
}

#[tokio::test]
async fn a_ticket_is_created_for_jobs_that_the_caller_may_see() {
    let keyed = Keyed::start(&[]).await;
    let (mine, blind) = (
        keyed.key(&["--scopes", "read", "--queues", "mine"]).await,
        keyed.key(&["--scopes", "submit"]).await,
    );
    let admin = keyed.key(&["--scopes", "admin"]).await;
    let submit = async |queue: &str| {
        keyed.post(&admin, "/jobs", &json!({ "task": "t", "queue": queue })).await.id()
    };
    let (own, other) = (submit("mine").await, submit("yours").await);
    let ask = async |key: &str, body: Value| keyed.post(key, "/stream-tickets", &body).await;
    assert_eq!(ask(&mine, json!({ "job": own })).await.status, 201);
    is_problem(&ask(&mine, json!({ "job": other })).await, 404, "not-found");
    is_problem(&ask(&admin, json!({ "job": "x" })).await, 404, "not-found");
    is_problem(&ask(&blind, json!({ "job": own })).await, 403, "forbidden");
    for (body, pointer) in [
        (json!({}), "/job"),
        (json!({ "job": 1 }), "/job"),
        (json!({ "job": own, "jobs": 1 }), "/jobs"),
        (json!([]), ""),
    ] {
        let answer = ask(&admin, body).await;
        is_problem(&answer, 422, "invalid-submission");
        assert_eq!(pointers(&answer.json()), [pointer]);
    }
    let path = "/stream-tickets?job=x";
    is_problem(&keyed.post(&admin, path, &json!({ "job": own })).await, 400, "invalid-parameter");
}

#[tokio::test]
async fn tickets_work_on_an_api_without_keys() {
    let (_stack, api) = lone().await;
    let id = api.submit("t", &json!(1)).await;
    let made = api.post("/stream-tickets", &json!({ "job": id })).await;
    assert_eq!(made.status, 201);
    assert!(opened(&api, &path_in(&api, &made.json())).await.contains("event: status"));
    let text = api.request(reqwest::Method::POST, "/stream-tickets").body("{}");
    refused(&api, &api.send(text).await, 415, "unsupported-media-type").await;
}
