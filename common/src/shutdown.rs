//! Requests to shut down a process. They are counted, because a further request means that the sender does not want to
//! wait any longer. What each of them ends is up to the code that waits for it.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Requests to shut down, shared by all clones.
///
/// ```
/// use crunch_common::Shutdown;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let shutdown = Shutdown::default();
/// let server = tokio::spawn({
///     let shutdown = shutdown.clone();
///     async move { shutdown.requested(1).await }
/// });
/// shutdown.request();
/// server.await.unwrap();
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    requests: Arc<watch::Sender<u32>>,
}

impl Shutdown {
    /// Requests shutdown; each further call, a quicker one.
    pub fn request(&self) {
        self.requests.send_modify(|requests| *requests += 1);
    }

    /// Returns how often it was requested.
    #[must_use]
    pub fn requests(&self) -> u32 {
        *self.requests.borrow()
    }

    /// Waits until it was requested that many times.
    pub async fn requested(&self, times: u32) {
        let mut requests = self.requests.subscribe();
        // The sender lives as long as this value.
        let _ = requests.wait_for(|&requests| requests >= times).await;
    }

    /// Turns each SIGTERM and SIGINT into a request, until the returned task is aborted.
    ///
    /// # Errors
    /// If the signals cannot be received.
    pub fn request_on_signals(&self) -> io::Result<JoinHandle<()>> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = self.clone();
        Ok(tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                shutdown.request();
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn requests_are_counted_by_all_clones_and_are_not_missed_by_a_later_wait() {
        let shutdown = Shutdown::default();
        let first = shutdown.requested(1);
        shutdown.clone().request();
        assert!(first.now_or_never().is_some() && shutdown.requested(1).now_or_never().is_some());
        assert!(shutdown.requested(2).now_or_never().is_none());
        shutdown.request();
        assert!(shutdown.requested(2).now_or_never().is_some());
        assert_eq!(shutdown.requests(), 2);
    }
}
