//! HTTP as clients use it: offers of other protocols, old versions, pipelined requests.

use std::fmt::Write as _;
use std::time::Duration;

use crunch_tests::{Answer, Api, RawConnection, eventually};
use futures_util::future::join_all;
use serde_json::json;

use super::api_without_workers;

/// Header lines that offer another protocol or concern the connection (RFC 9110, sections 7.6.1 and 7.8). The first are
/// those of Java's client.
const OFFERS: [&[&str]; 9] = [
    &[
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    ],
    &["Connection: Upgrade", "Upgrade: TLS/1.0"],
    &["Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"],
    &["Connection: keep-alive, Upgrade", "Upgrade: h2c, websocket"],
    &["Connection: Upgrade, keep-alive", "Upgrade: h2c"],
    &["Connection: keep-alive", "Connection: ,upgrade,", "Upgrade: h2c", "Upgrade: websocket"],
    &["Connection: Upgrade", "Connection: HTTP2-Settings"],
    &["Upgrade: h2c"],
    &["Upgrade: websocket"],
];

fn assert_stays_open(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!((answer.header("connection"), answer.header("upgrade")), ("", ""), "{answer:?}");
}

#[tokio::test]
async fn an_offer_of_another_protocol_is_ignored_and_the_connection_stays_open() {
    let (_stack, api) = api_without_workers().await;
    let mut raw = RawConnection::to(&api).await;

    for offer in OFFERS {
        assert_stays_open(&raw.request("GET /livez", offer).await, 200);
        assert_stays_open(&raw.request("HEAD /livez", offer).await, 200);
        assert_stays_open(&raw.request("OPTIONS /jobs", offer).await, 204);
        assert_stays_open(&raw.request("GET /nothing/here", offer).await, 404);
        let with_length = ["Content-Type: application/json", "Content-Length: 14"];
        raw.write_head("POST /crunch", &[offer, &with_length].concat()).await;
        raw.write("\r\n\"Upgrade: h2c\"").await.unwrap();
        let accepted = raw.answer().await;
        assert_stays_open(&accepted, 202);
        let payload = raw.request(&format!("GET /jobs/{}/payload", accepted.id()), offer).await;
        assert_eq!(&payload.body[..], b"\"Upgrade: h2c\"", "a body is not changed");
        let in_chunks = ["Content-Type: application/json", "Transfer-Encoding: chunked"];
        raw.write_head("POST /crunch", &[&in_chunks, offer].concat()).await;
        raw.write("\r\n").await.unwrap();
        raw.write_chunks(b"[1, 2, 3]", 2).await.unwrap();
        assert_stays_open(&raw.answer().await, 202);
    }
    let last = raw.request("GET /livez", &["Connection: Upgrade, close", "Upgrade: h2c"]).await;

    assert_eq!(last.header("connection"), "close");
    assert_eq!(raw.read_until_closed().await, b"");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let tag = api.get(&format!("/jobs/{id}")).await.header("etag").to_owned();
    let unchanged = format!("If-None-Match: {tag}");
    let mut raw = RawConnection::to(&api).await;
    let requests = [
        ("GET /livez", &["Connection: Upgrade", "Upgrade: h2c"][..], 200),
        ("HEAD /tasks", &[], 200),
        (&*format!("GET /jobs/{id}"), &[&*unchanged], 304),
        ("OPTIONS /jobs", &[], 204),
        ("GET /nothing", &["Upgrade: websocket"], 404),
    ];
    // The first one is not answered before the others have arrived.
    let mut heads =
        format!("GET /jobs/{id}?wait=1 HTTP/1.1\r\nHost: localhost\r\n{unchanged}\r\n\r\n");

    // More than the library queues.
    for (line, headers, _) in requests.iter().cycle().take(50) {
        write!(heads, "{line} HTTP/1.1\r\nHost: localhost\r\n").unwrap();
        headers.iter().for_each(|header| heads.extend([header, "\r\n"]));
        heads.push_str("\r\n");
    }
    raw.write(heads).await.unwrap();
    assert_stays_open(&raw.answer().await, 304);
    for (line, _, status) in requests.iter().cycle().take(50) {
        let bodiless = line.starts_with("HEAD") || matches!(status, 204 | 304);
        let answer = if bodiless { raw.answer_without_body().await } else { raw.answer().await };
        assert_stays_open(&answer, *status);
    }

    assert_stays_open(&raw.request("GET /livez", &[]).await, 200);
}

/// Sends requests until the API reads no more, and reads no answer.
async fn flood(api: &Api) -> RawConnection {
    let mut raw = RawConnection::to(api).await;
    let many = "HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    // Full buffers of the system show only in that a write does not finish.
    while tokio::time::timeout(Duration::from_secs(2), raw.write(&many)).await.is_ok() {}
    raw
}

#[tokio::test]
async fn clients_that_send_requests_and_read_no_answer_cost_no_memory() {
    let (_stack, api) = api_without_workers().await;
    assert_eq!(api.get("/livez").await.status, 200);
    let before = api.process.peak_memory();
    let _flood = join_all((0..8).map(|_| flood(&api))).await;
    let growth = api.process.peak_memory() - before;
    assert!(growth < 32 * 1024 * 1024, "eight connections took {growth} bytes");
    assert_eq!(api.get("/livez").await.status, 200);
}

/// Sends a request; returns everything until the connection is closed.
async fn send_until_closed(api: &Api, request: &str) -> String {
    let mut raw = RawConnection::to(api).await;
    raw.write(request).await.unwrap();
    String::from_utf8(raw.read_until_closed().await).unwrap()
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_chunks() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;

    for header in ["", "Connection: keep-alive\r\n"] {
        let mut raw = RawConnection::to(&api).await;
        raw.write(format!("GET /jobs/{id}/events HTTP/1.0\r\n{header}\r\n")).await.unwrap();
        let mut text = String::new();
        while !text.contains("event: status") {
            let chunk = raw.read_some().await.expect("the stream continues");
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.0 200") && !head.contains("transfer-encoding"), "{head}");
        assert!(!head.contains("keep-alive") && !head.contains("content-length"), "{head}");
        assert!(body.is_empty() || body.starts_with("event: status\nid: "), "{body}");
    }
    let mut raw = RawConnection::to(&api).await;
    raw.write(format!("GET /jobs/{id}/events HTTP/1.0\r\n\r\n")).await.unwrap();
    eventually("the stream is read", async || {
        api.get("/metrics")
            .await
            .body
            .windows(20)
            .any(|it| it == b"crunch_http_waiting ")
            .then_some(())
    })
    .await;
    assert_eq!(api.post_empty(&format!("/jobs/{id}/cancel")).await.status, 200);
    let whole = String::from_utf8(raw.read_until_closed().await).unwrap();

    assert!(whole.contains("event: done\n") && whole.ends_with("\n\n"), "{whole}");
}

#[tokio::test]
async fn a_client_of_http_1_0_keeps_its_connection_where_lengths_are_known() {
    let (_stack, api) = api_without_workers().await;
    let mut raw = RawConnection::to(&api).await;
    for _ in 0..3 {
        raw.write("GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        let answer = raw.answer().await;
        assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, "keep-alive"));
        assert!(!answer.header("content-length").is_empty(), "{answer:?}");
    }
    let not_found = send_until_closed(&api, "GET /nothing HTTP/1.0\r\nUpgrade: h2c\r\n\r\n").await;
    assert!(not_found.starts_with("HTTP/1.0 404 ") && not_found.ends_with('}'), "{not_found}");
    let head = send_until_closed(&api, "HEAD /livez HTTP/1.0\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.0 200 ") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn an_answer_is_complete_even_if_the_bytes_after_its_request_are_invalid() {
    let (_stack, api) = api_without_workers().await;
    let script = api.get("/docs/swagger-ui-bundle.js").await.body;
    let rest = "x".repeat(300_000);
    let answers = |api: &Api| {
        let log = api.process.log();
        log.lines().filter(|line| line.contains("swagger-ui") && line.contains("answered")).count()
    };

    for headers_and_more in [
        // A chunk that is longer than its size.
        "Transfer-Encoding: chunked\r\n\r\n1\r\n",
        // A second request that is invalid.
        "\r\n\u{7f}",
        // More bytes after the last request.
        "Connection: close\r\n\r\n",
    ] {
        // What the client has not read is buffered by the system of the API, which drops it when a connection is reset.
        let mut raw = RawConnection::with_small_buffer(&api).await;
        raw.write_head("GET /docs/swagger-ui-bundle.js", &[]).await;
        let before = answers(&api);
        raw.write(format!("{headers_and_more}{rest}")).await.unwrap();
        // Next the API closes the connection; the answer is read from then on.
        eventually("the request is answered", async || (answers(&api) > before).then_some(()))
            .await;
        raw.widen_buffer();
        let answer = raw.answer().await;
        assert_eq!(answer.status, 200);
        assert!(answer.body == script, "{} of {} bytes", answer.body.len(), script.len());
        raw.finish_sending().await;
        raw.read_until_closed().await;
    }
}
