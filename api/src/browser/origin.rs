//! Origins of pages (RFC 6454): a scheme, a host and a port.

use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::header::HeaderValue;
use crunch_common::config::comma_separated;
use url::Url;

use super::host::{HostName, Place, host};

/// The origin of a page. Never `null`, which any page can have that hides its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: url::Host,
    port: u16,
}

impl Origin {
    /// Returns the origin of a URL.
    pub(super) fn of_url(text: &str) -> Option<Self> {
        match Url::parse(text).ok()?.origin() {
            url::Origin::Tuple(scheme, parsed, port) if ["http", "https"].contains(&&*scheme) => {
                Some(Self { scheme, host: host(&parsed.to_string())?, port })
            }
            url::Origin::Tuple(..) | url::Origin::Opaque(_) => None,
        }
    }

    /// Parses an `Origin` header; `None` if it is not a valid origin.
    pub(super) fn of_header(value: &HeaderValue) -> Option<Self> {
        Self::of_url(value.to_str().ok()?)
    }

    pub(super) fn name(&self) -> Option<HostName> {
        Some(self.host.clone().into())
    }

    /// Whether it is the origin of a host and port, with TLS or without. A missing port is the default of the scheme.
    pub(super) fn is_at(&self, place: &Place) -> bool {
        let default_port = if self.scheme == "https" { 443 } else { 80 };
        self.host == place.host && self.port == place.port.unwrap_or(default_port)
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Err("would let every website act on behalf of its visitors: list the origins");
        }
        let wrong = "is not scheme://host or scheme://host:port with http or https";
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or(wrong)?;
        if rest.bytes().any(|byte| b"/?#@\\*".contains(&byte) || byte.is_ascii_whitespace()) {
            return Err(wrong);
        }
        Self::of_url(text).ok_or(wrong)
    }
}

/// Origins whose pages may use an API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Arc<[Origin]>);

impl Origins {
    pub(super) fn contain(&self, origin: &Origin) -> bool {
        self.0.contains(origin)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let origins: Vec<Origin> = comma_separated(text).map_err(|error| {
            format!(
                "expected origins such as https://app.example.com, separated by commas: {error}"
            )
        })?;
        Ok(Self(origins.into()))
    }
}
