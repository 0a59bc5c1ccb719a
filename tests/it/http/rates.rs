//! How many requests a caller may send, and which headers it gets.

use crunch_tests::{Answer, Stack, eventually};
use reqwest::Method;
use serde_json::json;

use super::keys::ApiWithKeys;

/// `r` of the `RateLimit` header.
fn remaining(answer: &Answer) -> u64 {
    let header = answer.header("ratelimit");
    let rest = header.strip_prefix("\"default\";r=").unwrap_or_else(|| panic!("{answer:?}"));
    rest.split_once(";t=").unwrap().0.parse().unwrap()
}

#[tokio::test]
async fn a_caller_over_its_rate_gets_retry_after_and_others_are_served() {
    let keyed = ApiWithKeys::start(&[("CRUNCH_API_RATE", "1000000")]).await;
    let slow = keyed.create_key(&["--scopes", "admin", "--rate", "1"]).await;
    let fast = keyed.create_key(&["--scopes", "admin"]).await;
    let answer = eventually("a request is over the rate", async || {
        let answer = keyed.send(&slow, "GET", "/tasks").await;
        assert_eq!(answer.header("ratelimit-policy"), "\"default\";q=1;w=1");
        (answer.status == 429).then_some(answer)
    })
    .await;

    assert_eq!((answer.problem().as_str(), answer.header("retry-after")), ("rate-limited", "1"));
    assert_eq!(remaining(&answer), 0);
    let answer = keyed.send(&fast, "GET", "/tasks").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("ratelimit-policy"), "\"default\";q=1000000;w=1");
    assert!(remaining(&answer) > 0);
    for open in ["/livez", "/readyz"] {
        let answer = keyed.api.get(open).await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (200, ""));
    }
}

#[tokio::test]
async fn a_submission_counts_against_the_rate_only_if_it_is_valid() {
    let mut stack = Stack::start();
    let environment = [
        ("CRUNCH_API_UNKNOWN_TASKS", "accept"),
        ("CRUNCH_API_RATE", "1"),
        ("CRUNCH_API_RATE_BURST", "3"),
    ];
    let api = stack.api_with(&environment).await;

    for _ in 0..10 {
        let refused = api.post_bytes("/jobs", "nonsense").await;
        assert_eq!((refused.status.as_u16(), refused.header("ratelimit")), (400, ""));
    }
    let accepted = api.post("/jobs", &json!({ "task": "t" })).await;
    assert_eq!((accepted.status.as_u16(), remaining(&accepted)), (202, 2));
    assert_eq!(accepted.header("ratelimit-policy"), "\"default\";q=3;w=3");
    // Other errors of a request are reported before it is counted, so it uses no token.
    for path in ["/jobs", "/jobs/batch", "/tasks/t/jobs", "/crunch"] {
        let body = match path {
            "/jobs/batch" => json!({ "jobs": [{ "task": "t" }] }),
            _ => json!({ "task": "t" }),
        };
        let refused = eventually("a submission is over the rate", async || {
            let answer = api.post(path, &body).await;
            assert!([202, 429].contains(&answer.status.as_u16()), "{path}: {answer:?}");
            (answer.status == 429).then_some(answer)
        })
        .await;
        assert_eq!(refused.problem(), "rate-limited");
        let broken = api.send(api.request(Method::POST, path).body("x")).await;
        assert_eq!(broken.status, 415, "{path}");
    }
}
