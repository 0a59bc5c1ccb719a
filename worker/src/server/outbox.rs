//! What a worker writes to a child. Written at once if the pipe has room, so that a job needs no other task to reach
//! its child; the rest waits here until the child reads.
//!
//! What waits is bounded, whatever the child writes: by the jobs that it may run, and one answer to its pings.

use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, ErrorKind, IoSlice};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::net::unix::pipe::Sender;
use tokio::sync::Notify;

/// How much is written by one call: a job is two, its line and its body.
const PARTS: usize = 8;

/// The worker's end of a child's input.
#[derive(Debug)]
pub(crate) struct Outbox {
    pipe: Sender,
    state: Mutex<State>,
    /// Notified when something waits.
    waits: Notify,
}

/// Bounded by the jobs that a child may run, each with its payload.
#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Bytes>,
    /// Written when nothing else waits. One for all pings meanwhile: a child may send any number, and never read.
    pong: Option<Bytes>,
    /// The child has closed its end: nothing needs to be written any more.
    closed: bool,
}

impl Outbox {
    pub(crate) fn new(pipe: Sender) -> Self {
        Self { pipe, state: Mutex::default(), waits: Notify::new() }
    }

    /// Writes a message, or lets it wait behind others.
    pub(crate) fn send(&self, line: Bytes, body: Option<Bytes>) {
        self.push(&mut self.state.lock(), line, body);
    }

    /// Writes the answer to a ping, or lets it wait until all else is written. If one waits already, it answers this ping
    /// too.
    pub(crate) fn send_pong(&self, line: Bytes) {
        let mut state = self.state.lock();
        match state.waiting.is_empty() {
            true => self.push(&mut state, line, None),
            false => state.pong = Some(line),
        }
    }

    fn push(&self, state: &mut State, line: Bytes, body: Option<Bytes>) {
        if state.closed {
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.push_back(line);
        state.waiting.extend(body.filter(|body| !body.is_empty()));
        if was_empty {
            self.write(state);
            if !state.waiting.is_empty() {
                self.waits.notify_one();
            }
        }
    }

    /// Returns how many lines and bodies wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + usize::from(state.pong.is_some())
    }

    /// Writes what waits, whenever the child reads; never ends. Cancel-safe.
    pub(crate) async fn write_waiting(&self) {
        loop {
            let waits = !self.state.lock().waiting.is_empty();
            if !waits {
                self.waits.notified().await;
            } else if self.pipe.writable().await.is_err() {
                pending::<()>().await;
            }
            self.write(&mut self.state.lock());
        }
    }

    /// Writes what the pipe has room for: a line and its body together, so that the child wakes up once for both.
    fn write(&self, state: &mut State) {
        while !state.waiting.is_empty() {
            let mut parts = [IoSlice::new(&[]); PARTS];
            let count = state.waiting.len().min(PARTS);
            for (part, waiting) in parts.iter_mut().zip(&state.waiting) {
                *part = IoSlice::new(waiting);
            }
            match self.pipe.try_write_vectored(&parts[..count]) {
                Ok(written) => state.written(written),
                Err(error) if is_full(&error) => return,
                Err(_) => return state.close(),
            }
        }
    }
}

impl State {
    /// Drops what was written.
    fn written(&mut self, mut bytes: usize) {
        while let Some(first) = self.waiting.front_mut() {
            if bytes < first.len() {
                return first.advance(bytes);
            }
            bytes -= first.len();
            self.waiting.pop_front();
        }
        self.waiting.extend(self.pong.take());
    }

    fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
        self.pong = None;
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
