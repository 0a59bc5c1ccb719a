//! Rejects bodies of requests that take none: the client expects the content to have an effect. If it were ignored,
//! `{"limit": 5}` in the body of a redrive would redrive everything, and a GET with a filter in its body would list all
//! jobs.
//!
//! Client libraries send `{}` or `null` where a call has no arguments: those and white space are accepted.

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::web;

use super::read;
use crate::problem::{INTERNAL, Problem, TOO_LARGE, UNEXPECTED_BODY};
use crate::state::App;

/// How many bytes of a body are read: no client library writes an empty value that is longer.
const MAX_BODY: u64 = 1024;

/// Reads the body of a request that takes none.
///
/// # Errors
/// If it has content, or cannot be read. The problem lists the query parameters of the route, `known`: the content may
/// belong there.
pub(crate) async fn require_empty(
    request: &mut ServiceRequest,
    known: &[&str],
) -> Result<(), Problem> {
    if matches!(request.parts().1, Payload::None) {
        return Ok(());
    }
    let app = request.app_data::<web::Data<App>>().cloned();
    let app = app.ok_or_else(|| Problem::new(INTERNAL, "the body cannot be read"))?;
    let body = request.extract::<web::Payload>().await;
    let body = body.map_err(|_| Problem::new(INTERNAL, "the body cannot be read"))?;
    match read(request.request(), body, &app.budgets.requests, MAX_BODY).await {
        Ok(bytes) if has_no_content(&bytes) => Ok(()),
        Err(problem) if problem.kind != TOO_LARGE => Err(problem),
        Ok(_) | Err(_) => Err(unexpected_body(known)),
    }
}

/// Whether a body is empty, or an empty value: `{}` or `null`, with any white space.
fn has_no_content(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii();
    let inside_braces = bytes.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    bytes.is_empty()
        || bytes == b"null"
        || inside_braces.is_some_and(|it| it.trim_ascii().is_empty())
}

fn unexpected_body(known: &[&str]) -> Problem {
    let remedy = match known {
        [] => "send none".to_owned(),
        known => format!("send query parameters instead; known: {}", known.join(", ")),
    };
    Problem::new(UNEXPECTED_BODY, format!("this request takes no body: {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_without_content_passes() {
        for accepted in ["", " \r\n\t", "{}", " { \n } ", "null", "null\n"] {
            assert!(has_no_content(accepted.as_bytes()), "{accepted:?}");
        }
        for rejected in
            ["{\"limit\":5}", "{", "}", "{{}}", "[]", "0", "false", "\"\"", "nul", "limit=5", "\0"]
        {
            assert!(!has_no_content(rejected.as_bytes()), "{rejected:?}");
        }
    }
}
