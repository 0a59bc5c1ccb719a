//! The bytes from and to a client, encrypted or not, as the HTTP library is to see them.
//!
//! The library reads ahead: whatever a client sends is kept, up to sixteen requests and their heads, and answers without a
//! body pile up while nobody reads them. Here a request reaches it only when the one before was answered and the answer is
//! on its way; what comes earlier stays with the system, which slows the client down. Offers of another protocol are
//! ignored (see [`framing`]).

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

/// So much is read of a request that has to wait: enough to notice that a client has hung up.
const READ_AHEAD: usize = 8 * 1024;
/// So much is handed over before the library has to use it: it would gather 128 KiB of each connection otherwise.
const AT_ONCE: usize = 32 * 1024;

/// A connection as the HTTP library is to see it.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: Box<dyn Socket>,
    framing: Framing,
    /// Bytes that were read; the first `ready` of them may be handed over.
    held: BytesMut,
    ready: usize,
    /// The client sends no more.
    ended: bool,
    /// Bytes handed over since the library last waited.
    in_a_row: usize,
    /// A request was handed over whole, and the library has not looked at it yet.
    to_be_served: bool,
    /// The client does not take what it is sent.
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
            held: BytesMut::new(),
            ready: 0,
            ended: false,
            in_a_row: 0,
            to_be_served: false,
            stuck: false,
        }
    }

    /// Finds out how much of what was read may be handed over.
    ///
    /// # Errors
    /// If a head is large and there is no room for it: the connection ends, as nobody knows yet who asks what.
    fn look(&mut self, cx: &Context<'_>) -> io::Result<()> {
        while self.ready < self.held.len() {
            if self.framing.is_between() {
                if self.must_wait(cx) {
                    return Ok(());
                }
                self.head = 0;
            }
            let more = self.framing.follow(&mut self.held[self.ready..]);
            if more == 0 {
                return Ok(());
            }
            self.ready += more;
            self.to_be_served |= self.framing.is_between();
            if self.framing.is_in_head() {
                self.head += more as u64;
                self.hold_head()?;
            }
        }
        Ok(())
    }

    fn hold_head(&mut self) -> io::Result<()> {
        let large = if self.head > SMALL { self.head } else { 0 };
        let held = self.share.resize(large);
        held.map_err(|_| io::Error::other("there is no room for a large head"))
    }

    /// Between two requests the head of the first is not held any more.
    fn let_head_go(&mut self, cx: &Context<'_>) {
        if self.head > 0 && self.framing.is_between() && !connections::is_busy(cx.waker()) {
            self.head = 0;
            // To hold less is never refused.
            let _ = self.share.resize(0);
        }
    }

    /// Whether another request must wait. Its task is woken when it may be handed over.
    fn must_wait(&self, cx: &Context<'_>) -> bool {
        self.to_be_served || self.stuck || connections::is_busy(cx.waker())
    }

    /// Hands over what may be, if there is anything.
    fn hand_over(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let some = self.ready.min(buffer.remaining());
        buffer.put_slice(&self.held.split_to(some));
        self.ready -= some;
        self.in_a_row += some;
        some > 0
    }

    /// Reads more, straight into `buffer` if nobody has to look at it; whether something is there now.
    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let plain = usize::try_from(self.framing.plain()).unwrap_or(usize::MAX);
        let most = match (plain, self.held.len()) {
            (1.., 0) => plain.min(AT_ONCE - self.in_a_row).min(buffer.remaining()),
            (_, held) => READ_AHEAD.saturating_sub(held),
        };
        if most == 0 {
            return Poll::Pending;
        }
        let mut space = [const { MaybeUninit::uninit() }; AT_ONCE];
        let mut space = ReadBuf::uninit(&mut space[..most]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        let read = space.filled();
        self.ended = read.is_empty();
        if plain == 0 || !self.held.is_empty() {
            self.held.extend_from_slice(read);
            return Poll::Ready(Ok(false));
        }
        self.framing.pass(read.len() as u64);
        self.to_be_served |= self.framing.is_between();
        self.in_a_row += read.len();
        buffer.put_slice(read);
        Poll::Ready(Ok(true))
    }

    /// Notes whether the client takes what it is sent. When it does again, its next request may come.
    fn note(&mut self, stuck: bool, cx: &Context<'_>) {
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
            this.look(cx)?;
            if this.hand_over(buffer) || (this.ended && this.held.is_empty()) {
                return Poll::Ready(Ok(()));
            }
            let waits = this.framing.is_between() && !this.held.is_empty();
            if waits && this.to_be_served {
                break;
            }
            if waits && this.ended {
                return Poll::Pending;
            }
            if this.ended {
                // The rest of a line will not come.
                this.ready = this.held.len();
            } else if let Poll::Ready(more) = this.poll_more(cx, buffer) {
                if more? {
                    return Poll::Ready(Ok(()));
                }
            } else {
                (this.in_a_row, this.to_be_served) = (0, false);
                this.let_head_go(cx);
                return Poll::Pending;
            }
        }
        // The library looks at what it has got, and comes again.
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
        this.note(written.is_pending(), cx);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.note(flushed.is_pending(), cx);
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let is_idle = self.framing.is_between() && self.held.is_empty();
        if !self.ended && !is_idle {
            let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
            connections::leave(Leftover(stream));
        }
    }
}
