//! Options as query parameters: invalid ones are named and refused, never ignored.

use serde_json::json;

use super::{api_without_workers, expect_problem};

#[tokio::test]
async fn an_invalid_parameter_is_named() {
    let (_stack, api) = api_without_workers().await;
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
        ("group=", "group"),
        ("group=a%0Ab", "group"),
        ("priority=1", "priority"),
        ("delay_ms=-1", "delay_ms"),
        ("delay_ms=1.5", "delay_ms"),
        ("delay_ms=", "delay_ms"),
        ("delay_ms=%2B5", "delay_ms"),
        ("delay_ms=31622400001", "delay_ms"),
        ("run_at=now", "run_at"),
        ("timeout_ms=0", "timeout_ms"),
        ("deadline_ms=0", "deadline_ms"),
        ("start_within_ms=0", "start_within_ms"),
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
            let problem = expect_problem(&api, &answer, 400, "invalid-parameter").await;
            assert!(
                problem["detail"].as_str().unwrap().starts_with(&format!("{name}: ")),
                "{query}: {problem}"
            );
            assert_eq!(problem["instance"], path);
        }
    }
}

#[tokio::test]
async fn a_verb_with_an_unknown_parameter_does_nothing() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit_with("t", &json!(1), &json!({ "queue": "q" })).await;
    let canceled = api.submit_with("t", &json!(1), &json!({ "queue": "q" })).await;

    api.post_empty(&format!("/jobs/{canceled}/cancel")).await;
    let before = (api.job(&id).await, api.job(&canceled).await, api.get("/queues/q").await.json());
    for (line, name, nearest) in [
        ("POST /queues/q/redrive?limt=5", "limt", "did you mean limit?"),
        ("POST /queues/q/redrive?limit=5&code=no_licence", "code", "Known: task, limit"),
        ("POST /queues/q/pause?q", "q", "no other"),
        ("POST /queues/q/resume?utm_source=mail", "utm_source", "no other"),
        ("POST /queues/q/purge?task=t", "task", "no other"),
        ("POST /jobs/{id}/cancel?force=1", "force", "no other"),
        ("POST /jobs/{canceled}/retry?delay=1", "delay", "no other"),
        ("DELETE /jobs/{canceled}?dry_run", "dry_run", "no other"),
        ("DELETE /queues/q/groups?group=g", "group", "no other"),
        ("PUT /queues/q/groups/g?weight=2", "weight", "no other"),
    ] {
        let (method, path) = line.split_once(' ').unwrap();
        let path = path.replace("{id}", &id).replace("{canceled}", &canceled);
        let answer = api.send(api.request(method.parse().unwrap(), &path)).await;
        let problem = expect_problem(&api, &answer, 400, "invalid-parameter").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("{name}: ")), "{line}: {detail}");
        assert!(detail.to_lowercase().contains(&nearest.to_lowercase()), "{line}: {detail}");
    }
    let mut after =
        (api.job(&id).await, api.job(&canceled).await, api.get("/queues/q").await.json());
    after.2["oldest_age_ms"] = before.2["oldest_age_ms"].clone();

    assert_eq!(after, before);
}

#[tokio::test]
async fn a_list_with_an_unknown_parameter_is_refused() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;

    for (path, expected) in [
        (
            "/jobs?statuss=failed",
            "statuss: there is no such query parameter here; did you mean status?",
        ),
        ("/errors?metadata.customer=acme", "metadata.customer: "),
        ("/jobs?utm_source=mail", "utm_source: "),
        ("/jobs?limit=1&limit=1", "limit: is given twice"),
        ("/queues?name=q", "name: "),
        ("/queues/t/groups?name=g", "name: "),
        ("/tasks?x", "x: "),
        ("/workers?queue=q", "queue: "),
        (
            "/jobs/{id}/logs?limits=1",
            "limits: there is no such query parameter here; did you mean limit?",
        ),
        ("/jobs/{id}/attempts?limit=1", "limit: "),
        ("/jobs/{id}/deliveries?status=failed", "status: "),
    ] {
        let answer = api.get(&path.replace("{id}", &id)).await;
        let problem = expect_problem(&api, &answer, 400, "invalid-parameter").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(expected), "{path}: {detail}");
    }
}

#[tokio::test]
async fn tracking_parameters_are_ignored_on_reads_of_one_resource_and_any_parameters_on_pages() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let answers = [
        ("/jobs/{id}", 200),
        ("/jobs/{id}/payload", 200),
        ("/jobs/{id}/result", 202),
        ("/result/{id}", 202),
        ("/queues/t", 200),
        ("/metrics", 200),
        ("/openapi.json", 200),
    ];

    for (path, status) in answers {
        let path = path.replace("{id}", &id);
        let marked = api.get(&format!("{path}?utm_source=mail&utm_source=x")).await;
        assert_eq!(marked.status.as_u16(), status, "{path}");
        for query in ["wiat=5", "_=1", "utm"] {
            let answer = api.get(&format!("{path}?{query}")).await;
            expect_problem(&api, &answer, 400, "invalid-parameter").await;
        }
    }
    for page in ["/", "/docs", "/docs/start.js", "/problems/gone", "/livez", "/readyz"] {
        assert_eq!(api.get(&format!("{page}?v=%zz&x&x&_=1")).await.status, 200, "{page}");
    }
}

#[tokio::test]
async fn query_parameters_next_to_an_envelope_are_refused() {
    let (_stack, api) = api_without_workers().await;

    for (path, body) in
        [("/jobs", json!({ "task": "t" })), ("/jobs/batch", json!({ "jobs": [{ "task": "t" }] }))]
    {
        for query in ["queue=a", "waits=5", "x"] {
            let answer = api.post(&format!("{path}?{query}"), &body).await;
            let problem = expect_problem(&api, &answer, 400, "invalid-parameter").await;
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
    let (_stack, api) = api_without_workers().await;
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
async fn a_request_with_several_errors_is_answered_with_the_first() {
    let (_stack, api) = api_without_workers().await;
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
            expect_problem(&api, &api.send(request).await, status, slug).await;
        }
    }
    let request = |body: &'static str| {
        let request =
            api.request("POST".parse().unwrap(), "/jobs").header(json_type.0, json_type.1);
        request.header(key.0, key.1).body(body)
    };

    expect_problem(&api, &api.send(request("{}")).await, 422, "invalid-submission").await;
    expect_problem(
        &api,
        &api.send(request(r#"{"task":"t"}"#)).await,
        400,
        "invalid-idempotency-key",
    )
    .await;
}
