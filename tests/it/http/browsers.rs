//! What a browser may do on behalf of a page: what pages of other sites cannot change, the host names that an API
//! without keys serves, and what pages of configured origins may read.

use crunch_tests::{Answer, RawConnection, Stack};
use serde_json::json;

use super::keys::ApiWithKeys;
use super::{api_without_workers, assert_problem, expect_problem};

const APP: &str = "https://app.example.com";
const ORIGIN: &str = "Origin: https://app.example.com";
const VERBS: [&str; 8] = [
    "POST /queues/q/pause",
    "POST /queues/q/purge",
    "POST /queues/q/redrive",
    "PUT /queues/q/groups",
    "DELETE /queues/q/groups/g",
    "POST /jobs/x/cancel",
    "POST /jobs/x/retry",
    "DELETE /jobs/x",
];

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_with_or_without_keys() {
    let (_stack, api) = api_without_workers().await;

    api.submit_with("t", &json!(1), &json!({ "queue": "q" })).await;
    let mut raw = RawConnection::to(&api).await;
    let foreign = ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"];
    for header in foreign {
        for verb in VERBS {
            let answer = raw.request(verb, &[header]).await;
            let problem = expect_problem(&api, &answer, 403, "cross-site-request").await;
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("CRUNCH_API_CORS_ORIGINS"), "{detail}");
        }
        let text = ["Content-Type: text/plain", "Content-Length: 2", header];
        // The body of a refused request is not read, so its connection ends.
        let mut form = RawConnection::to(&api).await;
        form.write_head("POST /crunch", &text).await;
        form.write("\r\n{}").await.unwrap();
        assert_problem(&form.answer().await, 403, "cross-site-request");
        assert_eq!(raw.request("GET /queues/q", &[header]).await.json()["paused"], false);
    }
    let own = format!("Origin: {}", api.url);
    let host = format!("Host: {}", api.address());
    let same = [own.as_str(), &host, "Sec-Fetch-Site: same-origin"];
    assert_eq!(raw.request("POST /queues/q/pause", &same).await.json()["paused"], true);
    let keyed = ApiWithKeys::start(&[]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let authorization = format!("Authorization: Bearer {admin}");
    let mut raw = RawConnection::to(&keyed.api).await;
    for header in foreign {
        let answer = raw.request("POST /queues/q/resume", &[header, &authorization]).await;
        assert_problem(&answer, 403, "cross-site-request");
    }
    let answer = raw.request("GET /tasks", &["Host: evil.example", &authorization]).await;

    assert_eq!(answer.status, 200, "no page knows a key");
}

#[tokio::test]
async fn an_api_without_keys_serves_only_known_host_names() {
    let mut stack = Stack::start();
    let environment = [
        ("CRUNCH_API_HOSTS", "api, crunch.internal"),
        ("CRUNCH_PUBLIC_URL", "https://crunch.example.com/x"),
        ("CRUNCH_API_ADDR", "0.0.0.0:0"),
        ("CRUNCH_AUTH", "off"),
    ];
    let api = stack.api_with(&environment).await;
    let address = api.address().replace("0.0.0.0", "127.0.0.1");
    let mut raw = RawConnection::to_address(&address).await;

    for host in
        ["localhost:80", "127.0.0.1", "[::1]", "API:8080", "crunch.internal.", "Crunch.Example.com"]
    {
        assert_eq!(
            raw.request("GET /queues", &[&format!("Host: {host}")]).await.status,
            200,
            "{host}"
        );
    }
    for verb in [
        "GET /queues",
        "GET /",
        "GET /docs",
        "GET /nothing",
        "OPTIONS /jobs",
        "POST /queues/q/pause",
    ] {
        let answer = raw.request(verb, &["Host: evil.example:8080"]).await;
        assert_problem(&answer, 421, "misdirected-request");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("CRUNCH_API_HOSTS") && detail.contains("evil.example"), "{detail}");
    }
    for probe in ["GET /livez", "GET /readyz"] {
        assert_eq!(raw.request(probe, &["Host: pod-7.internal"]).await.status, 200, "{probe}");
    }
    // An absolute target takes precedence over the header.
    let absolute = raw.request("GET http://evil.example/queues", &["Host: localhost"]).await;
    assert_eq!(absolute.status, 421);
    assert_eq!(raw.request("GET http://api/queues", &["Host: evil.example"]).await.status, 200);
    raw.write("GET /queues HTTP/1.0\r\n\r\n").await.unwrap();
    assert_eq!(raw.answer().await.status, 200);
    let mut raw = RawConnection::to_address(&address).await;

    assert_problem(&raw.request("GET /queues", &["Host: a b"]).await, 400, "invalid-host");
    assert_eq!(
        raw.request("GET /queues", &["Host: localhost", "Host: localhost"]).await.status,
        400
    );
}

fn assert_cors_headers(answer: &Answer) {
    assert_eq!(answer.header("access-control-allow-origin"), APP, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-credentials"), "");
    let exposed: Vec<_> = answer.header("access-control-expose-headers").split(", ").collect();
    for name in [
        "Location",
        "Operation-Location",
        "Retry-After",
        "ETag",
        "Link",
        "RateLimit",
        "Idempotency-Replayed",
        "Crunch-Existing",
        "X-Request-Id",
        "WWW-Authenticate",
    ] {
        assert!(exposed.contains(&name), "{name}: {exposed:?}");
    }
    let vary = answer.headers.get_all("vary").iter();
    assert!(vary.into_iter().any(|value| value.to_str().unwrap().contains("Origin")), "{answer:?}");
}

#[tokio::test]
async fn a_page_of_a_configured_origin_may_read_every_answer_and_refusal() {
    let keyed = ApiWithKeys::start(&[(
        "CRUNCH_API_CORS_ORIGINS",
        "https://other.example, https://app.example.com",
    )])
    .await;
    let key = keyed.create_key(&["--scopes", "submit,read", "--rate", "1000"]).await;
    let authorization = format!("Authorization: Bearer {key}");
    let id = keyed.post(&key, "/jobs", &json!({ "task": "t" })).await.id();
    let mut raw = RawConnection::to(&keyed.api).await;
    let job = format!("GET /jobs/{id}");

    for (line, status) in [
        (job.as_str(), 200),
        ("GET /jobs/x", 404),
        ("PUT /jobs", 405),
        ("POST /queues/q/pause", 403),
        ("OPTIONS /jobs", 204),
        ("GET /livez", 200),
    ] {
        let answer =
            raw.request(line, &[ORIGIN, "Sec-Fetch-Site: cross-site", &authorization]).await;
        assert_eq!(answer.status.as_u16(), status, "{line}");
        assert_cors_headers(&answer);
    }
    assert_cors_headers(&raw.request("GET /jobs", &[ORIGIN]).await);
    let oversized =
        ["Content-Type: application/json", "Content-Length: 99999999", ORIGIN, &authorization];
    raw.write_head("POST /jobs", &oversized).await;
    raw.write("\r\n").await.unwrap();
    let large = raw.answer().await;
    assert_problem(&large, 413, "payload-too-large");
    assert_cors_headers(&large);
    let mut raw = RawConnection::to(&keyed.api).await;
    for origin in ["Origin: https://evil.example", "Origin: null", "X-None: 1"] {
        let answer = raw.request(&job, &[origin, &authorization]).await;
        assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}");
        assert_eq!(answer.headers.get_all("vary").iter().next_back().unwrap(), "Origin");
    }
    raw.write_head(&format!("GET /jobs/{id}/events"), &[ORIGIN, &authorization]).await;
    raw.write("\r\n").await.unwrap();
    let head = String::from_utf8(raw.read_some().await.unwrap()).unwrap().to_lowercase();

    assert!(head.contains("text/event-stream"), "{head}");
    assert!(head.contains("access-control-allow-origin: https://app.example.com"), "{head}");
}

#[tokio::test]
async fn a_preflight_of_a_configured_origin_is_answered_before_keys_are_checked() {
    let keyed = ApiWithKeys::start(&[("CRUNCH_API_CORS_ORIGINS", APP)]).await;
    let mut raw = RawConnection::to(&keyed.api).await;
    let preflight = [
        ORIGIN,
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization, content-type, idempotency-key",
        "Access-Control-Request-Private-Network: true",
    ];

    for path in ["/jobs", "/crunch", "/nothing/here"] {
        let answer = raw.request(&format!("OPTIONS {path}"), &preflight).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0), "{path}");
        assert_cors_headers(&answer);
        let values = |name| answer.header(name).to_lowercase();
        for method in ["get", "head", "post", "delete"] {
            assert!(values("access-control-allow-methods").contains(method));
        }
        for header in [
            "authorization",
            "content-type",
            "idempotency-key",
            "prefer",
            "if-none-match",
            "last-event-id",
        ] {
            assert!(values("access-control-allow-headers").contains(header));
        }
        assert_eq!(answer.header("access-control-max-age"), "7200");
        assert_eq!(answer.header("access-control-allow-private-network"), "true");
    }
    let answer =
        raw.request("OPTIONS /jobs", &["Origin: https://evil.example", preflight[1]]).await;

    assert_eq!(answer.header("allow"), "GET, HEAD, POST, OPTIONS");
    assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("access-control")));
}
