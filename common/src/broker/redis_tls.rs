//! Certificates for TLS to Redis: which authorities are trusted, and how this process identifies itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::pem;

/// Files for TLS to Redis, in PEM. Read for each connection, so that they can be replaced while the process runs.
#[derive(Debug, Clone, Default, Args)]
pub struct RedisTls {
    /// Certificates of the authorities that are trusted to issue the certificate of Redis, in PEM, instead of those that
    /// Mozilla trusts. Requires an address with rediss://, as do the next two.
    #[arg(long, env = "CRUNCH_REDIS_TLS_CA", value_name = "PATH")]
    pub redis_tls_ca: Option<PathBuf>,

    /// Certificate with which this process identifies itself to Redis, in PEM, followed by those of its issuers.
    #[arg(long, env = "CRUNCH_REDIS_TLS_CERT", value_name = "PATH", requires = "redis_tls_key")]
    pub redis_tls_cert: Option<PathBuf>,

    /// Private key of that certificate, in PEM.
    #[arg(long, env = "CRUNCH_REDIS_TLS_KEY", value_name = "PATH", requires = "redis_tls_cert")]
    pub redis_tls_key: Option<PathBuf>,
}

impl RedisTls {
    /// Whether any of the files is set.
    pub(crate) fn is_set(&self) -> bool {
        [&self.redis_tls_ca, &self.redis_tls_cert, &self.redis_tls_key]
            .iter()
            .any(|it| it.is_some())
    }

    /// Reads the files. An error says which setting is wrong. Each connection gets its own, so none resumes a session
    /// of another.
    pub(crate) fn connector(&self) -> Result<TlsConnector, String> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots()?);
        let config = match (&self.redis_tls_cert, &self.redis_tls_key) {
            (Some(certificate), Some(key)) => {
                let chain = pem::certificates(certificate)
                    .map_err(|reason| wrong("CRUNCH_REDIS_TLS_CERT", certificate, &reason))?;
                let key = pem::private_key(key)
                    .map_err(|reason| wrong("CRUNCH_REDIS_TLS_KEY", key, &reason))?;
                config.with_client_auth_cert(chain, key).map_err(|error| {
                    format!("CRUNCH_REDIS_TLS_CERT and CRUNCH_REDIS_TLS_KEY: {error}")
                })?
            }
            _ => config.with_no_client_auth(),
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let Some(path) = &self.redis_tls_ca else {
            return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
        };
        let wrong = |reason: &dyn fmt::Display| wrong("CRUNCH_REDIS_TLS_CA", path, reason);
        let mut roots = RootCertStore::empty();
        for certificate in pem::certificates(path).map_err(|reason| wrong(&reason))? {
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        Ok(roots)
    }
}

fn wrong(variable: &str, path: &Path, reason: &dyn fmt::Display) -> String {
    format!("{variable}={}: {reason}", path.display())
}
