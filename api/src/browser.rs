//! What a browser may do here on behalf of a page: a browser reaches what its user reaches, so "only this machine" does not
//! mean "only this person".
//!
//! Pages of other origins may not change anything, keys or not, unless their origin is configured. An API without keys answers
//! only to names it knows: a page whose name was made to point here (DNS rebinding) would count as one of our own. Never a
//! replacement for keys: a client that is no browser can send any header.

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

/// Whether a page of one of our own origins, or none at all, sent a request (Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// No more of a header is repeated to its sender than tells which one it was.
const REPEATED_BYTES: usize = 100;

/// Whom browsers may come from, and under which names.
#[derive(Debug)]
pub(crate) struct Browsers {
    /// The names that an API without keys serves; `None`: callers show keys, which no page has by itself.
    names: Option<HostNames>,
    /// Origins whose pages may do what this API's own may, and may read the answers.
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

    /// Lets a request pass, or answers it: a preflight, or a refusal.
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
            // The origin decides; a request without one came from elsewhere.
            Some(b"same-site") => origin.is_some(),
            Some(_) => false,
        };
        if origin_fits && site_fits { Ok(None) } else { Err(foreign(request)) }
    }

    fn check_name(&self, place: Option<&Place>) -> Result<(), Problem> {
        let (Some(names), Some(place)) = (&self.names, place) else { return Ok(()) };
        if place.is_literal_or_loopback() || names.contain(place) {
            return Ok(());
        }
        let detail = format!(
            "without API keys only known names are served, and {place} is none of them: CRUNCH_API_HOSTS adds names"
        );
        Err(Problem::new(MISDIRECTED_REQUEST, detail))
    }

    /// Whether an origin is this API as the client reaches it. A proxy may have taken TLS off, so the scheme is not compared.
    fn is_own(&self, origin: &Origin, place: Option<&Place>) -> bool {
        self.own.as_ref() == Some(origin) || place.is_some_and(|place| origin.is_at(place))
    }
}

/// Where a request was sent to; `None` for HTTP/1.0 without a Host, which no browser sends. An absolute target takes precedence
/// over the header (RFC 9112, section 3.2.2). Several headers, and none in HTTP/1.1, are refused before.
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
        "{who} may not change anything here: CRUNCH_API_CORS_ORIGINS lists the origins that may, and CRUNCH_PUBLIC_URL is this API's own"
    );
    Problem::new(CROSS_SITE_REQUEST, detail)
}

#[cfg(test)]
mod tests;
