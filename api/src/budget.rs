//! How many bytes this API holds for its clients, all together: limits of each body say nothing of their sum.
//!
//! What is held is counted by what is allocated, from the first byte that arrives until the last copy is dropped. Never
//! waits: whoever finds no room is refused at once, and what it held is free for others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::web::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::metrics::{self, Sum};
use crate::problem::{OVERLOADED, Problem};

/// A head or an answer of this size costs no more than its connection does, and is served whatever others hold.
pub(crate) const SMALL: u64 = 16 * 1024;

/// The budgets of one API.
#[derive(Debug)]
pub(crate) struct Budgets {
    /// Bodies of requests, until Redis has what is in them.
    pub(crate) requests: Arc<Budget>,
    /// Answers, until the client has taken them. Apart from the requests, so that submissions never keep results from
    /// being read, nor the other way round.
    pub(crate) answers: Arc<Budget>,
    /// Large heads, which anybody may send: apart from the bodies, so that strangers keep no submission out.
    pub(crate) heads: Arc<Budget>,
    /// Bytes that are on their way into Redis, where they are copied twice.
    sending: Semaphore,
}

/// Bytes of heads above 16 KiB: some hundred of the largest that are read at all, which no known client sends.
const HEADS: u64 = 32 * 1024 * 1024;
/// A submission above this size takes its turn: its copies take less than a millisecond below.
const LARGE: usize = 1024 * 1024;
/// How many bytes may be copied at once: the largest body there is, so that none waits for ever. Redis has one thread,
/// and large submissions are no faster side by side.
const SENDING: usize = 65 * 1024 * 1024;
/// The largest body is written to Redis in less time, unless Redis is nearly full or away.
const TURN: Duration = Duration::from_secs(10);

impl Budgets {
    /// For so many bytes of requests, and as many of answers.
    pub(crate) fn new(bytes: u64) -> Self {
        let budget = |sum, most| Arc::new(Budget { sum, most, held: AtomicU64::new(0) });
        Self {
            requests: budget(Sum::Bodies, bytes),
            answers: budget(Sum::Answers, bytes),
            heads: budget(Sum::Heads, HEADS),
            sending: Semaphore::new(SENDING),
        }
    }

    /// Waits until so many bytes may be sent to Redis; hold what is returned until they were.
    ///
    /// # Errors
    /// If too many others were before.
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

/// A number of bytes that may be held.
#[derive(Debug)]
pub(crate) struct Budget {
    sum: Sum,
    most: u64,
    held: AtomicU64,
}

impl Budget {
    /// A share in it, of nothing at first.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

/// What one body holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Share {
    /// Makes it so many bytes in all. One that is alone may have any size: a body larger than the budget would be
    /// refused for ever.
    ///
    /// # Errors
    /// 503 if there is no room for more; the share stays as it was.
    pub(crate) fn resize(&mut self, bytes: u64) -> Result<(), Problem> {
        let Budget { sum, most, held } = &*self.budget;
        let resized = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            let others = held.saturating_sub(self.bytes);
            let fits = bytes <= self.bytes || others == 0 || others.saturating_add(bytes) <= *most;
            fits.then_some(others.saturating_add(bytes))
        });
        resized.map_err(|_held| overloaded(*sum))?;
        self.bytes = bytes;
        Ok(())
    }

    /// The bytes, which are counted until the last part of them is dropped.
    pub(crate) fn keep(self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Counted { bytes, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
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

/// 503: there is too much of something.
pub(crate) fn overloaded(sum: Sum) -> Problem {
    metrics::refused(sum);
    let detail = match sum {
        Sum::Bodies => "this instance holds as many bytes of bodies as it may",
        Sum::Answers => "this instance holds as many bytes of answers as it may",
        Sum::Heads => "this instance holds as many bytes of heads as it may",
        Sum::Waiting => "as many requests wait as may",
        Sum::Connections => {
            "as many connections are at work as may be: only /livez and /readyz are served"
        }
    };
    Problem::new(OVERLOADED, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(budget: &Budget) -> u64 {
        budget.held.load(Ordering::Relaxed)
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
        assert_eq!(held(&budget), 90);
        drop(second);
        assert_eq!(held(&budget), 0);
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
        assert_eq!(held(&budget), 100);
        drop(part);
        assert_eq!(held(&budget), 0);
    }
}
