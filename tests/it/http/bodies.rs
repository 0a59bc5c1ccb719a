//! Bodies: their type, their encoding, their size, and whether they are JSON.

use crunch_tests::{RawConnection, Stack};
use reqwest::Method;
use serde_json::json;

use super::{api_without_workers, assert_problem, expect_problem};

/// The maximum body of `POST /jobs`: the default maximum payload of a task, and room for the envelope.
const ENVELOPE_LIMIT: usize = (256 + 64) * 1024;

#[tokio::test]
async fn only_json_media_types_are_accepted() {
    let (_stack, api) = api_without_workers().await;
    let cases: [(&[&str], bool); 12] = [
        (&["application/json"], true),
        (&["Application/JSON; charset=utf-8"], true),
        (&["application/ld+json"], true),
        (&["application/problem+json;x=\"y\""], true),
        (&[], false),
        (&[""], false),
        (&["text/plain"], false),
        (&["application/xml"], false),
        (&["json"], false),
        (&["application/json, text/plain"], false),
        (&["application/json", "text/plain"], false),
        (&["multipart/form-data; boundary=x"], false),
    ];

    for path in ["/crunch", "/tasks/t/jobs", "/jobs", "/jobs/batch"] {
        for (types, accepted) in cases {
            let mut request = api.request(Method::POST, path);
            for given in types {
                request = request.header("content-type", *given);
            }
            let answer = api.send(request.body("[1")).await;
            if accepted {
                expect_problem(&api, &answer, 400, "malformed-json").await;
            } else {
                expect_problem(&api, &answer, 415, "unsupported-media-type").await;
                let lines = if path == "/jobs/batch" { ", application/x-ndjson" } else { "" };
                let expected = format!("application/json{lines}");
                assert_eq!(answer.header("accept"), expected, "{path} {types:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_encoded_body_is_refused() {
    let (_stack, api) = api_without_workers().await;
    let cases: [(&[&str], bool); 6] = [
        (&["identity"], true),
        (&["Identity"], true),
        (&["gzip"], false),
        (&["identity, gzip"], false),
        (&["identity", "gzip"], false),
        (&["br"], false),
    ];

    for path in ["/crunch", "/tasks/t/jobs", "/jobs", "/jobs/batch"] {
        for (encodings, accepted) in cases {
            let mut request =
                api.request(Method::POST, path).header("content-type", "application/json");
            for encoding in encodings {
                request = request.header("content-encoding", *encoding);
            }
            let answer = api.send(request.body("[1")).await;
            if accepted {
                expect_problem(&api, &answer, 400, "malformed-json").await;
            } else {
                expect_problem(&api, &answer, 415, "unsupported-encoding").await;
                assert_eq!(answer.header("accept-encoding"), "identity", "{path} {encodings:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_one_json_value_is_malformed() {
    let (_stack, api) = api_without_workers().await;
    let deep =
        |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
    let malformed: [Vec<u8>; 16] = [
        b"".into(),
        b" ".into(),
        b"{".into(),
        b"\"\xff\"".into(),
        b"\xef\xbb\xbf{}".into(),
        b"NaN".into(),
        b"[Infinity]".into(),
        b"{} {}".into(),
        b"{},".into(),
        b"{}\0".into(),
        b"'a'".into(),
        b"{a:1}".into(),
        b"[1,]".into(),
        deep(65),
        deep(100_000),
        "[".repeat(100_000).into_bytes(),
    ];

    for path in ["/crunch", "/tasks/t/jobs", "/jobs", "/jobs/batch"] {
        for body in &malformed {
            expect_problem(&api, &api.post_bytes(path, body.clone()).await, 400, "malformed-json")
                .await;
        }
    }
    for path in ["/crunch", "/tasks/t/jobs"] {
        assert_eq!(api.post_bytes(path, deep(64)).await.status.as_u16(), 202);
    }
}

/// Payloads that a parser would change or reject.
const DIFFICULT: [&str; 8] = [
    r#"{"b":1,"a":2}"#,
    r#"{"a":1,"a":2}"#,
    "[123456789012345678901234567890, 0.1000, 1E+2, -0]",
    "[1e999]",
    r#""\ud800""#,
    r#" {"a" : [ ] } "#,
    "\"\\u00e4\u{e4}\u{1f600}\\/\"",
    "null",
];

#[tokio::test]
async fn a_payload_is_kept_byte_by_byte() {
    let (_stack, api) = api_without_workers().await;

    for payload in DIFFICULT {
        let enveloped = format!("{{\"task\":\"t\",\"payload\":{payload}}}");
        for (path, body, kept) in [
            ("/crunch", payload, payload),
            ("/tasks/t/jobs", payload, payload),
            ("/jobs", enveloped.as_str(), payload.trim()),
        ] {
            let job = api.post_bytes(path, body).await;
            assert_eq!(job.json()["payload_size"], kept.len(), "{path}");
            let stored = api.get(&format!("/jobs/{}/payload", job.id())).await;
            assert_eq!(stored.body, kept.as_bytes(), "{path}");
            assert_eq!(stored.header("content-type"), "application/json");
        }
    }
}

#[tokio::test]
async fn a_result_is_kept_byte_by_byte() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let text = "{\"b\" : 123456789012345678901234567890,\"a\":[1.000]}";
    let id = api.post_bytes("/tasks/repeat/jobs", text).await.id();
    api.wait_for_status(&id, "succeeded").await;
    assert_eq!(api.get(&format!("/jobs/{id}/result")).await.body, text.as_bytes());
    for path in [format!("/jobs/{id}"), format!("/result/{id}")] {
        let document = api.get(&path).await.body;
        let inline = format!("\"result\":{text},\"result_size\":{}", text.len());
        assert!(String::from_utf8_lossy(&document).contains(&inline), "{document:?}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_or_without_a_length() {
    let (_stack, api) = api_without_workers().await;
    let payload_limit = 256 * 1024;

    for (path, limit) in [
        ("/crunch", payload_limit),
        ("/tasks/t/jobs", payload_limit),
        ("/jobs", ENVELOPE_LIMIT),
        ("/jobs/batch", 16 << 20),
    ] {
        let body = " ".repeat(limit + 1);
        let chunked = [api.post_bytes(path, body.as_str()).await, {
            let mut raw = RawConnection::to(&api).await;
            let headers = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
            raw.write_head(&format!("POST {path}"), &headers).await;
            raw.write("\r\n").await.unwrap();
            // The answer may arrive, and the connection end, before everything was written.
            let _ = raw.write_chunks(body.as_bytes(), 60_000).await;
            raw.answer().await
        }];
        for answer in chunked {
            let problem = expect_problem(&api, &answer, 413, "payload-too-large").await;
            assert_eq!(problem["max_bytes"], limit, "{path}");
        }
        // Spaces up to the limit are read, and are not JSON.
        assert_problem(&api.post_bytes(path, " ".repeat(limit)).await, 400, "malformed-json");
    }
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_the_body_arrives() {
    let (_stack, api) = api_without_workers().await;
    let mut raw = RawConnection::to(&api).await;
    let headers = ["Content-Type: application/json", "Content-Length: 18446744073709551615"];
    let answer = raw.request("POST /crunch", &headers).await;
    expect_problem(&api, &answer, 413, "payload-too-large").await;
}

#[tokio::test]
async fn a_payload_in_an_envelope_has_its_tasks_limit_not_the_envelopes() {
    let (_stack, api) = api_without_workers().await;
    let text = "x".repeat(256 * 1024);
    let answer = api.post("/jobs", &json!({ "task": "t", "payload": text })).await;
    assert_eq!(
        expect_problem(&api, &answer, 413, "payload-too-large").await["max_bytes"],
        256 * 1024
    );
    let fits = &text[2..];
    assert_eq!(
        api.post("/jobs", &json!({ "task": "t", "payload": fits })).await.status.as_u16(),
        202
    );
}

#[tokio::test]
async fn a_task_accepts_the_types_and_sizes_it_declared() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let send = async |content_type: &str, bytes: usize| {
        let request = api.request(Method::POST, "/tasks/image.thumbnail/jobs");
        api.send(request.header("content-type", content_type).body(vec![b' '; bytes])).await
    };
    let wrong = send("application/json", 1).await;
    expect_problem(&api, &wrong, 415, "unsupported-media-type").await;
    let accept = wrong.header("accept").to_owned();
    assert!(accept.contains("image/png") && accept.contains("image/jpeg"), "{accept}");
    let declared = api.get("/tasks/image.thumbnail").await.json();
    let limit = declared["max_payload"].as_u64().unwrap();
    assert_eq!(declared["accepts"].as_array().unwrap().len(), accept.split(", ").count());
    let large = send("image/png", usize::try_from(limit).unwrap() + 1).await;
    assert_eq!(expect_problem(&api, &large, 413, "payload-too-large").await["max_bytes"], limit);
    assert_eq!(send("image/png", 300_000).await.status.as_u16(), 202);

    let enveloped = api.post("/jobs", &json!({ "task": "image.thumbnail", "payload": {} })).await;
    let problem = expect_problem(&api, &enveloped, 422, "invalid-submission").await;
    assert_eq!(super::pointers(&problem), ["/payload"]);
}

#[tokio::test]
async fn an_incomplete_body_creates_no_job() {
    let (_stack, api) = api_without_workers().await;
    let body = br#"{"task":"t","payload":[1,2,3]}"#;
    let length = format!("Content-Length: {}", body.len());

    for path in ["/crunch", "/tasks/t/jobs", "/jobs", "/jobs/batch"] {
        for framing in [length.as_str(), "Transfer-Encoding: chunked"] {
            for cut in [0, 1, body.len() - 1] {
                let mut raw = RawConnection::to(&api).await;
                raw.write_head(
                    &format!("POST {path}"),
                    &["Content-Type: application/json", framing],
                )
                .await;
                let chunk = if framing == length { "" } else { "1e\r\n" };
                raw.write(format!("\r\n{chunk}")).await.unwrap();
                raw.write(&body[..cut]).await.unwrap();
                // The client sends no more but keeps reading, so that the test sees when the API has detected it.
                raw.finish_sending().await;
                expect_problem(&api, &raw.answer().await, 400, "broken-body").await;
            }
        }
    }

    assert_eq!(api.get("/jobs").await.json()["items"], json!([]));
}

#[tokio::test]
async fn invalid_chunks_end_the_connection_and_create_no_job() {
    let (_stack, api) = api_without_workers().await;
    for chunks in ["zz\r\n", "2\r\n{}nonsense\r\n", "-1\r\n"] {
        let mut raw = RawConnection::to(&api).await;
        let headers = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
        raw.write_head("POST /crunch", &headers).await;
        raw.write(format!("\r\n{chunks}")).await.unwrap();
        let answer = String::from_utf8_lossy(&raw.read_until_closed().await).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{chunks}: {answer}");
    }
    assert_eq!(api.get("/jobs").await.json()["items"], json!([]));
}
