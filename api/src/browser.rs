//! Restricts what a browser may do on behalf of a page: a browser reaches what its user reaches, so an API that only
//! this machine can reach is still open to pages of other sites.
//!
//! Pages of other origins may not change anything, with or without keys, unless their origin is configured. An API
//! without keys serves only known host names: a page whose name resolves to this API (DNS rebinding) would count as
//! same-origin. This does not replace keys: a client that is not a browser can send any header.

mod cors;
mod host;
mod origin;

use actix_web::http::header;
use actix_web::http::{Method, Version};
use actix_web::{HttpResponse, dev::RequestHead};

pub use host::{HostName, HostNames};
pub use origin::{Origin, Origins};

use self::host::Place;
use crate::links::{PROBES, PublicUrl};
use crate::problem::{CROSS_SITE_REQUEST, INVALID_HOST, MISDIRECTED_REQUEST, Problem};

/// The header by which a browser reports whether a page of the same site, or none at all, sent a request (Fetch
/// Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// A longer header value is not repeated to its sender.
const REPEATED_BYTES: usize = 100;

/// From which origins browsers may send requests, and to which host names.
#[derive(Debug)]
pub(crate) struct Browsers {
    /// Host names that an API without keys serves; `None`: callers send keys, which no page has by itself.
    names: Option<HostNames>,
    /// Origins whose pages have the rights of this API's own pages, and may read the answers.
    allowed: Origins,
    /// The origin of the public URL.
    own: Option<Origin>,
}

impl Browsers {
    pub(crate) fn new(public: &PublicUrl, hosts: HostNames, allowed: Origins, keys: bool) -> Self {
        let own = Origin::of_url(&public.to_string());
        let names = (!keys).then(|| hosts.and(own.as_ref().and_then(Origin::name)));
        Self { names, allowed, own }
    }

    /// Checks a request: returns `None` if it is accepted, an answer if it is a preflight, or a problem if it is
    /// rejected.
    pub(crate) fn judge(&self, request: &RequestHead) -> Result<Option<HttpResponse>, Problem> {
        let place = place_of(request)?;
        if !PROBES.contains(&request.uri.path()) {
            self.check_name(place.as_ref())?;
        }
        let origin = request.headers().get(header::ORIGIN);
        if let Some(preflight) = self.preflight(request) {
            return Ok(Some(preflight));
        }
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE];
        if safe.contains(&request.method) {
            return Ok(None);
        }
        let origin_fits = match origin.map(Origin::of_header) {
            Some(Some(origin)) if self.allowed.contain(&origin) => return Ok(None),
            Some(Some(origin)) => self.is_own(&origin, place.as_ref()),
            Some(None) => false,
            None => true,
        };
        let site = request.headers().get(SEC_FETCH_SITE).map(|site| site.as_bytes());
        let site_fits = match site {
            None | Some(b"same-origin" | b"none") => true,
            // The Origin header decides; a request without one is cross-site.
            Some(b"same-site") => origin.is_some(),
            Some(_) => false,
        };
        if origin_fits && site_fits { Ok(None) } else { Err(foreign(request)) }
    }

    /// Checks that a request was sent by one of this API's own pages: for routes that accept a cookie. A request without
    /// a header that shows it is rejected, and so is one from an allowed origin.
    ///
    /// # Errors
    /// If it was not, or may not have been.
    pub(crate) fn require_own_page(&self, request: &RequestHead) -> Result<(), Problem> {
        let (origin, site) =
            (request.headers().get(header::ORIGIN), request.headers().get(SEC_FETCH_SITE));
        let place = place_of(request)?;
        let own_origin = |origin| {
            Origin::of_header(origin).is_some_and(|origin| self.is_own(&origin, place.as_ref()))
        };
        let fits = (origin.is_some() || site.is_some())
            && origin.is_none_or(own_origin)
            && site.is_none_or(|site| site.as_bytes() == b"same-origin");
        if fits { Ok(()) } else { Err(foreign(request)) }
    }

    fn check_name(&self, place: Option<&Place>) -> Result<(), Problem> {
        let (Some(names), Some(place)) = (&self.names, place) else { return Ok(()) };
        if place.is_literal_or_loopback() || names.contain(place) {
            return Ok(());
        }
        let detail = format!(
            "without API keys only known host names are served, and {place} is not one of them: CRUNCH_API_HOSTS adds names"
        );
        Err(Problem::new(MISDIRECTED_REQUEST, detail))
    }

    /// Whether an origin is this API as the client reaches it. A proxy may have terminated TLS, so the scheme is not
    /// compared.
    fn is_own(&self, origin: &Origin, place: Option<&Place>) -> bool {
        self.own.as_ref() == Some(origin) || place.is_some_and(|place| origin.is_at(place))
    }
}

/// Returns the host a request was sent to; `None` for HTTP/1.0 without a Host, which no browser sends. An absolute
/// target takes precedence over the header (RFC 9112, section 3.2.2). Several headers, and none in HTTP/1.1, are
/// rejected earlier.
fn place_of(request: &RequestHead) -> Result<Option<Place>, Problem> {
    let header = request.headers().get(header::HOST);
    let text = match (request.uri.authority(), header) {
        (Some(authority), _) => Some(authority.as_str()),
        (None, Some(host)) => Some(host.to_str().unwrap_or_default()),
        (None, None) => None,
    };
    let Some(text) = text else { return Ok(None) };
    if text.is_empty() && request.version < Version::HTTP_11 {
        return Ok(None);
    }
    let place = text.parse().map(Some);
    place.map_err(|_| Problem::new(INVALID_HOST, "Host: expected a name or an address, and a port"))
}

fn foreign(request: &RequestHead) -> Problem {
    let origin = request.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let who = match origin.filter(|origin| origin.len() <= REPEATED_BYTES) {
        Some(origin) => format!("pages of the origin {origin}"),
        None => "pages of other sites".to_owned(),
    };
    let detail = format!(
        "{who} may not change anything: CRUNCH_API_CORS_ORIGINS lists the origins that may, CRUNCH_PUBLIC_URL has this API's own"
    );
    Problem::new(CROSS_SITE_REQUEST, detail)
}

#[cfg(test)]
mod tests;
