//! What a child prints to standard output and standard error: lines for a log, and the last ones for a message about its
//! death.

use std::future::pending;
use std::io;

use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use crate::process::{Lines, MAX_LOG_LINE_BYTES, Tail};

/// How much is read at once. A pipe has room for four times as much.
const CHUNK_BYTES: usize = 16 * 1024;
/// How much is read of each pipe before a job is answered: all that a full pipe holds.
const DRAINED_BYTES: usize = 64 * 1024;

/// A child's standard output and standard error.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Stream,
    stderr: Stream,
    /// The end of standard error.
    pub(crate) tail: Tail,
}

/// One of them.
#[derive(Debug)]
struct Stream {
    /// `None` once it has ended.
    pipe: Option<Receiver>,
    lines: Lines,
}

impl Output {
    pub(crate) fn new(stdout: Receiver, stderr: Receiver) -> Self {
        let stream = |pipe| Stream { pipe: Some(pipe), lines: Lines::of(MAX_LOG_LINE_BYTES) };
        Self { stdout: stream(stdout), stderr: stream(stderr), tail: Tail::default() }
    }

    /// Waits until there is something to read, or forever if both have ended. Cancel-safe.
    pub(crate) async fn readable(&self) {
        tokio::select! {
            () = self.stdout.readable() => {}
            () = self.stderr.readable() => {}
        }
    }

    /// Passes on the lines that can be read now; at most what a full pipe holds. Returns whether there may be more.
    pub(crate) fn read(&mut self, mut on_line: impl FnMut(&str)) -> bool {
        let more = self.stdout.read(&mut on_line);
        let tail = &mut self.tail;
        self.stderr.read(|line| {
            tail.push(line);
            on_line(line);
        }) || more
    }
}

/// Reads what is in a pipe, even if the runtime has not noticed yet that there is something: what a child printed before
/// its answer must be read before the answer counts.
fn read_now(pipe: &Receiver, chunk: &mut [u8]) -> io::Result<usize> {
    match rustix::io::read(pipe, &mut *chunk) {
        // This way the runtime learns that there is nothing.
        Err(Errno::AGAIN | Errno::INTR) => pipe.try_read(chunk),
        read => Ok(read?),
    }
}

impl Stream {
    async fn readable(&self) {
        match &self.pipe {
            Some(pipe) => _ = pipe.readable().await,
            None => pending().await,
        }
    }

    fn read(&mut self, mut on_line: impl FnMut(&str)) -> bool {
        let mut chunk = [0; CHUNK_BYTES];
        let mut left = DRAINED_BYTES;
        while let Some(pipe) = &self.pipe
            && left > 0
        {
            match read_now(pipe, &mut chunk) {
                Ok(0) => {
                    self.lines.end(&mut on_line);
                    self.pipe = None;
                }
                Ok(count) => {
                    left = left.saturating_sub(count);
                    self.lines.push(&chunk[..count], &mut on_line);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => self.pipe = None,
            }
        }
        self.pipe.is_some()
    }
}
