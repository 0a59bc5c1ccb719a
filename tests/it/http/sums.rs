//! The resources that all clients of an API use together are bounded, not only those of each; beyond the limit requests
//! are refused, and others are served.

use std::time::Duration;

use crunch_tests::{Api, RawConnection, Stack, eventually};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::timeout;

use super::assert_problem;
use super::keys::ApiWithKeys;

const MIB: usize = 1024 * 1024;
/// Memory in addition to what is counted: of forty connections and the allocator.
const OVERHEAD: u64 = 24 * MIB as u64;

/// Clients that were refused have their answer by then; the bodies of the others are not read further.
const REFUSED_WITHIN: Duration = Duration::from_millis(500);

/// An API without workers that buffers at most this many bytes of bodies.
async fn api_with_body_memory(bytes: usize) -> (Stack, Api) {
    let mut stack = Stack::start();
    let bytes = bytes.to_string();
    let environment =
        [("CRUNCH_API_UNKNOWN_TASKS", "accept"), ("CRUNCH_API_MAX_BODY_MEMORY", &*bytes)];
    let api = stack.api_with(&environment).await;
    assert_eq!(api.get("/livez").await.status, 200);
    (stack, api)
}

/// Sends most of a body and stops, unless it is refused.
async fn send_part_of_body(api: &Api, head: &[&str], part: &[u8]) -> RawConnection {
    let mut raw = RawConnection::to(api).await;
    raw.write_head("POST /jobs/batch", head).await;
    // The connection of a refused request may be closed before everything is sent.
    let _ = raw.write(&[b"\r\n", part].concat()).await;
    raw
}

/// The value of a metric with these labels; 0 if there is none.
async fn metric(api: &Api, name: &str) -> u64 {
    let text = String::from_utf8(api.get("/metrics").await.body.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim().parse().unwrap())
}

#[tokio::test]
async fn bodies_that_stop_halfway_are_bounded_together_and_others_are_served() {
    const OPEN: usize = 16;
    let part = vec![b' '; 7 * MIB];
    let length = format!("Content-Length: {}", 8 * MIB);
    let chunk = [format!("{:x}\r\n", 8 * MIB).as_bytes(), &part].concat();

    for (framing, part) in [(&*length, part), ("Transfer-Encoding: chunked", chunk)] {
        let (_stack, api) = api_with_body_memory(16 * MIB).await;
        let before = api.process.peak_memory();
        let head = ["Content-Type: application/json", framing];
        let mut open = join_all((0..OPEN).map(|_| send_part_of_body(&api, &head, &part))).await;
        let refused = "crunch_http_refused_total{sum=\"bodies\"}";
        let min_refused = OPEN - 2;
        eventually("most bodies are refused", async || {
            (metric(&api, refused).await >= min_refused as u64).then_some(())
        })
        .await;
        let answers =
            join_all(open.iter_mut().map(|raw| timeout(REFUSED_WITHIN, raw.answer()))).await;
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        answers.iter().for_each(|answer| assert_problem(answer, 503, "overloaded"));
        assert!(answers.len() >= min_refused, "{answers:?}");
        let growth = api.process.peak_memory() - before;
        assert!(growth < 16 * MIB as u64 + OVERHEAD, "{framing} took {growth} bytes");
        assert_eq!(api.post("/crunch", &json!(1)).await.status, 202, "small bodies are accepted");
        drop(open);
        let body = format!("{{\"jobs\":[{{\"task\":\"t\"}}]{}}}", " ".repeat(15 * MIB));
        eventually("there is room again", async || {
            (api.post_bytes("/jobs/batch", body.clone()).await.status == 202).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_body_larger_than_the_budget_is_accepted_when_it_is_alone() {
    let (_stack, api) = api_with_body_memory(MIB).await;
    let body = format!("{{\"jobs\":[{{\"task\":\"t\"}}]{}}}", " ".repeat(8 * MIB));
    for _ in 0..3 {
        assert_eq!(api.post_bytes("/jobs/batch", body.clone()).await.status, 202);
    }
}

#[tokio::test]
async fn a_client_refused_halfway_may_send_the_rest_and_gets_the_answer() {
    let (_stack, api) = api_with_body_memory(4 * MIB).await;
    let length = format!("Content-Length: {}", 16 * MIB);
    let head = ["Content-Type: application/json", &length];
    let _other = send_part_of_body(&api, &head, &vec![b' '; MIB]).await;
    let body = vec![b' '; 16 * MIB];
    let mut raw = RawConnection::to(&api).await;

    raw.write_head("POST /jobs/batch", &head).await;
    raw.write("\r\n").await.unwrap();
    raw.write(&body).await.expect("the rest is read");
    let answer = raw.answer().await;
    assert_problem(&answer, 503, "overloaded");
    assert_eq!(answer.header("connection"), "close");
    raw.read_until_closed().await;
}

#[tokio::test]
async fn answers_that_are_not_read_are_bounded_together_and_others_are_served() {
    /// More than fits in the buffers of the system for each connection.
    const EACH: usize = 12;
    let (_stack, api) = api_with_body_memory(16 * MIB).await;
    let payload = "x".repeat(200 * 1024);
    let id = api.submit("t", &json!(payload)).await;
    let request = format!("GET /jobs/{id}/payload HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let before = api.process.peak_memory();
    let send = async || {
        let mut raw = RawConnection::with_small_buffer(&api).await;
        raw.write(request.repeat(EACH)).await.unwrap();
        raw
    };
    let open = join_all((0..200).map(|_| send())).await;
    let refused = "crunch_http_refused_total{sum=\"answers\"}";

    eventually("some requests are refused", async || {
        (metric(&api, refused).await > 0).then_some(())
    })
    .await;
    assert_eq!(api.post("/crunch", &json!(1)).await.status, 202);
    let growth = api.process.peak_memory() - before;
    assert!(growth < 16 * MIB as u64 + 2 * OVERHEAD, "took {growth} bytes");
    drop(open);
    let complete = eventually("there is room again", async || {
        let answer = api.get(&format!("/jobs/{id}/payload")).await;
        (answer.status == 200).then_some(answer)
    })
    .await;

    assert_eq!(complete.json(), json!(payload));
}

#[tokio::test]
async fn heads_that_stop_halfway_are_bounded_together_and_others_are_served() {
    let (_stack, api) = api_with_body_memory(16 * MIB).await;
    let before = api.process.peak_memory();
    let head = format!(
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n{}",
        "X: ".to_owned() + &"a".repeat(120_000)
    );
    let opened = (0..600).map(|_| async {
        let mut raw = RawConnection::to(&api).await;
        let _ = raw.write(&head).await;
        raw
    });
    let _open = join_all(opened).await;
    let refused = "crunch_http_refused_total{sum=\"heads\"}";

    eventually("some requests are refused", async || {
        (metric(&api, refused).await > 0).then_some(())
    })
    .await;
    let growth = api.process.peak_memory() - before;

    assert!(growth < 32 * MIB as u64 + 2 * OVERHEAD, "took {growth} bytes");
    assert_eq!(api.post("/crunch", &json!(1)).await.status, 202);
}

/// An API with a limit on connections, and the id of a job that no worker runs.
async fn api_with_connections(
    connections: usize,
    environment: &[(&str, &str)],
) -> (Stack, Api, String) {
    let mut stack = Stack::start();
    let (_idle, connections) = (stack.api().await, connections.to_string());
    let own =
        [("CRUNCH_API_UNKNOWN_TASKS", "accept"), ("CRUNCH_API_MAX_CONNECTIONS", &connections)];
    let api = stack.api_with(&[&own, environment].concat()).await;
    let id = api.submit("t", &json!(1)).await;
    (stack, api, id)
}

/// Opens a stream of events; returns it with the start of the answer.
async fn open_stream(api: &Api, id: &str) -> (RawConnection, String) {
    let mut raw = RawConnection::to(api).await;
    raw.write_head(&format!("GET /jobs/{id}/events"), &[]).await;
    raw.write("\r\n").await.unwrap();
    let begin = raw.read_some().await.unwrap_or_default();
    (raw, String::from_utf8_lossy(&begin).into_owned())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn waiting_requests_leave_room_for_others() {
    let (_stack, api, id) = api_with_connections(20, &[]).await;
    let mut open = Vec::new();

    for _ in 0..8 {
        let (raw, answer) = open_stream(&api, &id).await;
        assert_eq!(status(&answer), "200", "{answer}");
        open.push(raw);
    }
    let (_raw, refused) = open_stream(&api, &id).await;
    assert_eq!(status(&refused), "429", "{refused}");
    assert!(refused.contains("retry-after: 5\r\n") && refused.contains("/too-many-waiting"));
    // A wait is a preference: if there is no place for it, the answer is immediate and asks for a later retry.
    for path in [format!("/jobs/{id}?wait=60"), format!("/result/{id}?wait=60")] {
        let answer = api.get(&path).await;
        assert!(answer.status.is_success(), "{answer:?}");
        assert_eq!(answer.header("retry-after"), "5");
    }
    let request = api.request(reqwest::Method::POST, "/crunch").header("prefer", "wait=60");
    let accepted = api.send(request.json(&json!(1))).await;
    assert_eq!(
        (accepted.status.as_u16(), accepted.header("retry-after")),
        (202, "5"),
        "{accepted:?}"
    );
    assert_eq!(accepted.header("preference-applied"), "");
    // The streams end with their job.
    assert_eq!(api.post_empty(&format!("/jobs/{id}/cancel")).await.status, 200);
    let other = api.submit("t", &json!(1)).await;
    eventually("there is a place again", async || {
        let (_raw, answer) = open_stream(&api, &other).await;
        (status(&answer) == "200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn when_all_places_for_waiting_are_taken_streams_are_refused_and_others_are_served() {
    let (_stack, api, id) =
        api_with_connections(20, &[("CRUNCH_API_MAX_WAITING_PER_CALLER", "100")]).await;
    let mut open = Vec::new();

    for _ in 0..16 {
        let (raw, answer) = open_stream(&api, &id).await;
        assert_eq!(status(&answer), "200", "{answer}");
        open.push(raw);
    }
    for _ in 0..10 {
        let (_raw, refused) = open_stream(&api, &id).await;
        assert_eq!(status(&refused), "503", "{refused}");
        assert!(refused.contains("retry-after: 5\r\n") && refused.contains("/overloaded"));
    }

    assert_eq!(api.post("/crunch", &json!(1)).await.status, 202);
}

#[tokio::test]
async fn probes_are_answered_when_all_connections_are_busy() {
    let (_stack, api, _id) = api_with_connections(4, &[]).await;
    // Requests whose bodies do not end are in progress.
    let slow = ["Content-Type: application/json", "Content-Length: 1000"];
    let mut busy = Vec::new();

    for _ in 0..4 {
        let mut raw = RawConnection::to(&api).await;
        raw.write_head("POST /crunch", &[&slow[..], &["Expect: 100-continue"]].concat()).await;
        raw.write("\r\n").await.unwrap();
        assert!(
            raw.read_some().await.unwrap().starts_with(b"HTTP/1.1 100 "),
            "the request is in progress"
        );
        busy.push(raw);
    }
    for probe in ["GET /livez", "GET /readyz", "HEAD /livez"] {
        let mut raw = RawConnection::to(&api).await;
        let answer = raw.request(probe, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, "close"));
        raw.read_until_closed().await;
    }
    let mut raw = RawConnection::to(&api).await;
    let answer = raw.request("GET /tasks", &[]).await;
    assert_problem(&answer, 503, "overloaded");
    assert_eq!(answer.header("connection"), "close");
    raw.read_until_closed().await;
    drop(busy);
    eventually("others are served again", async || {
        let answer = RawConnection::to(&api).await.request("GET /tasks", &[]).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn unauthenticated_bad_requests_do_not_fill_the_log() {
    let keyed = ApiWithKeys::start(&[("CRUNCH_LOG", "info")]).await;
    let bad = "POST /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer crk_x_y\r\n\r\n";
    let malformed = "NONSENSE\r\n\r\n";
    let before = keyed.api.process.log().lines().count();
    let send = |text: String| {
        let api = &keyed.api;
        async move {
            let mut raw = RawConnection::to(api).await;
            let _ = raw.write(text).await;
            raw.finish_sending().await;
            raw.read_until_closed().await
        }
    };

    for _ in 0..10 {
        let kinds = [bad.repeat(100), malformed.to_owned()];
        let all = (0..20).map(|number| send(kinds[number % 2].clone()));
        let answers = join_all(all).await.concat();
        let text = String::from_utf8_lossy(&answers);
        assert_eq!(text.matches("HTTP/1.1 401 ").count(), 1000);
        assert_eq!(text.matches("HTTP/1.1 400 ").count(), 10);
    }
    let log = keyed.api.process.log();
    let lines: Vec<_> = log.lines().skip(before).collect();

    assert!((1..20).contains(&lines.len()), "10 100 bad requests: {lines:#?}");
    assert!(log.contains("API key rejected"), "{log}");
}
