//! Cross-origin resource sharing (WHATWG Fetch): pages of configured origins may send what clients send, and read every
//! answer, refusals and event streams included.
//!
//! Never with credentials: a key is in `Authorization`, where no browser puts it by itself. actix-cors does not fit: it answers a
//! preflight with 200, refuses in plain text, and does not see answers that are made before a handler.

use actix_web::HttpResponse;
use actix_web::dev::{RequestHead, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};

use super::{Browsers, Origin};

/// Every header of an answer that is not readable anyway.
const EXPOSED: &str = "Location, Operation-Location, Content-Location, Retry-After, ETag, Link, RateLimit, RateLimit-Policy, \
                       Idempotency-Replayed, Preference-Applied, X-Request-Id, WWW-Authenticate, Allow, Accept";
/// Every header of a request that means something here and is not allowed anyway.
const TAKEN: &str = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, X-Request-Id, \
                     traceparent, tracestate";
const METHODS: &str = "GET, HEAD, POST, DELETE";
/// Two hours, in seconds: Chromium keeps no answer for longer.
const MAX_AGE: &str = "7200";
const ON_PREFLIGHTS: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

/// A page of a public address asks whether it may reach a private one (WICG Private Network Access).
const REQUEST_PRIVATE: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

impl Browsers {
    /// The answer to a browser that asks whether a page of an allowed origin may send a request. Everybody else's OPTIONS is
    /// served as usual, and allows no page anything.
    pub(super) fn preflight(&self, request: &RequestHead) -> Option<HttpResponse> {
        let asks = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if request.method != Method::OPTIONS || !asks {
            return None;
        }
        self.allowed_origin(request)?;
        let mut response = HttpResponse::NoContent();
        response
            .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
            .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, TAKEN))
            .insert_header((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE))
            .insert_header((header::VARY, ON_PREFLIGHTS));
        if request.headers().contains_key(REQUEST_PRIVATE) {
            response.insert_header((ALLOW_PRIVATE, "true"));
        }
        Some(response.finish())
    }

    /// Lets pages of an allowed origin read an answer, whatever it is.
    pub(crate) fn share<B>(&self, response: &mut ServiceResponse<B>) {
        if self.allowed.is_empty() {
            return;
        }
        let request = response.request();
        let (origin, method) = (self.allowed_origin(request.head()), request.method().clone());
        let headers = response.headers_mut();
        // Caches must not give an answer for one origin to another.
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
