//! Reading a request's body within its limits: type and encoding first, then size while it streams.

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

/// A whole body must have arrived by then.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// Until then a body may be as slow as it likes: connections have to get going.
const RATE_GRACE: Duration = Duration::from_secs(5);
/// From then on it must have come at this rate, in bytes a second: slower than any line that anybody uses.
const LEAST_RATE: u64 = 1024;

/// What the body is, if it is not encoded and one of the accepted types; any type will do while nobody knows which.
pub(crate) fn content_type(
    request: &HttpRequest,
    accepted: Option<&[ContentType]>,
) -> Result<ContentType, Problem> {
    if !is_plain(request) {
        let problem =
            Problem::new(UNSUPPORTED_ENCODING, "bodies are taken without Content-Encoding");
        return Err(problem.header(header::ACCEPT_ENCODING, "identity"));
    }
    let mut given = request.headers().get_all(header::CONTENT_TYPE);
    let only = given.next().filter(|_| given.next().is_none());
    let parsed = only.and_then(|value| value.to_str().ok()?.parse::<ContentType>().ok());
    let fits = |given: &ContentType| accepted.is_none_or(|accepted| accepted.contains(given));
    parsed.filter(fits).ok_or_else(|| {
        let Some(accepted) = accepted else {
            let detail = "one Content-Type must say what the body is";
            return Problem::new(UNSUPPORTED_MEDIA_TYPE, detail).header(header::ACCEPT, "*/*");
        };
        let list = accepted.iter().map(ContentType::as_str).collect::<Vec<_>>().join(", ");
        let detail = format!("the body must be {list}, and one Content-Type must say so");
        Problem::new(UNSUPPORTED_MEDIA_TYPE, detail).header(header::ACCEPT, &list)
    })
}

/// Whether no encoding was applied, or only the one that changes nothing.
fn is_plain(request: &HttpRequest) -> bool {
    let mut encodings = request.headers().get_all(header::CONTENT_ENCODING);
    encodings.all(|encoding| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
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
    let (begun, mut gathered) = (Instant::now(), Gathered::new(budget, length.unwrap_or(limit)));
    while let Some(chunk) = arriving(&mut body, begun, gathered.len() as u64).await? {
        let chunk = chunk.map_err(|error| {
            tracing::debug!(%error, "a body broke off");
            Problem::new(BROKEN_BODY, "the body is not whole, or its chunks are not well formed")
        })?;
        if (gathered.len() + chunk.len()) as u64 > limit {
            return Err(too_large(limit));
        }
        gathered.add(&chunk)?;
    }
    Ok(gathered.whole())
}

/// A body as far as it has arrived. What it takes is asked of the budget before it is allocated, and only for what arrives:
/// to announce a large body costs nothing.
#[derive(Debug)]
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    share: Share,
    /// No more will come.
    most: usize,
}

/// The first allocation unless more has come; later ones are twice as large as the one before.
const FIRST_PART: usize = 1024;

impl Gathered {
    pub(crate) fn new(budget: &Arc<Budget>, most: u64) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { bytes: Vec::new(), share: budget.share(), most }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// # Errors
    /// If there is no room for more.
    pub(crate) fn add(&mut self, part: &[u8]) -> Result<(), Problem> {
        let needed = self.len() + part.len();
        if needed > self.bytes.capacity() {
            let larger = (2 * self.bytes.capacity()).max(FIRST_PART);
            let capacity = larger.min(self.most).max(needed);
            self.share.resize(capacity as u64)?;
            self.bytes.reserve_exact(capacity - self.len());
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    /// The bytes, counted until the last of them is dropped.
    pub(crate) fn whole(self) -> Bytes {
        self.share.keep(self.bytes)
    }
}

/// The next part of a body of which so much has come; 408 if it comes too slowly.
async fn arriving<S: Stream + Unpin>(
    body: &mut S,
    begun: Instant,
    arrived: u64,
) -> Result<Option<S::Item>, Problem> {
    // What has come is enough until then.
    let enough = RATE_GRACE.max(Duration::from_secs(arrived / LEAST_RATE));
    let time_limit = enough.min(BODY_DEADLINE);
    let next = tokio::time::timeout_at(begun + time_limit, body.next()).await;
    next.map_err(|_| match time_limit == BODY_DEADLINE {
        true => Problem::new(TIMEOUT, "the body did not arrive within 30 seconds"),
        false => Problem::new(TIMEOUT, "the body arrives more slowly than 1 KiB a second"),
    })
}

/// A body that may be of any length and is taken while it comes. Only the time it is waited for counts, not the time its
/// parts take to be used.
pub(crate) struct Arriving {
    body: web::Payload,
    waited: Duration,
    arrived: u64,
}

impl Arriving {
    pub(crate) fn new(body: web::Payload) -> Self {
        Self { body, waited: Duration::ZERO, arrived: 0 }
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// If it broke off, or comes too slowly.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let enough = RATE_GRACE.max(Duration::from_secs(self.arrived / LEAST_RATE));
        let time_limit = enough.saturating_sub(self.waited).min(BODY_DEADLINE);
        let begun = Instant::now();
        let next = tokio::time::timeout(time_limit, self.body.next()).await;
        self.waited += begun.elapsed();
        let slow = |_| Problem::new(TIMEOUT, "the body arrives more slowly than 1 KiB a second");
        let chunk = next.map_err(slow)?.transpose().map_err(|error| {
            tracing::debug!(%error, "a body broke off");
            Problem::new(BROKEN_BODY, "the body broke off")
        })?;
        self.arrived += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }
}

/// 413, telling the limit.
pub(crate) fn too_large(limit: u64) -> Problem {
    Problem::new(TOO_LARGE, format!("at most {limit} bytes are taken"))
        .with("max_bytes", json!(limit))
}
