//! Every path: allowed methods, other methods, and unknown paths.

use crunch_tests::RawConnection;
use serde_json::{Value, json};

use super::{api_without_workers, assert_problem, expect_problem};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"];

/// Paths and their `Allow` header.
const ROUTES: [(&str, &str); 55] = [
    ("/crunch", "POST, OPTIONS"),
    ("/jobs", "GET, HEAD, POST, OPTIONS"),
    ("/jobs/actions", "POST, OPTIONS"),
    ("/jobs/summary", "GET, HEAD, OPTIONS"),
    ("/jobs/batch", "POST, OPTIONS"),
    ("/tasks/t/jobs", "POST, OPTIONS"),
    ("/result/x", "GET, HEAD, OPTIONS"),
    ("/jobs/x", "GET, HEAD, DELETE, OPTIONS"),
    ("/jobs/x/result", "GET, HEAD, OPTIONS"),
    ("/jobs/x/payload", "GET, HEAD, OPTIONS"),
    ("/jobs/x/attempts", "GET, HEAD, OPTIONS"),
    ("/jobs/x/deliveries", "GET, HEAD, OPTIONS"),
    ("/jobs/x/events", "GET, HEAD, OPTIONS"),
    ("/jobs/x/logs", "GET, HEAD, OPTIONS"),
    ("/stream-tickets", "POST, OPTIONS"),
    ("/jobs/x/cancel", "POST, OPTIONS"),
    ("/jobs/x/retry", "POST, OPTIONS"),
    ("/tasks", "GET, HEAD, OPTIONS"),
    ("/tasks/t", "GET, HEAD, OPTIONS"),
    ("/queues", "GET, HEAD, OPTIONS"),
    ("/queues/q", "GET, HEAD, OPTIONS"),
    ("/queues/q/pause", "POST, OPTIONS"),
    ("/queues/q/resume", "POST, OPTIONS"),
    ("/queues/q/redrive", "POST, OPTIONS"),
    ("/queues/q/purge", "POST, OPTIONS"),
    ("/queues/q/limit", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ("/queues/q/groups", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ("/queues/q/groups/g", "PUT, DELETE, OPTIONS"),
    ("/limits", "GET, HEAD, OPTIONS"),
    ("/limits/l", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ("/schedules", "GET, HEAD, OPTIONS"),
    ("/schedules/s", "GET, HEAD, PUT, DELETE, OPTIONS"),
    ("/schedules/s/pause", "POST, OPTIONS"),
    ("/schedules/s/resume", "POST, OPTIONS"),
    ("/schedules/s/run", "POST, OPTIONS"),
    ("/schedules/s/backfill", "POST, DELETE, OPTIONS"),
    ("/errors", "GET, HEAD, OPTIONS"),
    ("/errors/x", "GET, HEAD, OPTIONS"),
    ("/actions", "GET, HEAD, OPTIONS"),
    ("/history", "GET, HEAD, OPTIONS"),
    ("/workers", "GET, HEAD, OPTIONS"),
    ("/workers/w", "GET, HEAD, OPTIONS"),
    ("/workers/w/quiet", "POST, OPTIONS"),
    ("/workers/w/resume", "POST, OPTIONS"),
    ("/workers/w/stop", "POST, OPTIONS"),
    ("/livez", "GET, HEAD, OPTIONS"),
    ("/readyz", "GET, HEAD, OPTIONS"),
    ("/metrics", "GET, HEAD, OPTIONS"),
    ("/system", "GET, HEAD, OPTIONS"),
    ("/openapi.json", "GET, HEAD, OPTIONS"),
    ("/docs", "GET, HEAD, OPTIONS"),
    ("/docs/start.js", "GET, HEAD, OPTIONS"),
    ("/problems/gone", "GET, HEAD, OPTIONS"),
    ("/problems/none", "GET, HEAD, OPTIONS"),
    ("/", "GET, HEAD, OPTIONS"),
];

#[tokio::test]
async fn options_lists_the_allowed_methods_and_all_others_are_refused() {
    let (_stack, api) = api_without_workers().await;
    let mut raw = RawConnection::to(&api).await;

    for (path, allow) in ROUTES {
        let options = raw.request(&format!("OPTIONS {path}"), &[]).await;
        assert_eq!((options.status.as_u16(), options.header("allow")), (204, allow), "{path}");
        for method in
            METHODS.into_iter().filter(|&method| !allow.split(", ").any(|it| it == method))
        {
            let answer = raw.request(&format!("{method} {path}"), &[]).await;
            assert_eq!(
                (answer.status.as_u16(), answer.header("allow")),
                (405, allow),
                "{method} {path}"
            );
            if method != "HEAD" {
                assert_problem(&answer, 405, "method-not-allowed");
                assert_eq!(answer.json()["instance"], path);
            }
        }
    }
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!({ "a": 1 })).await;
    let mut raw = RawConnection::to(&api).await;
    let job = ["", "/result", "/payload", "/attempts", "/deliveries"]
        .map(|rest| format!("/jobs/{id}{rest}"));
    let by_token = format!("/result/{id}");
    let paths = ROUTES.iter().filter(|(_, allow)| allow.contains("HEAD")).map(|&(path, _)| path);

    for path in paths.chain(job.iter().map(String::as_str)).chain([by_token.as_str()]) {
        let request_id = ["X-Request-Id: same"];
        let get = raw.request(&format!("GET {path}"), &request_id).await;
        let head = raw.request(&format!("HEAD {path}"), &request_id).await;
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
        let (mut got, mut expected) = (head.headers, get.headers);
        // A second may pass in between; counters, ages of jobs and round trips change.
        let grows = ["/metrics", "/queues", "/system"].contains(&path);
        for changes in if grows { &["date", "content-length"][..] } else { &["date"] } {
            got.remove(*changes);
            expected.remove(*changes);
        }
        assert_eq!((head.status, got), (get.status, expected), "{path}");
    }
}

#[tokio::test]
async fn every_invalid_or_unknown_id_gets_the_same_answer() {
    let (_stack, api) = api_without_workers().await;
    let known = api.submit("t", &json!(1)).await;
    let mut unknown = known.clone();
    let last = unknown.pop().unwrap();

    unknown.push(if last == '0' { '1' } else { '0' });
    let elsewhere = format!("{}8fff{}", &known[..14], &known[18..]);
    let ids = [
        unknown,
        elsewhere,
        known.to_uppercase(),
        known.replace('-', ""),
        format!("{known}0"),
        "0".repeat(4000),
        "x".to_owned(),
        "%00".to_owned(),
        "%ff".to_owned(),
        "a%2Fb".to_owned(),
        "%7B1%7D".to_owned(),
        "..".to_owned(),
        "%F0%9F%98%80".to_owned(),
        "00000000-0000-0000-0000-000000000000".to_owned(),
    ];
    let uses = [
        ("GET", "/result/{}"),
        ("GET", "/jobs/{}"),
        ("GET", "/jobs/{}/result"),
        ("GET", "/jobs/{}/payload"),
        ("GET", "/jobs/{}/attempts"),
        ("GET", "/jobs/{}/deliveries"),
        ("POST", "/jobs/{}/cancel"),
        ("POST", "/jobs/{}/retry"),
        ("DELETE", "/jobs/{}"),
    ];
    let mut raw = RawConnection::to(&api).await;
    let mut first: Option<(Vec<String>, Value)> = None;
    for id in &ids {
        for (method, path) in uses {
            let path = path.replace("{}", id);
            let answer = raw.request(&format!("{method} {path}"), &["X-Request-Id: same"]).await;
            assert_problem(&answer, 404, "not-found");
            let mut headers: Vec<_> =
                answer.headers.iter().map(|header| format!("{header:?}")).collect();
            // These depend on the path and the clock.
            headers.retain(|header| {
                !header.starts_with("(\"date\"") && !header.starts_with("(\"content-length\"")
            });
            headers.sort();
            let mut document = answer.json();
            assert_eq!(document["instance"].take(), json!(path));
            let seen = (headers, document);
            assert_eq!(first.get_or_insert_with(|| seen.clone()), &seen, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn unknown_names_and_paths_are_404() {
    let (_stack, api) = api_without_workers().await;

    for (path, slug) in [
        ("/nothing", "not-found"),
        ("/jobs/", "not-found"),
        ("/jobs//result", "not-found"),
        ("//", "not-found"),
        ("/crunch/", "not-found"),
        ("/CRUNCH", "not-found"),
        ("/queues/none", "not-found"),
        ("/queues/UPPER", "not-found"),
        ("/queues/%ff", "not-found"),
        ("/tasks/none", "unknown-task"),
        ("/tasks/UPPER", "unknown-task"),
        ("/problems/none", "not-found"),
        ("/docs/", "not-found"),
        ("/docs/index.html", "not-found"),
        ("/docs/swagger-initializer.js", "not-found"),
        ("/jobs/x/events", "not-found"),
        ("/jobs/x/logs", "not-found"),
    ] {
        expect_problem(&api, &api.get(path).await, 404, slug).await;
    }
}

#[tokio::test]
async fn requests_that_are_not_http_are_refused_and_the_api_continues() {
    let (_stack, api) = api_without_workers().await;
    let huge = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1_000_000));
    let broken: [&str; 7] = [
        "NONSENSE\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        "POST /crunch HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "POST /crunch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        &huge,
    ];

    for request in broken {
        let mut raw = RawConnection::to(&api).await;
        // It may close the connection before everything was written.
        let _ = raw.write(request).await;
        let answer = String::from_utf8_lossy(&raw.read_until_closed().await).into_owned();
        let start = &request[..request.len().min(60)];
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{start}: {answer}");
    }

    assert_eq!(api.get("/livez").await.status.as_u16(), 200);
}

#[tokio::test]
async fn the_openapi_document_and_the_pages_are_served() {
    let (_stack, api) = api_without_workers().await;
    let document = api.get("/openapi.json").await;

    assert_eq!(
        (document.status.as_u16(), document.header("content-type")),
        (200, "application/json")
    );
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let submit = &document["paths"]["/crunch"]["post"]["responses"];
    assert_eq!(
        submit["202"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/Job"
    );
    let home = api.get("/").await;
    assert_eq!(
        (home.status.as_u16(), home.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let lists = ["/tasks", "/queues", "/workers"];
    for path in lists {
        let list = api.get(path).await;
        assert_eq!(
            (list.status.as_u16(), list.header("cache-control")),
            (200, "no-store"),
            "{path}"
        );
        assert!(list.json()["items"].is_array());
    }
}
