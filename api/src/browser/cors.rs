//! Cross-origin resource sharing (WHATWG Fetch): pages of configured origins may send the same requests as other
//! clients, and read every answer, including problems and event streams.
//!
//! Never with credentials: a key is in `Authorization`, which no browser sets by itself. actix-cors does not fit: it
//! answers a preflight with 200, rejects in plain text, and does not process answers that are created before a handler.

use actix_web::HttpResponse;
use actix_web::dev::{RequestHead, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};

use super::{Browsers, Origin};

/// All headers of answers that pages cannot read by default.
const EXPOSED: &str = "Location, Operation-Location, Content-Location, Retry-After, ETag, Link, RateLimit, RateLimit-Policy, \
                       Idempotency-Replayed, Crunch-Existing, Preference-Applied, X-Request-Id, WWW-Authenticate, Allow, Accept";
/// All headers of requests that the API uses and pages may not send by default.
const ALLOWED: &str = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, X-Request-Id, \
                     traceparent, tracestate";
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
/// Two hours, in seconds: the longest time for which Chromium caches the answer.
const MAX_AGE: &str = "7200";
const PREFLIGHT_VARY: &str =
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

/// A page from a public address requests access to a private one (WICG Private Network Access).
const REQUEST_PRIVATE: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

impl Browsers {
    /// Answers the preflight of a page of an allowed origin. Every other OPTIONS request is served as usual, and grants
    /// nothing to pages.
    pub(super) fn preflight(&self, request: &RequestHead) -> Option<HttpResponse> {
        let is_preflight = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if request.method != Method::OPTIONS || !is_preflight {
            return None;
        }
        self.allowed_origin(request)?;
        let mut response = HttpResponse::NoContent();
        response
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
            .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE))
            .insert_header((header::VARY, PREFLIGHT_VARY));
        if request.headers().contains_key(REQUEST_PRIVATE) {
            response.insert_header((ALLOW_PRIVATE, "true"));
        }
        Some(response.finish())
    }

    /// Adds the headers by which pages of an allowed origin may read an answer, whatever its status.
    pub(crate) fn share<B>(&self, response: &mut ServiceResponse<B>) {
        if self.allowed.is_empty() {
            return;
        }
        let request = response.request();
        let (origin, method) = (self.allowed_origin(request.head()), request.method().clone());
        let headers = response.headers_mut();
        // Caches must not return the answer for one origin to another.
        if method != Method::OPTIONS || !headers.contains_key(header::VARY) {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers
                .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }

    fn allowed_origin(&self, request: &RequestHead) -> Option<HeaderValue> {
        let value = request.headers().get(header::ORIGIN)?;
        let origin = Origin::of_header(value)?;
        self.allowed.contain(&origin).then(|| value.clone())
    }
}
