//! `crunch-api health`: asks a running API whether it is ready, for container health checks.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::config::HealthTarget;
use crate::server::StartError;

/// A ready API answers at once; one that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn check(target: &HealthTarget) -> Result<(), StartError> {
    let status =
        ask(target).map_err(|error| StartError::Unhealthy { reason: error.to_string() })?;
    if status.contains(" 200 ") {
        return Ok(());
    }
    Err(StartError::Unhealthy { reason: status })
}

/// The status line of `GET /readyz`.
fn ask(target: &HealthTarget) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target.addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.addr)?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}
