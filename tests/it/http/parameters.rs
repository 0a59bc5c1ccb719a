//! Options as query parameters: refused by name, never lost.

use serde_json::json;

use super::{lone, refused};

#[tokio::test]
async fn a_parameter_that_does_not_fit_is_named() {
    let (_stack, api) = lone().await;
    let cases = [
        ("nonsense=1", "nonsense"),
        ("task=t", "task"),
        ("payload=1", "payload"),
        ("webhook=x", "webhook"),
        ("metadata=x", "metadata"),
        ("metadata.=x", "metadata."),
        ("wait=soon", "wait"),
        ("Queue=a", "Queue"),
        ("queue=A", "queue"),
        ("queue=", "queue"),
        ("priority=1", "priority"),
        ("delay_ms=-1", "delay_ms"),
        ("delay_ms=1.5", "delay_ms"),
        ("delay_ms=", "delay_ms"),
        ("delay_ms=%2B5", "delay_ms"),
        ("delay_ms=31622400001", "delay_ms"),
        ("run_at=now", "run_at"),
        ("timeout_ms=0", "timeout_ms"),
        ("deadline_ms=0", "deadline_ms"),
        ("max_attempts=0", "max_attempts"),
        ("max_attempts=101", "max_attempts"),
        ("retention_ms=x", "retention_ms"),
        ("idempotency_key=a%20b", "idempotency_key"),
        ("queue=a&queue=a", "queue"),
        ("metadata.a=1&metadata.a=2", "metadata.a"),
        ("delay_ms=1&run_at=2026-11-22T13:40:54Z", "run_at"),
        ("metadata.a=%ff", "metadata.a"),
        ("%ff=1", "%ff"),
        ("q%75eue=A", "queue"),
        ("a%26b=1", "a&b"),
    ];
    for path in ["/crunch", "/tasks/t/jobs"] {
        for (query, name) in cases {
            let answer = api.post(&format!("{path}?{query}"), &json!(1)).await;
            let problem = refused(&api, &answer, 400, "invalid-parameter").await;
            assert!(
                problem["detail"].as_str().unwrap().starts_with(&format!("{name}: ")),
                "{query}: {problem}"
            );
            assert_eq!(problem["instance"], path);
        }
    }
}

#[tokio::test]
async fn an_envelope_says_everything_and_a_parameter_beside_it_is_refused() {
    let (_stack, api) = lone().await;
    for (path, body) in
        [("/jobs", json!({ "task": "t" })), ("/jobs/batch", json!({ "jobs": [{ "task": "t" }] }))]
    {
        for query in ["queue=a", "waits=5", "x"] {
            let answer = api.post(&format!("{path}?{query}"), &body).await;
            let problem = refused(&api, &answer, 400, "invalid-parameter").await;
            let name = query.split('=').next().unwrap();
            assert!(
                problem["detail"].as_str().unwrap().starts_with(&format!("{name}: ")),
                "{problem}"
            );
        }
        assert_eq!(api.post(&format!("{path}?"), &body).await.status.as_u16(), 202);
    }
}

#[tokio::test]
async fn labels_in_a_query_are_text_with_the_same_limits() {
    let (_stack, api) = lone().await;
    let many = |count: usize| {
        (0..count).map(|at| format!("metadata.k{at}=v")).collect::<Vec<_>>().join("&")
    };
    let long = |bytes: usize| format!("metadata.k={}", "v".repeat(bytes));
    for (query, status) in [(many(32), 202), (many(33), 400), (long(1024), 202), (long(1025), 400)]
    {
        let answer = api.post(&format!("/crunch?{query}"), &json!(1)).await;
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    }
    let job = api
        .post("/crunch?metadata.n=007&metadata.e=&metadata.a.b%2Fc=1%2B1", &json!(1))
        .await
        .json();
    assert_eq!(job["metadata"], json!({ "n": "007", "e": "", "a.b/c": "1+1" }));
}

#[tokio::test]
async fn a_request_that_is_wrong_in_several_ways_hears_of_the_first() {
    let (_stack, api) = lone().await;
    let key = ("idempotency-key", "not a key");
    let plain = ("content-type", "text/plain");
    let encoded = ("content-encoding", "gzip");
    let json_type = ("content-type", "application/json");
    let large = " ".repeat(300 * 1024);
    for path in ["/crunch?bad=1", "/tasks/t/jobs?bad=1", "/jobs?bad=1"] {
        let over = if path.starts_with("/jobs") { large.repeat(2) } else { large.clone() };
        let cases = [
            ("PUT", vec![plain, key], over.as_str(), 405, "method-not-allowed"),
            ("POST", vec![plain, encoded, key], &over, 415, "unsupported-encoding"),
            ("POST", vec![plain, key], &over, 415, "unsupported-media-type"),
            ("POST", vec![json_type, key], &over, 413, "payload-too-large"),
            ("POST", vec![json_type, key], "{", 400, "malformed-json"),
            ("POST", vec![json_type, key], "{}", 400, "invalid-parameter"),
        ];
        for (method, headers, body, status, slug) in cases {
            let mut request = api.request(method.parse().unwrap(), path).body(body.to_owned());
            for (name, value) in headers {
                request = request.header(name, value);
            }
            refused(&api, &api.send(request).await, status, slug).await;
        }
    }
    let request = |body: &'static str| {
        let request =
            api.request("POST".parse().unwrap(), "/jobs").header(json_type.0, json_type.1);
        request.header(key.0, key.1).body(body)
    };
    refused(&api, &api.send(request("{}")).await, 422, "invalid-submission").await;
    refused(&api, &api.send(request(r#"{"task":"t"}"#)).await, 400, "invalid-idempotency-key")
        .await;
}
