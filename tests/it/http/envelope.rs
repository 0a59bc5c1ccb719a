//! Invalid envelopes: 422, with a pointer to every error.

use serde_json::{Value, json};

use super::{api_without_workers, expect_problem, pointers};

#[tokio::test]
async fn every_member_of_a_wrong_type_or_out_of_range_is_named_by_pointer() {
    let (_stack, api) = api_without_workers().await;
    let year = 31_622_400_000_u64;
    let long = "x".repeat(256);
    let wrong = json!({
        "task": [null, 1, "", "A", "a b", "a:b", "-a", "x".repeat(65), {}, []],
        "queue": [1, "", "A", "a{b", "x".repeat(65), {}, [], true],
        "priority": ["", "HIGH", "critical", 1, {}, []],
        "group": ["", "a\nb", "\u{7f}", "x".repeat(129), "ä".repeat(65), 1, true, {}, []],
        "delay_ms": [-1, 1.5, "1", 1e3, year + 1, {}, [], true, 18_446_744_073_709_551_615_u64],
        "run_at": ["", "tomorrow", "2026-11-22", "2026-11-22T13:40:54", "9999-01-01T00:00:00Z", 1, {}],
        "timeout_ms": [0, -1, 0.5, "1", year + 1, {}],
        "deadline_ms": [0, -1, 0.5, "1", year + 1, {}],
        "start_within_ms": [0, -1, 0.5, "1", year + 1, {}],
        "max_attempts": [0, 101, -1, 1.5, "3", {}],
        "retention_ms": [-1, 0.5, "1", year + 1, {}],
        "idempotency_key": ["", "a b", "ä", long, 1, {}],
        "webhook": [1, "https://example.com/", []],
        "unique": [1, "a", []],
        "metadata": [1, "a", [], [["a", "b"]]],
    });

    for (member, values) in wrong.as_object().unwrap() {
        for value in values.as_array().unwrap() {
            let mut envelope = json!({ "task": "t" });
            envelope[member] = value.clone();
            let answer = api.post("/jobs", &envelope).await;
            let problem = expect_problem(&api, &answer, 422, "invalid-submission").await;
            assert_eq!(pointers(&problem), [format!("/{member}")], "{envelope}");
            assert!(
                problem["detail"].as_str().unwrap().starts_with(&format!("/{member}: ")),
                "{problem}"
            );
        }
    }
}

#[tokio::test]
async fn pointers_are_escaped_and_all_errors_are_reported_at_once() {
    let (_stack, api) = api_without_workers().await;
    let cases: [(&str, &[&str]); 12] = [
        ("1", &[""]),
        ("[]", &[""]),
        ("null", &[""]),
        ("\"a\"", &[""]),
        ("{}", &["/task"]),
        (r#"{"task":"t","a/b~c":1,"":2,"ä":3}"#, &["/a~1b~0c", "/", "/ä"]),
        (r#"{"delay_ms":1,"run_at":"2026-11-22T13:40:54Z","task":"t"}"#, &["/run_at"]),
        (r#"{"task":"t","task":"u"}"#, &["/task"]),
        (r#"{"task":"t","payload":1,"payload":2}"#, &["/payload"]),
        (r#"{"task":"t","delay_ms":1e999,"queue":"\ud800"}"#, &["/delay_ms", "/queue"]),
        (r#"{"task":"t","metadata":{"a/~":null}}"#, &["/metadata/a~1~0"]),
        (r#"{"task":"t","metadata":{"a":1,"a":2}}"#, &["/metadata/a"]),
    ];

    for (body, expected) in cases {
        let answer = api.post_bytes("/jobs", body).await;
        assert_eq!(
            pointers(&expect_problem(&api, &answer, 422, "invalid-submission").await),
            expected,
            "{body}"
        );
    }
}

#[tokio::test]
async fn labels_have_limits() {
    let (_stack, api) = api_without_workers().await;
    let labels =
        |count: usize| -> Value { (0..count).map(|at| (format!("k{at}"), json!("v"))).collect() };
    let cases = [
        (labels(32), None),
        (labels(33), Some("/metadata/")),
        (json!({ "k": "v".repeat(1024) }), None),
        (json!({ "k": "v".repeat(1025) }), Some("/metadata/k")),
        (json!({ "k": "ä".repeat(513) }), Some("/metadata/k")),
        (json!({ "k".repeat(64): 1 }), None),
        (json!({ "k".repeat(65): 1 }), Some("/metadata/kkk")),
        (json!({ "": 1 }), Some("/metadata/")),
        (json!({ "k": {} }), Some("/metadata/k")),
        (json!({ "k": [] }), Some("/metadata/k")),
        (json!({ "k": null }), Some("/metadata/k")),
    ];

    for (metadata, pointer) in cases {
        let answer = api.post("/jobs", &json!({ "task": "t", "metadata": metadata })).await;
        match pointer {
            None => assert_eq!(
                answer.json()["metadata"].as_object().map(serde_json::Map::len),
                metadata.as_object().map(serde_json::Map::len)
            ),
            Some(pointer) => {
                let problem = expect_problem(&api, &answer, 422, "invalid-submission").await;
                assert!(pointers(&problem)[0].starts_with(pointer), "{problem}");
            }
        }
    }
}

#[tokio::test]
async fn null_is_the_same_as_a_missing_member() {
    let (_stack, api) = api_without_workers().await;
    let members = [
        "queue",
        "priority",
        "group",
        "delay_ms",
        "run_at",
        "timeout_ms",
        "deadline_ms",
        "start_within_ms",
        "max_attempts",
        "retention_ms",
        "idempotency_key",
        "webhook",
        "unique",
        "metadata",
        "payload",
    ];
    let nulls: Value = members.into_iter().map(|member| (member.to_owned(), json!(null))).collect();
    let id = api.submit_with("t", &json!(null), &nulls).await;
    let job = api.job(&id).await;

    assert_eq!(
        (&job["queue"], &job["status"], &job["metadata"]),
        (&json!("t"), &json!("queued"), &json!({}))
    );
}
