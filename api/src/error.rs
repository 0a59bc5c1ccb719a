//! Why a command of `crunch-api` failed.

use std::net::SocketAddr;

use crunch_common::broker;

use crate::auth::FileError;
use crate::tls::TlsError;

/// Why the API did not start, or a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is in use, or not available.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The error of the system.
        source: std::io::Error,
    },
    /// Other machines could reach the API without authentication.
    #[error(
        "{addr} is reachable from other machines, and there are no API keys: set CRUNCH_API_KEYS, or set CRUNCH_AUTH=off to allow access without keys"
    )]
    Open {
        /// The address to listen on.
        addr: SocketAddr,
    },
    /// Authentication is switched off, and keys are configured.
    #[error(
        "CRUNCH_AUTH=off allows access without keys, and CRUNCH_API_KEYS names a file of keys: set one of them"
    )]
    Contradiction,
    /// The API keys cannot be read.
    #[error("CRUNCH_API_KEYS: {0}")]
    Keys(#[from] FileError),
    /// TLS is configured, and cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The configured secrets or certificate authorities of webhooks cannot be used.
    #[error("{reason}")]
    Webhooks {
        /// What is wrong; never a secret.
        reason: String,
    },
    /// The configured export of spans and metrics cannot be started.
    #[error(transparent)]
    Otel(#[from] crunch_otel::Error),
    /// Redis is not usable as configured.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// Another operation of the system failed.
    #[error("system error: {0}")]
    System(#[from] std::io::Error),
    /// An audit has findings that are not healed.
    #[error("the audit is not clean: {left} of {found} findings are left{advice}")]
    Unclean {
        /// How many findings there were.
        found: u64,
        /// How many of them are left.
        left: u64,
        /// What to do about it.
        advice: &'static str,
    },
    /// The API that was checked is not ready.
    #[error("not ready: {reason}")]
    Unhealthy {
        /// What it answered.
        reason: String,
    },
}

impl Error {
    /// The code to exit with: 2 for wrong configuration, 1 for everything else.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Open { .. }
            | Self::Contradiction
            | Self::Keys(_)
            | Self::Tls(_)
            | Self::Otel(_)
            | Self::Webhooks { .. } => 2,
            Self::Bind { .. }
            | Self::Broker(_)
            | Self::System(_)
            | Self::Unhealthy { .. }
            | Self::Unclean { .. } => 1,
        }
    }
}
