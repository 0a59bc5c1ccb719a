//! Limits how many logins may fail from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How many logins may fail at once from one address, and after how long another may.
const FAILURES: u32 = 10;
const FAILURE_EVERY: Duration = Duration::from_secs(6);
/// Beyond this many addresses at once, further ones share one count.
const MAX_ADDRESSES: usize = 10_000;

/// Counts failed logins by address. A login with a valid key is never counted or rejected: keys have 256 random bits, so
/// that they cannot be guessed, and behind a proxy all operators have one address, which a stranger must not lock out.
#[derive(Debug, Default)]
pub(super) struct FailedLogins {
    /// When no failure counts any more, by address.
    free_at: Mutex<HashMap<Option<IpAddr>, Instant>>,
}

impl FailedLogins {
    /// Counts a failure. Returns how long to wait if there were too many.
    pub(super) fn count(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut all = self.free_at.lock();
        if all.len() >= MAX_ADDRESSES {
            all.retain(|_, free_at| *free_at > now);
        }
        let crowded = all.len() >= MAX_ADDRESSES && !all.contains_key(&address);
        let free_at = all.entry(if crowded { None } else { address }).or_insert(now);
        let later = now.max(*free_at) + FAILURE_EVERY;
        let limit = now + FAILURE_EVERY * FAILURES;
        if later > limit {
            return Err(later - limit);
        }
        *free_at = later;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn ten_logins_may_fail_and_then_one_every_six_seconds() {
        let (logins, now) = (FailedLogins::default(), Instant::now());
        let address = |number| Some(IpAddr::V4(Ipv4Addr::from_bits(number)));
        for _ in 0..FAILURES {
            assert_eq!(logins.count(address(1), now), Ok(()));
        }
        assert_eq!(logins.count(address(1), now), Err(FAILURE_EVERY));
        assert_eq!(logins.count(address(2), now), Ok(()), "others have their own count");
        let later = now + FAILURE_EVERY;
        assert_eq!(logins.count(address(1), later), Ok(()));
        assert!(logins.count(address(1), later).is_err());
    }
}
