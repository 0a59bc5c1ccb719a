//! A stream to Redis that counts its bytes, in both directions, to distinguish a slow call from one that hangs.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

/// Silence is measured in this many steps: detected one step late, it still ends a call within 2 s.
const TICKS: u32 = 12;

/// How many bytes passed over the connections of one link, in both directions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flow(Arc<AtomicU64>);

impl Flow {
    fn passed(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for a call for as long as bytes pass, at most until the deadline; `None` if no bytes passed for
    /// `silence`.
    pub(crate) async fn during<T>(
        &self,
        silence: Duration,
        deadline: Instant,
        call: impl Future<Output = T>,
    ) -> Option<T> {
        let mut call = pin!(call);
        let (mut counted, mut silent_since) = (self.passed(), Instant::now());
        loop {
            let check_at = (Instant::now() + silence / TICKS).min(deadline);
            if let Ok(output) = timeout_at(check_at, &mut call).await {
                return Some(output);
            }
            let now = Instant::now();
            let total = self.passed();
            if total != counted {
                (counted, silent_since) = (total, now);
            }
            if now >= deadline || now >= silent_since + silence {
                return None;
            }
        }
    }

    /// Counts the bytes of a stream.
    pub(crate) fn count(&self, stream: Box<dyn Stream>) -> Counted {
        Counted { stream, flow: self.clone() }
    }
}

/// What a connection needs of a stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream whose bytes are counted.
pub(crate) struct Counted {
    stream: Box<dyn Stream>,
    flow: Flow,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        let arrived = buffer.filled().len() - before;
        self.flow.0.fetch_add(arrived as u64, Ordering::Relaxed);
        outcome
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(sent)) = outcome {
            self.flow.0.fetch_add(sent as u64, Ordering::Relaxed);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);
    const SILENCE: Duration = Duration::from_millis(400);
    const FAR: Duration = Duration::from_secs(60);

    async fn arrive(flow: &Flow, times: usize) {
        for _ in 0..times {
            tokio::time::sleep(STEP).await;
            flow.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_call_may_take_long_while_bytes_arrive_and_not_when_they_stop() {
        let (flow, far) = (Flow::default(), Instant::now() + FAR);
        assert_eq!(flow.during(SILENCE, far, arrive(&flow, 30)).await, Some(()));
        assert_eq!(flow.during(SILENCE, far, std::future::pending::<()>()).await, None);
        let near = Instant::now() + SILENCE;
        assert_eq!(flow.during(FAR, near, arrive(&flow, usize::MAX)).await, None);
    }
}
