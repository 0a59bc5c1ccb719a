//! Reading a request's body within its limits: type and encoding first, then size while it streams.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web::{self, Bytes, BytesMut};
use crunch_common::job::ContentType;
use futures_util::StreamExt;
use serde_json::json;

use crate::problem::{
    MALFORMED_JSON, Problem, TIMEOUT, TOO_LARGE, UNSUPPORTED_ENCODING, UNSUPPORTED_MEDIA_TYPE,
};

/// A whole body must have arrived by then: a client that trickles holds a connection no longer.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// What the body is, if it is one of the accepted types and not encoded.
pub(crate) fn content_type(
    request: &HttpRequest,
    accepted: &[ContentType],
) -> Result<ContentType, Problem> {
    let encoded = request.headers().get(header::CONTENT_ENCODING);
    if encoded.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let problem =
            Problem::new(UNSUPPORTED_ENCODING, "bodies are taken without Content-Encoding");
        return Err(problem.header(header::ACCEPT_ENCODING, "identity"));
    }
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let parsed = given.and_then(|value| value.parse::<ContentType>().ok());
    parsed.filter(|given| accepted.contains(given)).ok_or_else(|| {
        let list = accepted.iter().map(ContentType::as_str).collect::<Vec<_>>().join(", ");
        let detail = format!("the body must be {list}, and Content-Type must say so");
        Problem::new(UNSUPPORTED_MEDIA_TYPE, detail).header(header::ACCEPT, &list)
    })
}

/// Reads the whole body, of at most `limit` bytes.
pub(crate) async fn read(
    request: &HttpRequest,
    body: web::Payload,
    limit: u64,
) -> Result<Bytes, Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let read = tokio::time::timeout(BODY_DEADLINE, collect(body, limit)).await;
    read.unwrap_or_else(|_| Err(Problem::new(TIMEOUT, "the body did not arrive within 30 seconds")))
}

async fn collect(mut body: web::Payload, limit: u64) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::new(MALFORMED_JSON, format!("the body broke off: {error}"))
        })?;
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

/// 413, telling the limit.
pub(crate) fn too_large(limit: u64) -> Problem {
    Problem::new(TOO_LARGE, format!("at most {limit} bytes are taken"))
        .with("max_bytes", json!(limit))
}
