//! Clients that keep an API waiting, on purpose or not: they are disconnected, and other clients are not affected.

use std::time::{Duration, Instant};

use crunch_tests::{Api, RawConnection, eventually, in_time};
use futures_util::future::join_all;
use serde_json::json;

use super::{api_without_workers, assert_problem};

const HALF_HEAD: &str = "POST /crunch HTTP/1.1\r\nHost: localhost\r\nContent-";
const HALF_BODY: &str = "POST /crunch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Content-Length: 100000\r\n\r\n[0";
const HALF_CHUNKS: &str = "POST /crunch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Transfer-Encoding: chunked\r\n\r\n2\r\n[0\r\n";

/// The number of slow connections.
const SLOW_CLIENTS: usize = 2000;

/// Allows as many descriptors as the system permits: each connection takes one in this process.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

async fn open(api: &Api, begin: &str) -> RawConnection {
    let mut raw = RawConnection::to(api).await;
    raw.write(begin).await.unwrap();
    raw
}

/// Sends these bytes repeatedly until the API closes the connection; returns what it sent.
async fn trickle_until_closed(mut raw: RawConnection, bytes: &str) -> String {
    let mut received = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(500), raw.read_some()).await {
            Ok(Some(read)) => received.extend(read),
            Ok(None) => return String::from_utf8_lossy(&received).into_owned(),
            // If it was closed meanwhile, the next read shows it.
            Err(_) => drop(raw.write(bytes).await),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_slow_clients_are_shed_while_others_are_served() {
    allow_many_descriptors();
    let (_stack, api) = api_without_workers().await;
    let kinds = [(HALF_HEAD, "a"), (HALF_BODY, "1"), (HALF_CHUNKS, "1\r\n1\r\n")];
    let mut slow = Vec::new();
    for number in 0..SLOW_CLIENTS {
        let (begin, bytes) = kinds[number % kinds.len()];
        slow.push((open(&api, begin).await, bytes));
    }
    let shed = slow.into_iter().map(|(raw, bytes)| trickle_until_closed(raw, bytes));
    let shed = tokio::spawn(in_time("the end of the slow connections", join_all(shed)));
    let mut durations = Vec::new();
    while !shed.is_finished() {
        let start = Instant::now();
        assert_eq!(api.post("/crunch", &json!(1)).await.status, 202);
        durations.push(start.elapsed());
    }
    for received in shed.await.unwrap() {
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 408 "), "{received}");
    }
    durations.sort();
    let at = |share: usize| durations[(durations.len() - 1) * share / 100].as_micros();
    eprintln!("{} requests meanwhile: p50 {} µs, p99 {} µs", durations.len(), at(50), at(99));
}

#[tokio::test]
async fn a_slow_body_is_refused_and_a_large_fast_one_is_not() {
    let (_stack, api) = api_without_workers().await;
    let mut raw = open(&api, HALF_BODY).await;
    let answer = raw.answer().await;
    assert_problem(&answer, 408, "request-timeout");
    assert!(answer.json()["detail"].as_str().unwrap().contains("1 KiB a second"), "{answer:?}");
    raw.read_until_closed().await;
    assert_eq!(api.post("/crunch", &json!("a".repeat(200_000))).await.status, 202);
}

#[tokio::test]
async fn a_client_answered_early_is_disconnected_even_if_it_keeps_sending() {
    let (_stack, api) = api_without_workers().await;
    // The type is refused before the body is read; the rest of it could arrive for ever.
    let early = HALF_CHUNKS.replace("application/json", "text/plain");
    let shed = trickle_until_closed(open(&api, &early).await, "1\r\n1\r\n");
    let received = in_time("the end of the connection", shed).await;
    assert!(received.starts_with("HTTP/1.1 415 "), "{received}");
}

#[tokio::test]
async fn idle_connections_are_closed_when_the_limit_is_reached() {
    let (mut stack, _api) = api_without_workers().await;
    let environment = [("CRUNCH_API_MAX_CONNECTIONS", "3"), ("CRUNCH_API_UNKNOWN_TASKS", "accept")];
    let api = stack.api_with(&environment).await;
    let mut idle = Vec::new();

    for _ in 0..3 {
        let mut raw = RawConnection::to(&api).await;
        assert_eq!(raw.request("GET /livez", &[]).await.status, 200);
        idle.push(raw);
    }
    assert_eq!(api.get("/livez").await.status, 200);
    assert_eq!(idle.remove(0).read_until_closed().await, b"");
    for mut raw in idle {
        assert_eq!(raw.request("GET /livez", &[]).await.status, 200);
    }
}

#[tokio::test]
async fn the_connections_of_one_client_are_limited() {
    let (mut stack, _api) = api_without_workers().await;
    let api = stack.api_with(&[("CRUNCH_API_MAX_CONNECTIONS_PER_CLIENT", "2")]).await;
    let mut connections = Vec::new();

    for _ in 0..3 {
        connections.push(open(&api, HALF_HEAD).await);
    }
    let received = join_all(connections.iter_mut().map(RawConnection::read_until_closed)).await;
    assert_eq!(received.iter().filter(|received| received.is_empty()).count(), 1, "{received:?}");
    drop(connections);
    eventually("there is room again", async || {
        let mut raw = RawConnection::to(&api).await;
        let written =
            raw.write("GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        (written.is_ok() && raw.read_until_closed().await.starts_with(b"HTTP/1.1 200"))
            .then_some(())
    })
    .await;
}
