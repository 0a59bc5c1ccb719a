//! Origins of pages (RFC 6454): a scheme, a host and a port.

use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::header::HeaderValue;
use crunch_common::config::comma_separated;
use url::Url;

use super::host::{HostName, Place, host};

/// Where a page came from. Never `null`, which is what any page can be that hides where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: url::Host,
    port: u16,
}

impl Origin {
    /// The origin of an address.
    pub(super) fn of_url(text: &str) -> Option<Self> {
        match Url::parse(text).ok()?.origin() {
            url::Origin::Tuple(scheme, parsed, port) if ["http", "https"].contains(&&*scheme) => {
                Some(Self { scheme, host: host(&parsed.to_string())?, port })
            }
            url::Origin::Tuple(..) | url::Origin::Opaque(_) => None,
        }
    }

    /// What an `Origin` header names; `None` if that is nothing that can be known.
    pub(super) fn of_header(value: &HeaderValue) -> Option<Self> {
        Self::of_url(value.to_str().ok()?)
    }

    pub(super) fn name(&self) -> Option<HostName> {
        Some(self.host.clone().into())
    }

    /// Whether it is the origin of what is at that place, with TLS or without. A port that is not written is that of the scheme.
    pub(super) fn is_at(&self, place: &Place) -> bool {
        let usual = if self.scheme == "https" { 443 } else { 80 };
        self.host == place.host && self.port == place.port.unwrap_or(usual)
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Err("would let every page in the world act as its visitor: list the origins");
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
