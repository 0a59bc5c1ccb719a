//! Host names of an API.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::uri::Authority;
use crunch_common::config::comma_separated;
use url::Host;

/// The longest name in DNS.
const LONGEST: usize = 253;

/// A host and a port, as in a Host header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) port: Option<u16>,
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let authority: Authority = text.parse().map_err(|_| ())?;
        if text.contains('@') {
            return Err(());
        }
        let port = text.strip_prefix(authority.host()).ok_or(())?.trim_start_matches(':');
        let port = Some(port).filter(|port| !port.is_empty()).map(str::parse);
        Ok(Self {
            host: host(authority.host()).ok_or(())?,
            port: port.transpose().map_err(|_| ())?,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)
    }
}

impl Place {
    /// Whether it is an address or a name of this machine: an attacker cannot choose such a name for a page (DNS
    /// rebinding).
    pub(super) fn is_literal_or_loopback(&self) -> bool {
        match &self.host {
            Host::Ipv4(_) | Host::Ipv6(_) => true,
            Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        }
    }
}

/// Parses a host into the form that browsers send: in lower case, in ASCII, an address in its canonical form. A
/// trailing dot is removed.
pub(super) fn host(text: &str) -> Option<Host> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    Host::parse(text).ok()
}

/// A host name of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(Host);

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named =
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.[]:".contains(&byte));
        let host = host(text).filter(|_| named);
        host.map(Self).ok_or("is not a host name without scheme, port and path")
    }
}

impl From<Host> for HostName {
    fn from(host: Host) -> Self {
        Self(host)
    }
}

/// Host names of an API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostNames(Arc<[HostName]>);

impl HostNames {
    pub(super) fn contain(&self, place: &Place) -> bool {
        self.0.iter().any(|name| name.0 == place.host)
    }

    pub(super) fn and(self, other: Option<HostName>) -> Self {
        Self(self.0.iter().cloned().chain(other).collect())
    }
}

impl FromStr for HostNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names: Vec<HostName> = comma_separated(text).map_err(|error| {
            format!("expected host names such as api.internal, separated by commas: {error}")
        })?;
        Ok(Self(names.into()))
    }
}
