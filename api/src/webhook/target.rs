//! The URL of a receiver: parsed once, and only the parsed form is used afterwards.
//!
//! The parser (WHATWG URL) normalizes every spelling of an address, decimal, octal, hexadecimal or short; so the check
//! and the connection cannot interpret it differently.

use std::fmt;
use std::str::FromStr;

use url::{Host, Position, Url};

/// The longest URL, in bytes.
const MAX_BYTES: usize = 2048;

/// Where to send webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target(Url);

/// Why a text is not a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an absolute http or https URL of at most 2048 bytes, without user and fragment")]
pub(crate) struct InvalidTarget;

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).map_err(|_| InvalidTarget)?;
        let fits = text.len() <= MAX_BYTES
            && url.as_str().len() <= MAX_BYTES
            && matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        fits.then_some(Self(url)).ok_or(InvalidTarget)
    }
}

impl Target {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    pub(crate) fn host(&self) -> Host<&str> {
        self.0.host().expect("a target has a host")
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port_or_known_default().expect("http and https have a port")
    }

    /// The value of the Host header.
    pub(crate) fn authority(&self) -> &str {
        &self.0[Position::BeforeHost..Position::AfterPort]
    }

    /// The request target of the request line.
    pub(crate) fn path_and_query(&self) -> &str {
        &self.0[Position::BeforePath..Position::AfterQuery]
    }
}

impl fmt::Display for Target {
    /// Writes host and port only: paths and queries may contain what must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_urls_are_refused() {
        let long = format!("https://example.com/{}", "a".repeat(MAX_BYTES));
        let swells = format!("https://example.com/{}", "ä".repeat(700));
        for bad in [
            "",
            "example.com",
            "/hook",
            "//example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_FLUSHALL",
            "http://",
            "http:///",
            "https://user@example.com/",
            "https://:pass@example.com/",
            "http://example.com#@127.0.0.1/",
            "https://example.com/#x",
            "http://exa mple.com/",
            "http://127.0.0.1%00.example.com/",
            "http://[fe80::1%25eth0]/",
            "http://256.256.256.256/",
            "https://example.com:99999/",
            &long,
            &swells,
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_target_is_taken_apart_as_it_is_sent() {
        let target: Target = "HTTPS://Example.COM:8443/a b?x=1&y=ä".parse().unwrap();
        assert_eq!(target.authority(), "example.com:8443");
        assert_eq!(target.path_and_query(), "/a%20b?x=1&y=%C3%A4");
        assert_eq!((target.port(), target.is_https()), (8443, true));
        assert_eq!("http://a.b".parse::<Target>().unwrap().path_and_query(), "/");
    }
}
