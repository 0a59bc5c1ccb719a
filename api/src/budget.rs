//! Limits the bytes this API holds for all its clients together: limits for each body do not limit their sum.
//!
//! Counts allocated bytes, from the first byte that arrives until the last copy is dropped. Never waits: a request that
//! finds no room is rejected at once, and its bytes are free for others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::web::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::metrics::{self, Sum};
use crate::problem::{OVERLOADED, Problem};

/// A head or an answer up to this size costs no more than its connection does, and is served whatever others hold.
pub(crate) const SMALL: u64 = 16 * 1024;

/// The budgets of one API.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// Request bodies, until Redis has their content.
    pub(crate) requests: Arc<Budget>,
    /// Answers, until the client has received them. Separate from the requests, so that submissions never block reads
    /// of results, nor the reverse.
    pub(crate) answers: Arc<Budget>,
    /// Large heads, which any client may send: separate from the bodies, so that clients without a key block no
    /// submissions.
    pub(crate) heads: Arc<Budget>,
    /// Bytes that are being sent to Redis, for which they are copied twice.
    sending: Semaphore,
}

/// Bytes of heads above 16 KiB: a few hundred of the largest that are read at all, which no known client sends.
const HEADS: u64 = 32 * 1024 * 1024;
/// A submission above this size waits for its turn; below it, the copies take less than a millisecond.
const LARGE: usize = 1024 * 1024;
/// How many bytes may be copied at once: the size of the largest body, so that none waits for ever. Redis has one
/// thread, and large submissions are no faster in parallel.
const SENDING: usize = 65 * 1024 * 1024;
/// Time limit for a turn: the largest body is written to Redis in less, unless Redis is nearly full or unreachable.
const TURN: Duration = Duration::from_secs(10);

impl Budgets {
    /// Creates budgets of `bytes` for requests, and as many for answers.
    pub(crate) fn new(bytes: u64) -> Self {
        let budget = |sum, max| Arc::new(Budget { sum, max, used: AtomicU64::new(0) });
        Self {
            requests: budget(Sum::Bodies, bytes),
            answers: budget(Sum::Answers, bytes),
            heads: budget(Sum::Heads, HEADS),
            sending: Semaphore::new(SENDING),
        }
    }

    /// Waits until `bytes` may be sent to Redis; keep the permit until they were sent.
    ///
    /// # Errors
    /// If too many others wait.
    pub(crate) async fn turn(&self, bytes: usize) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        if bytes <= LARGE {
            return Ok(None);
        }
        let share = u32::try_from(bytes.min(SENDING)).unwrap_or(u32::MAX);
        match timeout(TURN, self.sending.acquire_many(share)).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            // It is never closed.
            Ok(Err(_)) | Err(_) => Err(overloaded(Sum::Bodies)),
        }
    }
}

/// A limit on the bytes in use.
#[derive(Debug)]
pub(crate) struct Budget {
    sum: Sum,
    max: u64,
    used: AtomicU64,
}

impl Budget {
    /// Returns a share of it, empty at first.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

/// The bytes that one body holds; released when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Share {
    /// Resizes the share to `bytes`. The only share may have any size: a body larger than the budget would be rejected
    /// for ever.
    ///
    /// # Errors
    /// 503 if there is no room for more; the share is unchanged.
    pub(crate) fn resize(&mut self, bytes: u64) -> Result<(), Problem> {
        let Budget { sum, max, used } = &*self.budget;
        let resized = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            let others = used.saturating_sub(self.bytes);
            let fits = bytes <= self.bytes || others == 0 || others.saturating_add(bytes) <= *max;
            fits.then_some(others.saturating_add(bytes))
        });
        resized.map_err(|_used| overloaded(*sum))?;
        self.bytes = bytes;
        Ok(())
    }

    /// Returns the bytes, counted until the last part of them is dropped.
    pub(crate) fn keep(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Counted { bytes, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Counted {
    bytes: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// 503: a total is exceeded.
pub(crate) fn overloaded(sum: Sum) -> Problem {
    metrics::refused(sum);
    let detail = match sum {
        Sum::Bodies => "this instance holds the maximum of bytes of request bodies",
        Sum::Answers => "this instance holds the maximum of bytes of answers",
        Sum::Heads => "this instance holds the maximum of bytes of request heads",
        Sum::Waiting => "the maximum number of requests is waiting",
        Sum::Connections => {
            "the maximum number of connections is busy: only /livez and /readyz are served"
        }
    };
    Problem::new(OVERLOADED, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(budget: &Budget) -> u64 {
        budget.used.load(Ordering::Relaxed)
    }

    #[test]
    fn shares_fit_together_or_are_refused() {
        let budget = Budgets::new(100).requests;
        let (mut first, mut second) = (budget.share(), budget.share());
        first.resize(60).unwrap();
        second.resize(40).unwrap();
        assert!(second.resize(41).is_err() && first.resize(61).is_err());
        first.resize(10).unwrap();
        second.resize(90).unwrap();
        drop(first);
        assert_eq!(used(&budget), 90);
        drop(second);
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn one_that_is_alone_may_have_any_size() {
        let budget = Budgets::new(100).requests;
        let (mut large, mut small) = (budget.share(), budget.share());
        large.resize(1000).unwrap();
        assert!(small.resize(1).is_err());
        large.resize(999).unwrap();
        drop(large);
        small.resize(1).unwrap();
    }

    #[test]
    fn bytes_are_counted_until_the_last_part_is_dropped() {
        let budget = Budgets::new(100).requests;
        let mut share = budget.share();
        share.resize(100).unwrap();
        let whole = share.keep(b"0123456789".to_vec());
        let part = whole.slice(3..5);
        drop(whole);
        assert_eq!(used(&budget), 100);
        drop(part);
        assert_eq!(used(&budget), 0);
    }
}
