//! Sends POST requests to receivers: only to checked addresses, each over a connection of its own.
//!
//! It does not use the proxies of the environment, follow redirects, or store the body that a receiver sends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use tokio_util::task::AbortOnDropHandle;
use url::Host;

use crate::webhook::{ATTEMPT_TIMEOUT, Forbidden, Guard, Resolve, Target};

/// The largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How much of the body of an answer is read and discarded, so that the connection ends cleanly for the receiver.
const DISCARD_BYTES: usize = 1024;
/// For how long the body is read at most: only the status matters.
const DISCARD_FOR: Duration = Duration::from_secs(1);

/// What a receiver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The header Retry-After as received.
    pub(super) retry_after: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// No webhooks may be sent to the receiver.
    #[error("no webhooks are sent to this receiver: {0}")]
    Forbidden(#[from] Forbidden),
    /// No connection, or TLS failed.
    #[error("the receiver cannot be reached: {}", .0.kind())]
    Unreachable(io::Error),
    /// The connection broke, or the answer is not HTTP.
    #[error("no valid HTTP answer from the receiver: {0}")]
    Broken(#[from] hyper::Error),
}

/// Connects to receivers and sends requests; shared by all deliveries.
#[derive(Debug)]
pub(super) struct PostClient {
    tls: Arc<ClientConfig>,
}

impl PostClient {
    /// Creates one that trusts the certificate authorities of the web, and `others`.
    pub(super) fn trusting(others: &[CertificateDer<'static>]) -> Self {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        // They were checked when the configuration was read.
        roots.add_parsable_certificates(others.iter().cloned());
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the ciphers of TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: Arc::new(config) }
    }

    /// Sends a request. The caller limits the time.
    pub(super) async fn send<R: Resolve>(
        &self,
        guard: &Guard<R>,
        target: &Target,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Unanswered> {
        let addresses = guard.addresses(target).await?;
        let stream = connect(&addresses).await.map_err(Unanswered::Unreachable)?;
        if target.is_https() {
            let name = server_name(target).map_err(Unanswered::Unreachable)?;
            let tls = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
            send_over(tls.map_err(Unanswered::Unreachable)?, request).await
        } else {
            send_over(stream, request).await
        }
    }
}

/// Connects to the first address that answers.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last_error = io::Error::from(io::ErrorKind::NotFound);
    // An address that never answers must leave time for the others, and for the request.
    let time_limit =
        ATTEMPT_TIMEOUT / (2 * u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX));
    for address in addresses {
        match timeout(time_limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last_error = error,
            Err(_) => last_error = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last_error)
}

/// The name that the certificate must have. No certificate contains the dot with which a name in a URL may end.
fn server_name(target: &Target) -> io::Result<ServerName<'static>> {
    match target.host() {
        Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|_| io::ErrorKind::InvalidInput.into()),
        Host::Ipv4(address) => Ok(ServerName::from(std::net::IpAddr::V4(address))),
        Host::Ipv6(address) => Ok(ServerName::from(std::net::IpAddr::V6(address))),
    }
}

async fn send_over<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    // Ends with this function, even if the receiver still sends.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut response = sender.send_request(request).await?;
    let retry_after = response.headers().get(hyper::header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let answer = Answer { status: response.status().as_u16(), retry_after };
    let _ = timeout(DISCARD_FOR, discard(&mut response)).await;
    Ok(answer)
}

async fn discard(response: &mut Response<Incoming>) {
    let mut read = 0;
    while let Some(Ok(frame)) = response.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read >= DISCARD_BYTES {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
