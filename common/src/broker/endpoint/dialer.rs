//! Opens one connection: over TCP or a Unix socket, with TLS if that is requested, and logs in.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisConnectionInfo, RedisError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::AbortHandle;

use crate::broker::error::{Error, Remedy, classify};
use crate::broker::flow::{Flow, Stream};
use crate::broker::redis_tls::RedisTls;

/// Unacknowledged bytes break the connection after this time, so that a half-open one is detected before a lease
/// expires.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens connections, encrypted or not.
pub(super) struct Dialer {
    tls: Option<RedisTls>,
}

/// An open connection, closed with its last clone.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) commands: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// The task that transfers the bytes of a connection. The client library documents that it ends by itself only when
/// every command was answered, and requires the abort. The version in use ends it once every command was sent.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Dialer {
    /// # Errors
    /// [`Error::Refused`] if the files for TLS cannot be used.
    pub(super) fn new(tls: Option<RedisTls>) -> Result<Self, Error> {
        if let Some(tls) = &tls {
            tls.connector().map_err(|reason| Error::Refused { reason })?;
        }
        Ok(Self { tls })
    }

    /// Connects and logs in; counts the bytes if there is a flow.
    pub(super) async fn log_in(
        &self,
        address: &ConnectionAddr,
        flow: Option<&Flow>,
        settings: &RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<Connection, (Remedy, Error)> {
        // Every call has its own deadline, so that a blocking read may take longer than others.
        let config = config.set_response_timeout(None);
        let connect = async {
            let stream = self.secure(address, stream(address, flow).await?).await?;
            let (commands, driver) =
                MultiplexedConnection::new_with_config(settings, stream, config).await?;
            let driver = Driver(tokio::spawn(driver).abort_handle());
            Ok(Connection { commands, _driver: Arc::new(driver) })
        };
        connect.await.map_err(|error: RedisError| match tls_failure(&error) {
            Some(reason) => {
                (Remedy::Reconnect, Error::Refused { reason: format!("TLS: {reason}") })
            }
            None => classify(&Arc::new(error)),
        })
    }

    /// Encrypts the stream if TLS is requested.
    async fn secure(
        &self,
        address: &ConnectionAddr,
        stream: Box<dyn Stream>,
    ) -> io::Result<Box<dyn Stream>> {
        let Some(tls) = &self.tls else { return Ok(stream) };
        let ConnectionAddr::Tcp(host, _) = address else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let unusable = |reason| io::Error::other(rustls::Error::General(reason));
        // Read again for each connection: certificates are replaced while a process runs.
        let connector = tls.connector().map_err(unusable)?;
        let name = host.clone().try_into();
        let name = name.map_err(|_| unusable(format!("a certificate cannot be for {host}")))?;
        Ok(Box::new(Alerting(connector.connect(name, stream).await?)))
    }
}

async fn stream(address: &ConnectionAddr, flow: Option<&Flow>) -> io::Result<Box<dyn Stream>> {
    let stream: Box<dyn Stream> = match address {
        ConnectionAddr::Tcp(host, port) => Box::new(connect_tcp(host, *port).await?),
        ConnectionAddr::Unix(path) => Box::new(UnixStream::connect(path).await?),
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    Ok(match flow {
        Some(flow) => Box::new(flow.count(stream)),
        None => stream,
    })
}

/// Why TLS failed, if it did: mostly a certificate that is not trusted, by this side or the other.
fn tls_failure(error: &RedisError) -> Option<&rustls::Error> {
    let shared = error.source()?.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    cause(shared.downcast_ref::<io::Error>()?)
}

fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Connects to the first address of the host that answers.
async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = lookup_host((host, port)).await?;
    let tries: Vec<_> = addresses.map(|address| Box::pin(TcpStream::connect(address))).collect();
    if tries.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    }
    let (stream, _) = select_ok(tries).await?;
    stream.set_nodelay(true)?;
    let timeout = TCP_USER_TIMEOUT.as_millis() as u32;
    rustix::net::sockopt::set_tcp_user_timeout(&stream, timeout)?;
    Ok(stream)
}

/// A stream with TLS whose failing writes report why the other side ended it. With TLS 1.3 it judges our certificate
/// after the handshake, so a first write can fail while the alert with the reason is still unread.
struct Alerting<S>(S);

impl<S: Stream> Alerting<S> {
    fn explain<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &outcome {
            let mut byte = [0];
            let read = Pin::new(&mut self.0).poll_read(context, &mut ReadBuf::new(&mut byte));
            if let Poll::Ready(Err(reason)) = read
                && cause(&reason).is_some()
            {
                return Poll::Ready(Err(reason));
            }
        }
        outcome
    }
}

impl<S: Stream> AsyncRead for Alerting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: Stream> AsyncWrite for Alerting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.0).poll_write(context, bytes);
        self.explain(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.0).poll_flush(context);
        self.explain(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
