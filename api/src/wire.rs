//! The bytes from and to a client, encrypted or not, as the HTTP library is to receive them.
//!
//! The library reads ahead: it keeps whatever a client sends, up to sixteen requests and their heads, and answers
//! without a body pile up while the client does not read them. Here a request reaches it only when the previous one was
//! answered and the answer is being sent; earlier bytes stay in the buffers of the system, which slows the client down.
//! Offers of another protocol are ignored (see [`framing`]).

mod framing;

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::web::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::{Budget, SMALL, Share};
use crate::connections::{self, Leftover, Socket};
use framing::Framing;

/// How many bytes are read of a request that has to wait: enough to notice that a client has disconnected.
const READ_AHEAD: usize = 8 * 1024;
/// How many bytes are handed over before the library has to process them: it would collect 128 KiB of each connection
/// otherwise.
const AT_ONCE: usize = 32 * 1024;

/// A connection as the HTTP library is to use it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Box<dyn Socket>,
    framing: Framing,
    /// Bytes that were read; the first `ready` of them may be handed over.
    buffered: BytesMut,
    ready: usize,
    /// Whether the client sends no more.
    ended: bool,
    /// Bytes handed over since the library last waited.
    in_a_row: usize,
    /// Whether a complete request was handed over that the library has not read yet.
    to_be_served: bool,
    /// Whether the client does not read what it is sent.
    stuck: bool,
    /// Bytes of the head that is being read or was read last.
    head: u64,
    share: Share,
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Socket>, budget: &Arc<Budget>) -> Self {
        Self {
            stream,
            head: 0,
            share: budget.share(),
            framing: Framing::new(),
            buffered: BytesMut::new(),
            ready: 0,
            ended: false,
            in_a_row: 0,
            to_be_served: false,
            stuck: false,
        }
    }

    /// Determines how many of the buffered bytes may be handed over.
    ///
    /// # Errors
    /// If a head is large and there is no room for it: the connection ends, because caller and request are not known
    /// yet.
    fn scan(&mut self, cx: &Context<'_>) -> io::Result<()> {
        while self.ready < self.buffered.len() {
            if self.framing.is_between() {
                if self.must_wait(cx) {
                    return Ok(());
                }
                self.head = 0;
            }
            let more = self.framing.follow(&mut self.buffered[self.ready..]);
            if more == 0 {
                return Ok(());
            }
            self.ready += more;
            self.to_be_served |= self.framing.is_between();
            if self.framing.is_in_head() {
                self.head += more as u64;
                self.reserve_head()?;
            }
        }
        Ok(())
    }

    fn reserve_head(&mut self) -> io::Result<()> {
        let large = if self.head > SMALL { self.head } else { 0 };
        let resized = self.share.resize(large);
        resized.map_err(|_| io::Error::other("there is no room for a large head"))
    }

    /// Releases the head of a request that was served, before the next one.
    fn release_head(&mut self, cx: &Context<'_>) {
        if self.head > 0 && self.framing.is_between() && !connections::is_busy(cx.waker()) {
            self.head = 0;
            // Making a share smaller never fails.
            let _ = self.share.resize(0);
        }
    }

    /// Whether another request must wait. Its task is woken when it may be handed over.
    fn must_wait(&self, cx: &Context<'_>) -> bool {
        self.to_be_served || self.stuck || connections::is_busy(cx.waker())
    }

    /// Hands over the bytes that are ready; returns whether there were any.
    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let some = self.ready.min(buffer.remaining());
        buffer.put_slice(&self.buffered.split_to(some));
        self.ready -= some;
        self.in_a_row += some;
        some > 0
    }

    /// Reads more, directly into `buffer` if it needs no framing; returns whether `buffer` got bytes.
    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let plain = usize::try_from(self.framing.plain()).unwrap_or(usize::MAX);
        let max = match (plain, self.buffered.len()) {
            (1.., 0) => plain.min(AT_ONCE - self.in_a_row).min(buffer.remaining()),
            (_, buffered) => READ_AHEAD.saturating_sub(buffered),
        };
        if max == 0 {
            return Poll::Pending;
        }
        let mut space = [const { MaybeUninit::uninit() }; AT_ONCE];
        let mut space = ReadBuf::uninit(&mut space[..max]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        let read = space.filled();
        self.ended = read.is_empty();
        if plain == 0 || !self.buffered.is_empty() {
            self.buffered.extend_from_slice(read);
            return Poll::Ready(Ok(false));
        }
        self.framing.pass(read.len() as u64);
        self.to_be_served |= self.framing.is_between();
        self.in_a_row += read.len();
        buffer.put_slice(read);
        Poll::Ready(Ok(true))
    }

    /// Records whether the client reads what it is sent. When it does again, its next request may be handed over.
    fn set_stuck(&mut self, stuck: bool, cx: &Context<'_>) {
        if std::mem::replace(&mut self.stuck, stuck) && !stuck {
            cx.waker().wake_by_ref();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.in_a_row < AT_ONCE {
            this.scan(cx)?;
            if this.hand_over(buffer) || (this.ended && this.buffered.is_empty()) {
                return Poll::Ready(Ok(()));
            }
            let waits = this.framing.is_between() && !this.buffered.is_empty();
            if waits && this.to_be_served {
                break;
            }
            if waits && this.ended {
                return Poll::Pending;
            }
            if this.ended {
                // The rest of a line will not arrive.
                this.ready = this.buffered.len();
            } else if let Poll::Ready(more) = this.poll_more(cx, buffer) {
                if more? {
                    return Poll::Ready(Ok(()));
                }
            } else {
                (this.in_a_row, this.to_be_served) = (0, false);
                this.release_head(cx);
                return Poll::Pending;
            }
        }
        // The library processes what it has received, and polls again.
        (this.in_a_row, this.to_be_served) = (0, false);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.set_stuck(written.is_pending(), cx);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.set_stuck(flushed.is_pending(), cx);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let is_idle = self.framing.is_between() && self.buffered.is_empty();
        if !self.ended && !is_idle {
            let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
            connections::leave(Leftover(stream));
        }
    }
}
