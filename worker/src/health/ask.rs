//! `crunch-worker health`: asks the health port of a running worker whether it is ready, for container health checks.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::Error;

/// A worker's health port answers immediately; one that takes longer is not healthy.
const TIME_LIMIT: Duration = Duration::from_secs(3);
/// More than any report has, with its head.
const MAX_ANSWER: u64 = 16 * 1024;

/// # Errors
/// [`Error::Unready`] with the response if the worker is not ready, or with the reason if there is none.
pub(crate) fn ask(listens: SocketAddr) -> Result<(), Error> {
    let answer = exchange(reachable(listens));
    let answer = answer.map_err(|error| Error::Unready { reason: error.to_string() })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.lines().next().is_some_and(|status| status.contains(" 200 ")) {
        return Ok(());
    }
    Err(Error::Unready { reason: body.to_owned() })
}

/// A worker that listens on all addresses is queried on the loopback address.
fn reachable(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, listens.port())
}

fn exchange(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, TIME_LIMIT)?;
    stream.set_read_timeout(Some(TIME_LIMIT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
