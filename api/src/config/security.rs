//! Who may use the API, and how much of it.

use std::path::PathBuf;

use crunch_common::config::whole_number;

use crate::rate::Rate;
use crate::tls::TlsFiles;

/// Who may use the API, and how much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct SecurityConfig {
    /// File of API keys: every caller must send one of them. `crunch-api keys` writes it. Default: none.
    #[arg(long, env = "CRUNCH_API_KEYS", value_name = "PATH")]
    pub keys: Option<PathBuf>,

    /// How many requests a second one caller may send: a key, or a client's address where there are no keys. 1 to
    /// 1 000 000. A key may have its own rate. Default: unlimited.
    #[arg(long, env = "CRUNCH_API_RATE", value_name = "N")]
    pub rate: Option<Rate>,

    /// How many of them may arrive at once, 1 to 1 000 000. Default: as many as in a second.
    #[arg(long = "rate-burst", env = "CRUNCH_API_RATE_BURST", value_name = "N", requires = "rate")]
    pub rate_burst: Option<Rate>,

    /// Certificate of the server with its chain, in PEM: with it the API serves HTTPS only. Reloaded when it changes.
    /// Default: none.
    #[arg(long, env = "CRUNCH_API_TLS_CERT", value_name = "PATH", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM.
    #[arg(long, env = "CRUNCH_API_TLS_KEY", value_name = "PATH", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// How many connections may be open at once, 1 to 1 000 000. Beyond them the one that has been idle for longest is
    /// closed.
    #[arg(long, env = "CRUNCH_API_MAX_CONNECTIONS", value_name = "N", default_value = "20000",
        value_parser = whole_number::<usize>(1..=1_000_000))]
    pub max_connections: usize,

    /// How many of them one client may have: an address, or an IPv6 network of 64 bits. 1 to 1 000 000. Default:
    /// unlimited, because behind a proxy all clients have one address.
    #[arg(long, env = "CRUNCH_API_MAX_CONNECTIONS_PER_CLIENT", value_name = "N",
        value_parser = whole_number::<usize>(1..=1_000_000))]
    pub max_connections_per_client: Option<usize>,

    /// How many requests of one caller, a key or a client's address, may wait at once: delayed by `wait`, or event
    /// streams. 1 to 1 000 000. Default: half of the limit of all callers, which is four fifths of the connections.
    #[arg(long, env = "CRUNCH_API_MAX_WAITING_PER_CALLER", value_name = "N",
        value_parser = whole_number::<usize>(1..=1_000_000))]
    pub max_waiting_per_caller: Option<usize>,

    /// How many bytes of request bodies may be in memory at once, over all connections, and as many of answers: 1 MiB
    /// (1 048 576) to 1 TiB. Beyond them requests are rejected with 503.
    #[arg(long, env = "CRUNCH_API_MAX_BODY_MEMORY", value_name = "BYTES", default_value = "268435456",
        value_parser = whole_number::<u64>(1_048_576..=1_099_511_627_776))]
    pub max_body_memory: u64,
}

impl SecurityConfig {
    /// The paths of certificate and key, if TLS is configured.
    pub(crate) fn tls(&self) -> Option<TlsFiles> {
        let (certificate, key) = self.tls_cert.clone().zip(self.tls_key.clone())?;
        Some(TlsFiles { certificate, key })
    }
}
