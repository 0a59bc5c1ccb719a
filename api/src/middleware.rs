//! Wraps every request: its id, its problem document, its log line.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Version};
use actix_web::middleware::Next;
use actix_web::web::{self, Bytes};
use crunch_common::telemetry::LogLimit;
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Builder;

use crate::auth::SECRETS;
use crate::budget::{Budgets, SMALL, Share, overloaded};
use crate::connections::{self, Busy};
use crate::limits::RateLimitStatus;
use crate::links::PROBES;
use crate::metrics::{self, Sum};
use crate::problem::{BURST, INTERNAL, NOT_FOUND, Problem};
use crate::state::App;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer paths are cut in the log.
const LOGGED_PATH_BYTES: usize = 200;

/// Uses the client's request id or creates one, and answers errors with problem documents that have the path.
/// Everything logged meanwhile has the id.
pub(crate) async fn around<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let id = request_id(&request);
    let span = tracing::info_span!(
        "request",
        request.id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = start_of(open_part(request.path())),
    );
    let answer = async move {
        let (started, busy) = (Instant::now(), Busy::begin());
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let app = request.app_data::<web::Data<App>>().cloned();
        let answer = handled(request, next).await?;
        let (mut response, share) = counted(answer, app.as_deref().map(|app| &*app.budgets));
        if let Some(app) = app {
            app.browsers.share(&mut response);
        }
        write_rate_limit(&mut response);
        response.headers_mut().insert(REQUEST_ID, id);
        report(&response, started.elapsed());
        close_after_old_stream(&mut response);
        if connections::is_spare() {
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        let cut_short = chunked && !response.status().is_success();
        Ok(response.map_body(|_, body| tracked(body, share, busy, cut_short)))
    };
    answer.instrument(span).await
}

/// Returns the answer of a handler, or to a preflight or a request that a browser may not send.
async fn handled<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    if connections::is_spare() && !PROBES.contains(&request.path()) {
        return Ok(explained(request.error_response(overloaded(Sum::Connections))));
    }
    let Some(app) = request.app_data::<web::Data<App>>().cloned() else {
        return Ok(explained(next.call(request).await?));
    };
    Ok(match app.browsers.judge(request.head()) {
        Ok(None) => explained(next.call(request).await?),
        Ok(Some(answer)) => request.into_response(answer),
        Err(problem) => explained(request.error_response(problem)),
    })
}

/// Counts the bytes that the client has not read yet; 503 instead if others hold too many.
fn counted(
    response: ServiceResponse<BoxBody>,
    budgets: Option<&Budgets>,
) -> (ServiceResponse<BoxBody>, Option<Share>) {
    let size = match response.response().body().size() {
        BodySize::Sized(bytes) if bytes > SMALL => bytes,
        _ => return (response, None),
    };
    let reserved = response.request().extensions_mut().remove();
    let share = reserved.or_else(|| budgets.map(|budgets| budgets.answers.share()));
    let Some(mut share) = share else { return (response, None) };
    match share.resize(size) {
        Ok(()) => (response, Some(share)),
        Err(problem) => {
            let answer = problem.respond(open_part(response.request().path()));
            (response.into_response(answer), None)
        }
    }
}

fn write_rate_limit(response: &mut ServiceResponse<BoxBody>) {
    let status = response.request().extensions().get::<RateLimitStatus>().copied();
    if let Some(status) = status {
        status.write_to(response.headers_mut());
    }
}

/// Counts and logs an answer.
fn report(response: &ServiceResponse<BoxBody>, took: Duration) {
    metrics::answered(response, took);
    tracing::debug!(status = response.status().as_u16(), took_ms = took.as_millis(), "answered");
}

/// HTTP/1.0 has no chunks: the end of the connection is the end of a stream (RFC 9112, section 6.1).
fn close_after_old_stream(response: &mut ServiceResponse<BoxBody>) {
    let old = response.request().version() < Version::HTTP_11;
    if old && response.response().body().size() == BodySize::Stream {
        let head = response.response_mut().head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
}

/// Wraps the body of an answer; its connection has a request in flight until the body was handed over.
fn tracked(body: BoxBody, share: Option<Share>, busy: Option<Busy>, cut_short: bool) -> BoxBody {
    let Some(mut busy) = busy else { return body };
    if let BodySize::Sized(bytes) = body.size() {
        busy.sending(bytes);
    }
    if cut_short {
        busy.hurry();
    }
    BoxBody::new(TrackedBody { body, rest: Bytes::new(), _share: share, _busy: busy })
}

/// How many bytes are handed over at once: the library copies them into its buffer, and would otherwise hold a large
/// answer twice, and longer than this value exists.
const PART: usize = 32 * 1024;

struct TrackedBody {
    body: BoxBody,
    /// Bytes that were read from the body and not handed over yet.
    rest: Bytes,
    _share: Option<Share>,
    _busy: Busy,
}

impl MessageBody for TrackedBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                end => return Poll::Ready(end),
            }
        }
        let part = self.rest.len().min(PART);
        Poll::Ready(Some(Ok(self.rest.split_to(part))))
    }
}

static FAILED: LogLimit = LogLimit::new(BURST);

/// Turns the error of an answer, if it has one, into a problem document.
fn explained<B: MessageBody + 'static>(response: ServiceResponse<B>) -> ServiceResponse<BoxBody> {
    let Some(error) = response.response().error() else { return response.map_into_boxed_body() };
    let path = open_part(response.request().path());
    let answer = match error.as_error::<Problem>() {
        Some(problem) => problem.respond(path),
        None if response.status().is_server_error() => {
            if let Some(left_out) = FAILED.admit() {
                tracing::error!(%error, left_out, "request failed");
            }
            Problem::new(INTERNAL, "internal error").respond(path)
        }
        // A path that is not UTF-8 matches no route.
        None => Problem::new(NOT_FOUND, "there is no such path").respond(path),
    };
    response.into_response(answer)
}

/// Returns the client's id if it is 1 to 128 visible ASCII characters, else a new one.
fn request_id(request: &ServiceRequest) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|value| {
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let id = Builder::from_random_bytes(rand::random()).into_uuid().to_string();
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}

/// Returns a path up to where a key or a ticket begins: a client may have put one into the URL by mistake.
fn open_part(path: &str) -> &str {
    let secret = SECRETS.iter().filter_map(|prefix| path.find(prefix)).min();
    secret.map_or(path, |at| &path[..at])
}

fn start_of(path: &str) -> &str {
    let end = (0..=LOGGED_PATH_BYTES.min(path.len())).rev().find(|&at| path.is_char_boundary(at));
    &path[..end.unwrap_or(0)]
}
