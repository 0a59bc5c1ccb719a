//! TLS: the certificate of the API, read again when its file changes, and the one that `health` expects.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crunch_common::pem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as RustlsError, ServerConfig, SignatureScheme,
};

use crate::reloaded::{Reloaded, Source};

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or has the wrong content.
    #[error("{variable}={}: {reason}", path.display())]
    File {
        /// The setting that names it.
        variable: &'static str,
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key do not match, or cannot be used.
    #[error("CRUNCH_API_TLS_CERT and CRUNCH_API_TLS_KEY: {0}")]
    Unusable(#[from] RustlsError),
}

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Source for TlsFiles {
    type Value = CertifiedKey;
    type Error = TlsError;
    type Stamp = [Option<SystemTime>; 2];

    fn stamp(&self) -> Self::Stamp {
        [&self.certificate, &self.key].map(|path| fs::metadata(path).ok()?.modified().ok())
    }

    fn read(&self) -> Result<CertifiedKey, TlsError> {
        let key = pem::private_key(&self.key).map_err(|reason| TlsError::File {
            variable: "CRUNCH_API_TLS_KEY",
            path: self.key.clone(),
            reason,
        })?;
        let chain = certificates(&self.certificate)?;
        Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
    }
}

/// Reads the certificates of a file, that of the server first.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(path).map_err(|reason| TlsError::File {
        variable: "CRUNCH_API_TLS_CERT",
        path: path.to_owned(),
        reason,
    })
}

/// The certificate and key that the API uses.
#[derive(Debug)]
pub(crate) struct Identity(Reloaded<TlsFiles>);

impl Identity {
    /// A new certificate is used within this time.
    pub(crate) const INTERVAL: Duration = Reloaded::<TlsFiles>::INTERVAL;

    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        Reloaded::open(files).map(Self)
    }

    /// Reads the files again if they have changed. New connections get the new certificate.
    pub(crate) fn tick(&self) {
        match self.0.tick() {
            Some(Ok(_)) => tracing::info!("certificate reloaded"),
            Some(Err(error)) => {
                tracing::error!(%error, "the new certificate cannot be used; the old one is still in use");
            }
            None => {}
        }
    }

    /// Returns the configuration for clients. HTTP/1.1 only.
    pub(crate) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config = builder
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

/// Returns the configuration for an API with exactly the certificate of that file, whatever names are in it: `health`
/// connects to an IP address, for which no certificate is issued.
pub(crate) fn client_config(certificate: &Path) -> Result<ClientConfig, TlsError> {
    let expected = certificates(certificate)?.swap_remove(0);
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Exactly { expected, provider }))
        .with_no_client_auth();
    Ok(config)
}

/// Accepts one certificate and no other; that the server has its key is checked as usual.
#[derive(Debug)]
struct Exactly {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        match *presented == self.expected {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(RustlsError::General(
                "the API uses another certificate than the configured one".to_owned(),
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
