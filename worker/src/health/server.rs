//! The health port: `GET /livez`, `GET /readyz` and, if this process has metrics, `GET /metrics`.
//!
//! Every client that reaches the port may send requests; so they may cost little: few connections, one request on each,
//! small heads, a deadline for everything, and bodies are never read. It is independent of Redis: the process supplies
//! the responses.

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

/// Some monitors and a scraper send requests at once, each for a moment.
const MAX_CONNECTIONS: usize = 32;
/// Clients send the head in one piece. With this deadline a few slow ones cannot keep the others waiting for long.
const HEAD_DEADLINE: Duration = Duration::from_secs(2);
/// From the first byte to the last.
const DEADLINE: Duration = Duration::from_secs(5);
/// The minimum of hyper; a monitor's head is 200 bytes.
const MAX_HEAD_BYTES: usize = 8192;
const MAX_HEADERS: usize = 64;
/// The pause when descriptors have run out: others may be closed meanwhile.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Serves the process' health.
pub(crate) struct Server {
    listener: TcpListener,
    sources: Sources,
}

/// The sources of the responses.
#[derive(Clone)]
struct Sources {
    report: Arc<dyn Fn() -> Report + Send + Sync>,
    metrics: Option<Metrics>,
}

impl Server {
    /// Opens the port and prints its address on standard output; no request is answered before [`Server::run`].
    pub(crate) fn bind(
        addr: SocketAddr,
        report: impl Fn() -> Report + Send + Sync + 'static,
        metrics: Option<Metrics>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        print_address(listener.local_addr()?);
        Ok(Self { listener, sources: Sources { report: Arc::new(report), metrics } })
    }

    /// Serves for ever, or until the port cannot be used at all.
    pub(crate) async fn run(self) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(permit) = permits.clone().acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection on the health port");
                    tokio::time::sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            let sources = self.sources.clone();
            tokio::spawn(async move {
                // Neither clients that are too slow nor invalid requests are worth a log line.
                let _ = tokio::time::timeout(DEADLINE, serve(stream, sources)).await;
                drop(permit);
            });
        }
        Ok(())
    }
}

async fn serve(stream: TcpStream, sources: Sources) {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &sources);
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

/// Answers all paths.
fn answer(method: &Method, path: &str, sources: &Sources) -> Response<String> {
    let respond: &dyn Fn() -> Response<String> = match (path, &sources.metrics) {
        ("/livez", _) => &|| report_response(&Report::new(Vec::new())),
        ("/readyz", _) => &|| report_response(&(sources.report)()),
        ("/metrics", Some(metrics)) => &|| text(StatusCode::OK, METRICS_TYPE, metrics.render()),
        ("/metrics", None) => return error_response(StatusCode::NOT_FOUND, NO_METRICS),
        _ => {
            return error_response(
                StatusCode::NOT_FOUND,
                "not found: there are /livez, /readyz and /metrics",
            );
        }
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response =
            error_response(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed");
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    respond()
}

/// The content type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const NO_METRICS: &str =
    "this process has no metrics: it is a supervisor, or its program records them elsewhere";

fn report_response(report: &Report) -> Response<String> {
    let status = match report.status {
        Status::Ok => StatusCode::OK,
        Status::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    respond(status, report)
}

fn error_response(status: StatusCode, message: &str) -> Response<String> {
    respond(status, &serde_json::json!({ "error": message }))
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

/// Prints the address for the parent process; with port 0 no other process knows it.
fn print_address(addr: SocketAddr) {
    use io::Write;
    // Standard output may be closed; that is no reason not to work.
    let _ = writeln!(io::stdout(), "listening on http://{addr}");
}
