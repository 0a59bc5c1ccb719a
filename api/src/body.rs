//! Reads request bodies within their limits: type and encoding first, then size while they stream.

pub(crate) mod unused;

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web::{self, Bytes};
use crunch_common::job::ContentType;
use futures_util::{Stream, StreamExt};
use serde_json::json;
use tokio::time::Instant;

use crate::budget::{Budget, Share};
use crate::problem::{
    BROKEN_BODY, Problem, TIMEOUT, TOO_LARGE, UNSUPPORTED_ENCODING, UNSUPPORTED_MEDIA_TYPE,
};

/// Time limit for a whole body to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Before this time no minimum rate applies: connections start slowly.
const RATE_GRACE: Duration = Duration::from_secs(5);
/// The minimum average rate after that, in bytes a second: slower than any connection in use.
const MIN_RATE: u64 = 1024;

/// Returns the content type of a body that is not encoded and of an accepted type; `None` accepts every type, while the
/// accepted ones are not known.
pub(crate) fn content_type(
    request: &HttpRequest,
    accepted: Option<&[ContentType]>,
) -> Result<ContentType, Problem> {
    if !is_plain(request) {
        let problem =
            Problem::new(UNSUPPORTED_ENCODING, "bodies are accepted only without Content-Encoding");
        return Err(problem.header(header::ACCEPT_ENCODING, "identity"));
    }
    let mut given = request.headers().get_all(header::CONTENT_TYPE);
    let only = given.next().filter(|_| given.next().is_none());
    let parsed = only.and_then(|value| value.to_str().ok()?.parse::<ContentType>().ok());
    let fits = |given: &ContentType| accepted.is_none_or(|accepted| accepted.contains(given));
    parsed.filter(fits).ok_or_else(|| {
        let Some(accepted) = accepted else {
            let detail = "exactly one Content-Type header is required";
            return Problem::new(UNSUPPORTED_MEDIA_TYPE, detail).header(header::ACCEPT, "*/*");
        };
        let list = accepted.iter().map(ContentType::as_str).collect::<Vec<_>>().join(", ");
        let detail =
            format!("the body must be {list}, declared by exactly one Content-Type header");
        Problem::new(UNSUPPORTED_MEDIA_TYPE, detail).header(header::ACCEPT, &list)
    })
}

/// Whether the body has no content encoding, or only `identity`.
fn is_plain(request: &HttpRequest) -> bool {
    let mut encodings = request.headers().get_all(header::CONTENT_ENCODING);
    encodings.all(|encoding| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// Reads a body that must be JSON, of at most `limit` bytes.
pub(crate) async fn json(
    request: &HttpRequest,
    body: web::Payload,
    budget: &Arc<Budget>,
    limit: u64,
) -> Result<Bytes, Problem> {
    content_type(request, Some(&[ContentType::json()]))?;
    read(request, body, budget, limit).await
}

/// Reads the whole body, of at most `limit` bytes, which are counted in `budget` until the last of them is dropped.
pub(crate) async fn read(
    request: &HttpRequest,
    mut body: web::Payload,
    budget: &Arc<Budget>,
    limit: u64,
) -> Result<Bytes, Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let (started, mut gathered) = (Instant::now(), Gathered::new(budget, length.unwrap_or(limit)));
    while let Some(chunk) = arriving(&mut body, started, gathered.len() as u64).await? {
        let chunk = chunk.map_err(|error| {
            tracing::debug!(%error, "incomplete request body");
            Problem::new(BROKEN_BODY, "the body is incomplete, or its chunks are malformed")
        })?;
        if (gathered.len() + chunk.len()) as u64 > limit {
            return Err(too_large(limit));
        }
        gathered.add(&chunk)?;
    }
    Ok(gathered.whole())
}

/// The part of a body that has arrived. Memory is reserved in the budget before it is allocated, and only for bytes
/// that arrive: announcing a large body costs nothing.
#[derive(Debug)]
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    share: Share,
    /// Upper limit of the length.
    max: usize,
}

/// Size of the first allocation unless more has arrived; each later one is twice as large as the one before.
const FIRST_PART: usize = 1024;

impl Gathered {
    pub(crate) fn new(budget: &Arc<Budget>, max: u64) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Self { bytes: Vec::new(), share: budget.share(), max }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// # Errors
    /// If the budget has no room.
    pub(crate) fn add(&mut self, part: &[u8]) -> Result<(), Problem> {
        let needed = self.len() + part.len();
        if needed > self.bytes.capacity() {
            let larger = (2 * self.bytes.capacity()).max(FIRST_PART);
            let capacity = larger.min(self.max).max(needed);
            self.share.resize(capacity as u64)?;
            self.bytes.reserve_exact(capacity - self.len());
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    /// Returns the bytes, counted until the last of them is dropped.
    pub(crate) fn whole(self) -> Bytes {
        self.share.keep(self.bytes)
    }
}

/// Reads the next part of a body of which `arrived` bytes have arrived; 408 if it arrives too slowly.
async fn arriving<S: Stream + Unpin>(
    body: &mut S,
    started: Instant,
    arrived: u64,
) -> Result<Option<S::Item>, Problem> {
    // Until then, the bytes that have arrived satisfy the minimum rate.
    let enough = RATE_GRACE.max(Duration::from_secs(arrived / MIN_RATE));
    let time_limit = enough.min(BODY_DEADLINE);
    let next = tokio::time::timeout_at(started + time_limit, body.next()).await;
    next.map_err(|_| match time_limit == BODY_DEADLINE {
        true => Problem::new(TIMEOUT, "the body did not arrive within 30 seconds"),
        false => Problem::new(TIMEOUT, "the body arrives more slowly than 1 KiB a second"),
    })
}

/// A body of any length that is processed while it arrives. Only the time spent waiting for it counts, not the time to
/// process its parts.
pub(crate) struct Arriving {
    body: web::Payload,
    waited: Duration,
    arrived: u64,
}

impl Arriving {
    pub(crate) fn new(body: web::Payload) -> Self {
        Self { body, waited: Duration::ZERO, arrived: 0 }
    }

    /// Reads the next part; `None` at the end.
    ///
    /// # Errors
    /// If the body is incomplete, or arrives too slowly.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let enough = RATE_GRACE.max(Duration::from_secs(self.arrived / MIN_RATE));
        let time_limit = enough.saturating_sub(self.waited).min(BODY_DEADLINE);
        let started = Instant::now();
        let next = tokio::time::timeout(time_limit, self.body.next()).await;
        self.waited += started.elapsed();
        let slow = |_| Problem::new(TIMEOUT, "the body arrives more slowly than 1 KiB a second");
        let chunk = next.map_err(slow)?.transpose().map_err(|error| {
            tracing::debug!(%error, "incomplete request body");
            Problem::new(BROKEN_BODY, "the body is incomplete")
        })?;
        self.arrived += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }
}

/// 413 with the limit.
pub(crate) fn too_large(limit: u64) -> Problem {
    Problem::new(TOO_LARGE, format!("at most {limit} bytes are accepted"))
        .with("max_bytes", json!(limit))
}
