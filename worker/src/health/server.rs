//! The health port: `GET /livez`, `GET /readyz` and, where this process counts, `GET /metrics`.
//!
//! Whoever reaches the port may ask; so it takes little: few connections, one request on each, small heads, a deadline for
//! everything, and no body is ever read. It knows nothing of Redis: what it answers is asked of whoever it serves.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crunch_common::telemetry::metrics::Metrics;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{Report, Status};

/// Some watchers and a scraper ask at once, each for a moment.
const MAX_CONNECTIONS: usize = 32;
/// Whoever asks sends the head in one piece. So few slow ones cannot keep the others waiting for long.
const HEAD_DEADLINE: Duration = Duration::from_secs(2);
/// From the first byte to the last.
const DEADLINE: Duration = Duration::from_secs(5);
/// The least that hyper takes; a watcher's head is 200 bytes.
const MAX_HEAD_BYTES: usize = 8192;
const MAX_HEADERS: usize = 64;
/// Out of descriptors: others may give theirs back.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Answers whoever asks for the process' health.
pub(crate) struct Server {
    listener: TcpListener,
    asked: Asked,
}

/// Who answers.
#[derive(Clone)]
struct Asked {
    report: Arc<dyn Fn() -> Report + Send + Sync>,
    metrics: Option<Metrics>,
}

impl Server {
    /// Takes the port and says so on standard output; nobody is answered before [`Server::run`].
    pub(crate) fn bind(
        addr: SocketAddr,
        report: impl Fn() -> Report + Send + Sync + 'static,
        metrics: Option<Metrics>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        print_address(listener.local_addr()?);
        Ok(Self { listener, asked: Asked { report: Arc::new(report), metrics } })
    }

    /// Answers for ever, or until the port cannot be used at all.
    pub(crate) async fn run(self) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(place) = room.clone().acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "the health port could not take a connection");
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            let asked = self.asked.clone();
            tokio::spawn(async move {
                // Neither those that are too slow nor those that talk nonsense are worth a word.
                let _ = tokio::time::timeout(DEADLINE, serve(stream, asked)).await;
                drop(place);
            });
        }
        Ok(())
    }
}

async fn serve(stream: TcpStream, asked: Asked) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &asked);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Every path on one screen.
fn answer(method: &Method, path: &str, asked: &Asked) -> Response<String> {
    let respond: &dyn Fn() -> Response<String> = match (path, &asked.metrics) {
        ("/livez", _) => &|| tell(&Report::new(Vec::new())),
        ("/readyz", _) => &|| tell(&(asked.report)()),
        ("/metrics", Some(metrics)) => &|| text(StatusCode::OK, FIGURES, metrics.render()),
        ("/metrics", None) => return refusal(StatusCode::NOT_FOUND, NO_FIGURES),
        _ => return refusal(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics here"),
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused = refusal(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are known here");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    respond()
}

/// Prometheus' text format.
const FIGURES: &str = "text/plain; version=0.0.4; charset=utf-8";
const NO_FIGURES: &str =
    "this process counts nothing: it only supervises, or its program records metrics elsewhere";

fn tell(report: &Report) -> Response<String> {
    let status = match report.status {
        Status::Ok => StatusCode::OK,
        Status::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    respond(status, report)
}

fn refusal(status: StatusCode, why: &str) -> Response<String> {
    respond(status, &serde_json::json!({ "error": why }))
}

fn respond(status: StatusCode, body: &impl serde::Serialize) -> Response<String> {
    let body = serde_json::to_string(body).expect("a report is plain text and numbers");
    text(status, "application/json", body)
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        .header(CACHE_CONTROL, "no-store")
        .body(body)
        .expect("names and values are constants")
}

/// Tells whoever started us where to ask; with port 0 nobody else knows.
fn print_address(addr: SocketAddr) {
    use io::Write;
    // Nobody may be reading; that is no reason not to work.
    let _ = writeln!(io::stdout(), "listening on http://{addr}");
}
