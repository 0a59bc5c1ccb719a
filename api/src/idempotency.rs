//! The Idempotency-Key header (IETF draft-ietf-httpapi-idempotency-key-header): repeating a request creates no second
//! job.

use actix_web::HttpRequest;
use crunch_common::broker::Idempotency;

use crate::auth::Caller;
use crate::prefer::WAIT;
use crate::problem::{INVALID_IDEMPOTENCY_KEY, Problem};

/// The header's name.
pub(crate) const HEADER: &str = "idempotency-key";

/// An idempotency key: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Parses a key.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let fits =
            (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let detail = "expected 1 to 255 visible ASCII characters, bare or in double quotes";
        fits.then(|| Self(text.to_owned()))
            .ok_or_else(|| Problem::new(INVALID_IDEMPOTENCY_KEY, detail))
    }

    /// Parses the header's value: a string in double quotes (RFC 8941) or a bare word. One with only an opening or only
    /// a closing quote is neither.
    pub(crate) fn parse_header(text: &str) -> Result<Self, Problem> {
        let text = text.trim();
        let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let half_quoted = unquoted.is_none() && (text.starts_with('"') || text.ends_with('"'));
        Self::parse(if half_quoted { "" } else { unquoted.unwrap_or(text) })
    }

    /// Reads the key of a request, if it has one.
    pub(crate) fn of(request: &HttpRequest) -> Result<Option<Self>, Problem> {
        let mut given = request.headers().get_all(HEADER);
        let Some(first) = given.next() else { return Ok(None) };
        if given.next().is_some() {
            return Err(Problem::new(INVALID_IDEMPOTENCY_KEY, "the header is given twice"));
        }
        // A key that is not ASCII is rejected like an empty one.
        Self::parse_header(first.to_str().unwrap_or_default()).map(Some)
    }

    /// Identifies one item of a batch, in the caller's idempotency scope: its position in the batch does not matter.
    pub(crate) fn for_item(&self, idempotency_scope: &str, item: &[u8]) -> Idempotency {
        Idempotency::new(
            &[idempotency_scope.as_bytes(), b"item", self.0.as_bytes()],
            &[b"item", item],
        )
    }

    /// Identifies every submission with this key: in any of these idempotency scopes, as a request to any of these paths
    /// or as an item of a batch. Only what the key is stored under is right, not what identifies the request.
    pub(crate) fn anywhere(&self, scopes: &[String], paths: &[String]) -> Vec<Idempotency> {
        let of_scope = |scope: &String| {
            let requests: Vec<_> = paths
                .iter()
                .map(|path| [scope.as_str(), "POST", path, &self.0].map(str::as_bytes))
                .map(|request| Idempotency::new(&request, &[]))
                .collect();
            requests.into_iter().chain([self.for_item(scope, b"")])
        };
        scopes.iter().flat_map(of_scope).collect()
    }

    /// Identifies a request except for its body: by caller, request and key.
    pub(crate) fn with(
        self,
        caller: &Caller,
        request: &HttpRequest,
        content_type: &str,
    ) -> RequestIdentity {
        RequestIdentity {
            idempotency_scope: caller.idempotency_scope(),
            method: request.method().as_str().to_owned(),
            path: request.path().to_owned(),
            query: without_wait(request.query_string()),
            content_type: content_type.to_owned(),
            key: self,
        }
    }
}

/// Identifies a request except for its body. It can be moved to another thread, where a large body is hashed.
#[derive(Debug)]
pub(crate) struct RequestIdentity {
    idempotency_scope: String,
    method: String,
    path: String,
    query: String,
    content_type: String,
    key: IdempotencyKey,
}

impl RequestIdentity {
    /// Identifies the request with every byte of its body.
    pub(crate) fn in_full(&self, body: &[u8]) -> Idempotency {
        let scope = [&self.idempotency_scope, &self.method, &self.path, &self.key.0];
        let request = [&self.method, &self.path, &self.query, &self.content_type];
        let [method, path, query, content_type] = request.map(String::as_bytes);
        Idempotency::new(&scope.map(String::as_bytes), &[method, path, query, content_type, body])
    }
}

/// Returns the query as written, without `wait`: a repeated request may have another time limit.
fn without_wait(query: &str) -> String {
    let is_wait = |part: &&str| part.split('=').next() == Some(WAIT);
    let parts: Vec<_> = query.split('&').filter(|part| !is_wait(part)).collect();
    parts.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_quoted_or_bare() {
        assert_eq!(
            IdempotencyKey::parse_header("\"a-1\"").unwrap(),
            IdempotencyKey::parse_header(" a-1 ").unwrap()
        );
    }

    #[test]
    fn other_text_is_no_key() {
        for bad in ["", "\"\"", "a b", "ä", "\"", "\"a", "a\"", &"a".repeat(256)] {
            assert!(IdempotencyKey::parse_header(bad).is_err(), "{bad:?}");
        }
    }
}
