//! SIGTERM: not ready at once, serving for a while, then an exit that open connections do not prevent.

use std::time::Duration;

use crunch_tests::{Api, RawConnection, Stack};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use super::assert_problem;

/// Longer than any test waits: a drain that ends earlier was ended by a signal.
const LONG_DRAIN_MS: &str = "600000";
/// The last requests have five seconds to finish; an exit within this time did not wait for them.
const WITHOUT_GRACE: Duration = Duration::from_secs(4);
/// The maximum time of an exit that waits for nothing, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);

async fn api_with_drain(drain_ms: &str) -> (Stack, Api) {
    let mut stack = Stack::start();
    let settings = [("CRUNCH_API_DRAIN_MS", drain_ms), ("CRUNCH_API_UNKNOWN_TASKS", "accept")];
    let api = stack.api_with(&settings).await;
    (stack, api)
}

/// Sends the head of a request whose body does not follow; the API has begun to handle it.
async fn start_request(api: &Api) -> RawConnection {
    let mut connection = RawConnection::to(api).await;
    let headers = ["Content-Type: application/json", "Content-Length: 2", "Expect: 100-continue"];
    assert_eq!(connection.request("POST /crunch", &headers).await.status.as_u16(), 100);
    connection
}

#[tokio::test]
async fn a_draining_api_is_not_ready_but_serves() {
    let (_stack, mut api) = api_with_drain(LONG_DRAIN_MS).await;

    assert_eq!(api.get("/readyz").await.status.as_u16(), 200);
    api.process.signal(Signal::TERM);
    api.process.wait_for_log("shutting down").await;
    assert_problem(&api.get("/readyz").await, 503, "unavailable");
    for _ in 0..10 {
        assert_eq!(api.post("/crunch", &json!({})).await.status.as_u16(), 202);
    }
    // A new connection is served as well.
    assert_eq!(RawConnection::to(&api).await.request("GET /livez", &[]).await.status.as_u16(), 200);
    assert!(!api.process.has_exited());
    let start = Instant::now();

    assert!(api.process.terminate().await.success());
    assert!(start.elapsed() < AT_ONCE, "a second signal ends the drain");
}

#[tokio::test]
async fn an_idle_connection_does_not_delay_the_exit() {
    let (_stack, mut api) = api_with_drain("0").await;
    let mut used = RawConnection::to(&api).await;
    assert_eq!(used.request("GET /livez", &[]).await.status.as_u16(), 200);
    let mut unused = RawConnection::to(&api).await;
    // It is accepted: the API answers on a connection that was opened later.
    assert_eq!(RawConnection::to(&api).await.request("GET /livez", &[]).await.status.as_u16(), 200);
    let start = Instant::now();
    assert!(api.process.terminate().await.success());
    assert!(start.elapsed() < WITHOUT_GRACE, "{:?}", start.elapsed());
    assert!(
        used.read_until_closed().await.is_empty() && unused.read_until_closed().await.is_empty()
    );
}

#[tokio::test]
async fn a_running_request_is_answered_before_the_exit() {
    let (_stack, mut api) = api_with_drain("0").await;
    let mut slow = start_request(&api).await;
    api.process.signal(Signal::TERM);
    api.process.wait_for_log("shutting down").await;
    slow.write("{}").await.unwrap();
    assert_eq!(slow.answer().await.status.as_u16(), 202);
    assert!(api.process.exited().await.success());
}

#[tokio::test]
async fn a_second_signal_while_closing_aborts_running_requests() {
    let (_stack, mut api) = api_with_drain("0").await;
    let mut stuck = start_request(&api).await;
    api.process.signal(Signal::TERM);
    api.process.wait_for_log("closing").await;
    let start = Instant::now();
    assert!(api.process.terminate().await.success());
    assert!(start.elapsed() < WITHOUT_GRACE, "{:?}", start.elapsed());
    assert!(api.process.log().contains("aborting requests"), "{}", api.process.log());
    assert!(stuck.read_until_closed().await.is_empty());
}

#[tokio::test]
async fn the_first_log_line_names_addresses_and_no_secrets() {
    let mut stack = Stack::on_one_node();
    let mut connection = stack.redis.client().get_connection().unwrap();

    redis::cmd("CONFIG")
        .arg("SET")
        .arg("requirepass")
        .arg("pa-ssw0rd")
        .exec(&mut connection)
        .unwrap();
    let url = stack.redis.url_with(":pa-ssw0rd@");
    let settings = [
        ("CRUNCH_REDIS_URL", url.as_str()),
        ("CRUNCH_LOG", "info"),
        ("CRUNCH_PUBLIC_URL", "https://crunch.example.com"),
    ];
    let mut api = stack.api_with(&settings).await;
    let line = api.process.wait_for_log("serving ").await;
    for expected in
        [api.address(), "https://crunch.example.com", &format!("127.0.0.1:{}", stack.redis.port())]
    {
        assert!(line.contains(expected), "{line}");
    }
    assert_eq!(api.get("/livez").await.status.as_u16(), 200);
    api.process.terminate().await;
    let log = api.process.log();

    assert!(!log.contains("pa-ssw0rd") && !log.contains("actix"), "{log}");
}
