//! Why a command of `crunch-api` failed.

use std::net::SocketAddr;

use crunch_common::broker;

use crate::auth::FileError;
use crate::tls::TlsError;

/// Why the API did not start, or is not well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is taken, or not ours to take.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// Where it tried.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anybody could reach an API that asks nobody who they are.
    #[error(
        "{addr} can be reached by others, and there are no API keys: name them in CRUNCH_API_KEYS, or set CRUNCH_AUTH=off to say that this is meant"
    )]
    Open {
        /// Where it was to listen.
        addr: SocketAddr,
    },
    /// Callers are to show keys, and are not to.
    #[error(
        "CRUNCH_AUTH=off says that nobody must show a key, and CRUNCH_API_KEYS names a file of keys: set one of them"
    )]
    Contradiction,
    /// The API keys cannot be had.
    #[error("CRUNCH_API_KEYS: {0}")]
    Keys(#[from] FileError),
    /// There is to be TLS, and cannot be.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Webhooks cannot be signed, or their receivers not be trusted, as it is set up.
    #[error("{reason}")]
    Webhooks {
        /// What is wrong; never a secret.
        reason: String,
    },
    /// Redis cannot be used as it is set up.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// The system refused something else.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
    /// An audit has found something that is still wrong.
    #[error("the audit is not clean: {left} of {found} findings are left{advice}")]
    Unclean {
        /// How much it found.
        found: u64,
        /// How much of it is still wrong.
        left: u64,
        /// What to do about it.
        advice: &'static str,
    },
    /// The API that was asked is not ready.
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
            | Self::Webhooks { .. } => 2,
            Self::Bind { .. }
            | Self::Broker(_)
            | Self::System(_)
            | Self::Unhealthy { .. }
            | Self::Unclean { .. } => 1,
        }
    }
}
