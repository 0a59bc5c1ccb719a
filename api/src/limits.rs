//! Limits the request rate of each caller: a token bucket for each, refilled at its rate.
//!
//! Each bucket is one number, the time at which it would be full again (the generic cell rate algorithm), so that a
//! hundred thousand callers cost a few megabytes. Each API counts on its own: what a caller may send to all of them
//! together grows with their number.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest};
use parking_lot::Mutex;

use crate::auth::{Caller, Identity};
use crate::problem::{Problem, RATE_LIMITED};
use crate::rate::Rate;

/// Beyond this many callers at once, new ones share one bucket: memory stays bounded, and the earlier ones keep theirs.
const MAX_CALLERS: usize = 100_000;
/// Buckets that are full again are removed no more often than this, in nanoseconds: it takes a pass over all of them.
const PRUNE_INTERVAL: u64 = 1_000_000_000;

/// A rate, and how many requests may arrive at once.
#[derive(Debug, Clone, Copy)]
struct Quota {
    /// Nanoseconds that one request costs.
    cost: u64,
    burst: u64,
}

impl Quota {
    fn new(rate: Rate, burst: Option<Rate>) -> Self {
        Self {
            cost: 1_000_000_000 / u64::from(rate.get()),
            burst: burst.unwrap_or(rate).get().into(),
        }
    }

    /// Takes one token from a bucket that is full again at `full_at`; on failure returns how long until it can.
    fn take(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let owed = full_at.saturating_sub(now);
        match owed.checked_sub((self.burst - 1) * self.cost) {
            Some(over) if over > 0 => Err(Duration::from_nanos(over)),
            _ => Ok(now + owed + self.cost),
        }
    }

    fn status(self, full_at: u64, now: u64) -> RateLimitStatus {
        let owed = full_at.saturating_sub(now);
        RateLimitStatus {
            quota: self.burst,
            window: whole_seconds(self.burst * self.cost),
            left: self.burst.saturating_sub(owed.div_ceil(self.cost)),
            full_in: whole_seconds(owed),
        }
    }
}

fn whole_seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000).max(1)
}

/// The state of a caller's bucket after a request, for the answer's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateLimitStatus {
    quota: u64,
    window: u64,
    left: u64,
    full_in: u64,
}

impl RateLimitStatus {
    /// Writes `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
    pub(crate) fn write_to(self, headers: &mut HeaderMap) {
        let Self { quota, window, left, full_in } = self;
        let fields = [
            ("ratelimit-policy", format!("\"default\";q={quota};w={window}")),
            ("ratelimit", format!("\"default\";r={left};t={full_in}")),
        ];
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// The buckets of all callers.
#[derive(Debug)]
pub(crate) struct Limits {
    /// For callers whose key has no own rate; `None`: they are not limited.
    usual: Option<Quota>,
    started: Instant,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    full_at: HashMap<Identity, u64>,
    pruned_at: u64,
}

impl Limits {
    pub(crate) fn new(rate: Option<Rate>, burst: Option<Rate>) -> Self {
        let usual = rate.map(|rate| Quota::new(rate, burst));
        Self { usual, started: Instant::now(), buckets: Mutex::default() }
    }

    /// Counts a request. The answer reports the state of the caller's bucket, also if the request is rejected.
    pub(crate) fn count(&self, caller: &Caller, request: &HttpRequest) -> Result<(), Problem> {
        let own = caller.own_rate().map(|rate| Quota::new(rate, None));
        let Some(quota) = own.or(self.usual) else { return Ok(()) };
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (status, refused) = self.take(caller.identity(), quota, now);
        request.extensions_mut().insert(status);
        let Some(wait) = refused else { return Ok(()) };
        let seconds = whole_seconds(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        let detail = "this caller exceeds its request rate; Retry-After gives the time to wait";
        Err(Problem::new(RATE_LIMITED, detail).header(header::RETRY_AFTER, &seconds.to_string()))
    }

    fn take(
        &self,
        identity: Identity,
        quota: Quota,
        now: u64,
    ) -> (RateLimitStatus, Option<Duration>) {
        let mut buckets = self.buckets.lock();
        let full_at = buckets.of(identity, now);
        let refused = match quota.take(*full_at, now) {
            Ok(later) => {
                *full_at = later;
                None
            }
            Err(wait) => Some(wait),
        };
        (quota.status(*full_at, now), refused)
    }
}

impl Buckets {
    fn of(&mut self, identity: Identity, now: u64) -> &mut u64 {
        let full = self.full_at.len() >= MAX_CALLERS && !self.full_at.contains_key(&identity);
        if full && now >= self.pruned_at + PRUNE_INTERVAL {
            self.pruned_at = now;
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        let crowded = full && self.full_at.len() >= MAX_CALLERS;
        self.full_at.entry(if crowded { Identity::Address(None) } else { identity }).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn rate(number: u32) -> Rate {
        number.try_into().unwrap()
    }

    const SECOND: u64 = 1_000_000_000;

    fn address(number: u32) -> Identity {
        Identity::Address(Some(IpAddr::V4(Ipv4Addr::from_bits(number))))
    }

    fn limits() -> Limits {
        Limits::new(Some(rate(2)), Some(rate(4)))
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (limits, quota) = (limits(), Quota::new(rate(2), Some(rate(4))));
        let now = 7 * SECOND;
        for left in (0..4).rev() {
            let (status, refused) = limits.take(address(1), quota, now);
            assert_eq!((status.left, refused), (left, None));
            assert_eq!((status.quota, status.window), (4, 2));
        }
        let (status, refused) = limits.take(address(1), quota, now);
        assert_eq!((status.left, status.full_in), (0, 2));
        assert_eq!(refused, Some(Duration::from_millis(500)));
        assert_eq!(limits.take(address(2), quota, now).1, None, "others have their own buckets");
        assert_eq!(limits.take(address(1), quota, now + SECOND / 2).1, None);
        assert!(limits.take(address(1), quota, now + SECOND / 2).1.is_some());
        assert_eq!(limits.take(address(1), quota, now + 60 * SECOND).0.left, 3);
    }

    #[test]
    fn the_memory_is_bounded_and_those_who_were_there_keep_their_buckets() {
        let (limits, quota) = (limits(), Quota::new(rate(2), Some(rate(4))));
        let all = u32::try_from(MAX_CALLERS).unwrap();
        for number in 0..all + 100 {
            limits.take(address(number), quota, SECOND);
        }
        let count = || limits.buckets.lock().full_at.len();
        // New callers share one.
        assert_eq!(count(), MAX_CALLERS + 1);
        assert!(limits.take(address(all + 200), quota, SECOND).1.is_some());
        assert_eq!(limits.take(address(0), quota, SECOND).0.left, 2);
        limits.take(address(all + 300), quota, 60 * SECOND);
        assert_eq!(count(), 1);
    }
}
