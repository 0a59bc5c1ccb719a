//! The health port of workers: ready while jobs are claimed, and for at most three seconds longer.

use std::time::Duration;

use crunch_tests::{Process, RedisServer, Stack, Stage, eventually};
use reqwest::{Client, Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Three seconds are documented; a busy machine may need more.
const CHANGES_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct HealthPort {
    url: String,
    client: Client,
}

impl HealthPort {
    pub(crate) async fn of(process: &mut Process) -> Self {
        let url = process.wait_for_log("listening on ").await;
        let client = Client::builder().no_proxy().timeout(CHANGES_WITHIN).build().unwrap();
        Self { url, client }
    }

    pub(crate) async fn request(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store");
        let status = response.status();
        let body = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Returns a sample of the worker's metrics.
    pub(crate) async fn metric(&self, sample: &str) -> Option<f64> {
        let response = self.client.get(format!("{}/metrics", self.url)).send().await.unwrap();
        let text = response.text().await.unwrap();
        let value = |line: &str| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value)
    }

    /// Waits until the worker is ready, or not ready; returns the body. It must be live all the time.
    async fn wait_for(&self, status: StatusCode) -> Value {
        let start = Instant::now();
        let body = eventually(&format!("/readyz is {status}"), async || {
            assert_eq!(self.request(Method::GET, "/livez").await.0, StatusCode::OK);
            let (now, body) = self.request(Method::GET, "/readyz").await;
            (now == status).then_some(body)
        })
        .await;
        assert!(start.elapsed() < CHANGES_WITHIN, "{status} only after {:?}", start.elapsed());
        body
    }

    fn addr(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }
}

pub(crate) const ADDR: (&str, &str) = ("CRUNCH_WORKER_ADDR", "127.0.0.1:0");
pub(crate) const READY: StatusCode = StatusCode::OK;
pub(crate) const UNREADY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

#[tokio::test]
async fn the_health_command_of_a_worker_exits_with_0_only_while_it_is_ready() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut worker = stack.worker_with(&api, 1, &[ADDR]).await;
    let port = HealthPort::of(&mut worker).await;

    port.wait_for(READY).await;
    let check_health = async |at: &str| {
        let mut health = stack.command("test-worker");
        let health = health.arg("health").env("CRUNCH_WORKER_ADDR", at).output().await.unwrap();
        (health.status.code(), String::from_utf8(health.stderr).unwrap())
    };
    let all_interfaces = port.addr().replace("127.0.0.1", "0.0.0.0");
    assert_eq!(check_health(&all_interfaces).await, (Some(0), String::new()));
    let (code, error_output) = check_health("").await;
    assert!(
        code == Some(2) && error_output.contains("CRUNCH_WORKER_ADDR or --at"),
        "{error_output}"
    );
    stack.redis.freeze();
    port.wait_for(UNREADY).await;
    let (code, error_output) = check_health(port.addr()).await;
    assert!(
        code == Some(1)
            && error_output.contains("not ready: {")
            && error_output.contains("reasons"),
        "{error_output}"
    );
    stack.redis.thaw();
    worker.kill().await;

    assert_eq!(check_health(port.addr()).await.0, Some(1));
}

#[tokio::test]
async fn a_worker_is_ready_while_redis_serves_it() {
    let mut stack = Stack::on(RedisServer::durable());
    stack.redis.stop();
    let mut worker = stack.worker_process(1, &[ADDR]);
    let port = HealthPort::of(&mut worker).await;
    let body = port.wait_for(UNREADY).await;
    assert_eq!((&body["status"], &body["reasons"][0]), (&json!("unavailable"), &json!("starting")));

    stack.redis.restart();
    // The worker may have waited before its first attempt to connect again.
    let body = eventually("the worker is ready", async || {
        let (status, body) = port.request(Method::GET, "/readyz").await;
        (status == READY).then_some(body)
    })
    .await;
    assert_eq!(body["status"], "ok");
    for name in ["redis", "heartbeat", "consumer"] {
        assert!(body["last_success_ms"][name].is_u64(), "{body}");
    }
    stack.redis.kill();
    let body = port.wait_for(UNREADY).await;
    assert!(body["reasons"].to_string().contains("redis is unavailable"), "{body}");
    stack.redis.restart();
    port.wait_for(READY).await;
}

/// Its listener has never had an idle slot to wait for, and there is nothing wrong with that.
#[tokio::test]
async fn a_worker_that_starts_into_a_backlog_of_long_jobs_is_ready_while_it_is_full() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut first = stack.worker(&api, 1).await;
    assert!(first.terminate().await.success());
    let stage = Stage::open().await;
    for _ in 0..3 {
        api.submit("act", &stage.payload()).await;
    }

    let mut worker = stack.worker_process(1, &[ADDR]);
    let port = HealthPort::of(&mut worker).await;
    let _actor = stage.wait_for_handler().await;
    let body = port.wait_for(READY).await;
    assert!(body["last_success_ms"]["consumer"].is_u64(), "{body}");
}

#[tokio::test]
async fn a_redis_that_hangs_makes_even_a_busy_worker_unready() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut worker = stack.worker_with(&api, 1, &[ADDR]).await;
    let port = HealthPort::of(&mut worker).await;

    for busy in [false, true] {
        let stage = Stage::open().await;
        if busy {
            api.submit("act", &stage.payload()).await;
            let _actor = stage.wait_for_handler().await;
        }
        port.wait_for(READY).await;
        stack.redis.freeze();
        port.wait_for(UNREADY).await;
        stack.redis.thaw();
        port.wait_for(READY).await;
    }
}

#[tokio::test]
async fn a_worker_that_drains_is_not_ready_and_closes_its_port_in_the_end() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut worker = stack.worker_with(&api, 1, &[ADDR]).await;
    let port = HealthPort::of(&mut worker).await;
    let stage = Stage::open().await;

    api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    worker.signal(Signal::TERM);
    let body = port.wait_for(UNREADY).await;
    assert_eq!(body["reasons"], json!(["shutting down: no new jobs are taken"]));
    actor.returns(&json!(null)).await;

    assert_eq!(worker.exited().await.code(), Some(0));
    assert!(TcpStream::connect(port.addr()).await.is_err());
}

#[tokio::test]
async fn a_worker_whose_runtime_is_blocked_still_answers() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut worker = stack.worker_with(&api, 64, &[ADDR]).await;
    let port = HealthPort::of(&mut worker).await;

    port.wait_for(READY).await;
    // More than there are threads in the runtime, and fewer than there are slots.
    for _ in 0..32 {
        api.submit("hog", &json!({ "for_ms": 4000 })).await;
    }
    let body = port.wait_for(UNREADY).await;

    assert!(body["reasons"].to_string().contains("consumer: not answered"), "{body}");
}

#[tokio::test]
async fn the_port_answers_three_paths_to_get_and_head_and_refuses_the_rest() {
    let mut stack = Stack::start();
    let mut worker = stack.worker_process(1, &[ADDR]);
    let port = HealthPort::of(&mut worker).await;

    port.wait_for(READY).await;
    let cases = [
        (Method::GET, "/livez", READY),
        (Method::HEAD, "/livez", READY),
        (Method::HEAD, "/readyz", READY),
        (Method::GET, "/readyz?verbose", READY),
        (Method::POST, "/readyz", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "/livez", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/", StatusCode::NOT_FOUND),
        (Method::GET, "/livez/", StatusCode::NOT_FOUND),
        (Method::HEAD, "/metrics", READY),
        (Method::POST, "/metrics", StatusCode::METHOD_NOT_ALLOWED),
    ];
    for (method, path, status) in cases {
        assert_eq!(port.request(method.clone(), path).await.0, status, "{method} {path}");
    }
    let mut stream = TcpStream::connect(port.addr()).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nhost: x\r\nfiller: {}\r\n\r\n", "x".repeat(16_384));
    // It may close the connection before it has read everything.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;

    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn silent_connections_delay_others_only_briefly() {
    let mut stack = Stack::start();
    let mut worker = stack.worker_process(1, &[ADDR]);
    let port = HealthPort::of(&mut worker).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(port.addr()).await.unwrap());
        let _ = idle.last_mut().unwrap().write_all(b"GET /livez HT").await;
    }
    // They are handled in three rounds of two seconds each.
    let client = Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{}/livez", port.url)).send().await.unwrap();
    assert_eq!(answer.status(), READY);
}

#[tokio::test]
async fn a_taken_port_is_reported() {
    let mut stack = Stack::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for supervise in [&[][..], &[("CRUNCH_WORKER_SUPERVISE", "2")]] {
        let environment = [&[("CRUNCH_WORKER_ADDR", &*addr)], supervise].concat();
        let mut worker = stack.worker_process(1, &environment);
        assert_eq!(worker.exited().await.code(), Some(1));
        let log = worker.log();
        assert!(log.contains(&format!("crunch-worker: cannot listen on {addr}: ")), "{log}");
    }
}

#[tokio::test]
async fn a_supervisor_is_ready_while_all_its_workers_are() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut supervisor = stack.supervisor(&api, 2, &[ADDR]).await;
    let port = HealthPort::of(&mut supervisor).await;
    port.wait_for(READY).await;
    let signal = |pid: u32, signal| {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    };
    let hanging = Stack::wait_for_workers(&api, 2).await[0];
    signal(hanging, Signal::STOP);
    let body = port.wait_for(UNREADY).await;
    let silent = format!("(process {hanging}): silent for");
    assert!(body["reasons"][0].as_str().unwrap().contains(&silent), "{body}");
    signal(hanging, Signal::CONT);
    port.wait_for(READY).await;

    stack.redis.freeze();
    port.wait_for(UNREADY).await;
    stack.redis.thaw();
    port.wait_for(READY).await;

    let stage = Stage::open().await;
    api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    supervisor.signal(Signal::TERM);
    let body = port.wait_for(UNREADY).await;
    assert_eq!(body["reasons"][0], "shutting down: no new jobs are taken");
    actor.returns(&json!(null)).await;
    assert_eq!(supervisor.exited().await.code(), Some(0));
}
