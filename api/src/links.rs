//! Absolute links, from configuration or the address bound; never from a Host header, which the client controls.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crunch_common::job::JobId;

use crate::auth::Ticket;

/// Probes of load balancers and supervisors, which use host names of their own: the answer is one word, which any page
/// may read.
pub(crate) const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// Base of absolute links.
#[derive(Debug, Clone)]
pub(crate) struct PublicUrl(String);

impl PublicUrl {
    /// Uses the configured base, else the bound address; an unspecified address becomes `localhost`.
    pub(crate) fn new(configured: Option<&str>, scheme: &str, bound: SocketAddr) -> Self {
        let base = configured.map(str::to_owned).unwrap_or_else(|| match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => {
                format!("{scheme}://localhost:{}", bound.port())
            }
            IpAddr::V6(ip) if ip.is_unspecified() => {
                format!("{scheme}://localhost:{}", bound.port())
            }
            _ => format!("{scheme}://{bound}"),
        });
        Self(base)
    }

    pub(crate) fn job(&self, id: JobId) -> String {
        format!("{}{}", self.0, job(id))
    }

    /// Returns the URL at which a ticket opens a job's event stream.
    pub(crate) fn stream(&self, id: JobId, ticket: &Ticket) -> String {
        format!("{}{}/events?{}={}", self.0, job(id), Ticket::PARAMETER, ticket.reveal())
    }

    pub(crate) fn result_by_token(&self, id: JobId) -> String {
        format!("{}/result/{id}", self.0)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the path of a job's document.
pub(crate) fn job(id: JobId) -> String {
    format!("/jobs/{id}")
}
