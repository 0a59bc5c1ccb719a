//! `crunch-api health`: checks whether a running API is ready, for container health checks.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Stream};

use crate::config::{HealthTarget, SecurityConfig};
use crate::error::Error;
use crate::tls;

/// A ready API answers at once; one that takes longer is not ready.
const TIME_LIMIT: Duration = Duration::from_secs(3);

pub(crate) fn check(target: &HealthTarget, security: &SecurityConfig) -> Result<(), Error> {
    let tls = security.tls_cert.as_deref().map(tls::client_config).transpose()?;
    let status = request_status(target, tls)
        .map_err(|error| Error::Unhealthy { reason: error.to_string() })?;
    if status.contains(" 200 ") {
        return Ok(());
    }
    Err(Error::Unhealthy { reason: status })
}

/// Returns the status line of `GET /readyz`.
fn request_status(target: &HealthTarget, tls: Option<ClientConfig>) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target.addr, TIME_LIMIT)?;
    stream.set_read_timeout(Some(TIME_LIMIT))?;
    let Some(tls) = tls else { return exchange(&mut stream, target.addr) };
    let name = ServerName::IpAddress(target.addr.ip().into());
    let mut session = ClientConnection::new(Arc::new(tls), name).map_err(io::Error::other)?;
    exchange(&mut Stream::new(&mut session, &mut stream), target.addr)
}

fn exchange(stream: &mut (impl Read + Write), addr: SocketAddr) -> io::Result<String> {
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    // The status line is at the start; how a TLS session ends after it does not matter.
    let mut answer = [0; 64];
    let mut length = 0;
    while length < answer.len() {
        match stream.read(&mut answer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    let answer = String::from_utf8_lossy(&answer[..length]);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
