//! Requests that take no body: one with content is refused and does nothing, one without content counts as none.

use crunch_tests::{Api, RawConnection};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{api_without_workers, expect_problem};

#[tokio::test]
async fn a_verb_with_a_body_does_nothing() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit_with("t", &json!(1), &json!({ "queue": "q" })).await;
    let canceled = api.submit_with("t", &json!(1), &json!({ "queue": "q" })).await;

    api.post_empty(&format!("/jobs/{canceled}/cancel")).await;
    let before = state(&api, [&id, &canceled]).await;
    for (line, remedy) in [
        ("POST /queues/q/redrive", "send query parameters instead; known: task, limit"),
        ("POST /queues/q/pause", "send none"),
        ("POST /queues/q/resume", "send none"),
        ("POST /queues/q/purge", "send none"),
        ("POST /jobs/{id}/cancel", "send none"),
        ("POST /jobs/{canceled}/retry", "send none"),
        ("DELETE /jobs/{canceled}", "send none"),
        ("DELETE /queues/q/limit", "send none"),
        ("DELETE /schedules/s", "send none"),
        ("POST /schedules/s/pause", "send none"),
        ("POST /schedules/s/resume", "send none"),
        ("POST /schedules/s/run", "send none"),
        ("DELETE /schedules/s/backfill", "send none"),
        ("DELETE /queues/q/groups", "send none"),
        ("DELETE /queues/q/groups/g", "send none"),
    ] {
        let (method, path) = line.split_once(' ').unwrap();
        let path = path.replace("{id}", &id).replace("{canceled}", &canceled);
        for request in with_bodies(&api, &method.parse().unwrap(), &path) {
            let answer = api.send(request).await;
            let problem = expect_problem(&api, &answer, 400, "unexpected-body").await;
            assert_eq!(problem["detail"], format!("this request takes no body: {remedy}"));
        }
    }

    assert_eq!(state(&api, [&id, &canceled]).await, before);
}

/// The documents of two jobs and their queue, without what changes with time.
async fn state(api: &Api, ids: [&str; 2]) -> [Value; 3] {
    let mut queue = api.get("/queues/q").await.json();
    queue["oldest_age_ms"].take();
    [api.job(ids[0]).await, api.job(ids[1]).await, queue]
}

/// The same request with each of several bodies that have content.
fn with_bodies<'a>(
    api: &'a Api,
    method: &'a Method,
    path: &'a str,
) -> impl Iterator<Item = RequestBuilder> + 'a {
    let large = "{\"limit\":5}".repeat(100_000);
    let bodies = [
        ("application/json", "{\"limit\":5}".to_owned()),
        ("application/x-www-form-urlencoded", "limit=5".to_owned()),
        ("text/plain", "[]".to_owned()),
        ("application/json", large),
    ];
    bodies.into_iter().map(move |(content_type, body)| {
        api.request(method.clone(), path).header("content-type", content_type).body(body)
    })
}

/// HTML pages and health probes: they ignore bodies as they ignore parameters.
const PAGES: [&str; 6] = ["/", "/docs", "/docs/{file}", "/problems/{slug}", "/livez", "/readyz"];

#[tokio::test]
async fn every_operation_documented_without_a_body_refuses_one() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let document = api.get("/openapi.json").await.json();
    let mut refusals = 0;

    for (path, item) in document["paths"].as_object().unwrap() {
        let path_with_ids =
            path.replace("{id}", &id).replace("{token}", &id).replace(['{', '}'], "");
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let request = api.request(method.clone(), &path_with_ids).body("{\"limit\":5}");
            let refuses = operation.get("requestBody").is_none() && !PAGES.contains(&path.as_str());
            let answer = api.send(request).await;
            let unexpected = answer.body.starts_with(b"{\"type\":\"/problems/unexpected-body\"");
            assert_eq!(unexpected, refuses, "{method} {path}: {answer:?}");
            refusals += usize::from(refuses);
        }
    }

    assert!(refusals > 20, "{refusals}");
}

#[tokio::test]
async fn a_body_without_content_is_accepted_and_its_connection_stays_open() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let mut raw = RawConnection::to(&api).await;

    for body in ["", "{}", " {\n} ", "null", "\r\n"] {
        for (line, framing) in [
            ("POST /queues/t/pause", format!("Content-Length: {}", body.len())),
            ("GET /jobs?limit=1", format!("Content-Length: {}", body.len())),
            ("POST /queues/t/resume", "Transfer-Encoding: chunked".to_owned()),
        ] {
            raw.write_head(line, &[&framing]).await;
            raw.write("\r\n").await.unwrap();
            if framing.starts_with('T') {
                raw.write_chunks(body.as_bytes(), 1).await.unwrap();
            } else {
                raw.write(body).await.unwrap();
            }
            assert_eq!(raw.answer().await.status, 200, "{line} {body:?}");
        }
    }
    raw.write_head(&format!("POST /jobs/{id}/cancel"), &["Content-Length: 4"]).await;
    raw.write("\r\ntrue").await.unwrap();

    expect_problem(&api, &raw.answer().await, 400, "unexpected-body").await;
    assert_eq!(raw.request(&format!("POST /jobs/{id}/cancel"), &[]).await.status, 200);
}

#[tokio::test]
async fn a_request_with_an_incomplete_body_does_nothing() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let mut raw = RawConnection::to(&api).await;
    raw.write_head(&format!("POST /jobs/{id}/cancel"), &["Content-Length: 2"]).await;
    raw.write("\r\n{").await.unwrap();
    raw.finish_sending().await;
    expect_problem(&api, &raw.answer().await, 400, "broken-body").await;
    assert_eq!(api.job(&id).await["status"], "queued");
}
