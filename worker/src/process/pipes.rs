//! The pipes between a worker and a program that it launches.

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::{Receiver, Sender};

/// How many pipes a program gets. All kinds of programs have the same number, so one message has room for them.
pub(crate) const PIPES: usize = 4;

/// Creates a pipe that the worker writes to. Its end is non-blocking, the program's is blocking.
pub(super) fn to_program() -> io::Result<(Sender, OwnedFd)> {
    let (read, write) = io::pipe()?;
    Ok((Sender::from_owned_fd(write.into())?, read.into()))
}

/// Creates a pipe that the worker reads from.
pub(super) fn from_program() -> io::Result<(Receiver, OwnedFd)> {
    let (read, write) = io::pipe()?;
    Ok((Receiver::from_owned_fd(read.into())?, write.into()))
}
