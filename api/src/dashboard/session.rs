//! Sessions: opened with a key, ended by a logout, after 8 hours, or when the key is revoked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crunch_common::broker::Broker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::secret::{Cookie, Secret};
use crate::auth::{Authority, Caller, KeyId};
use crate::problem::{Problem, UNAUTHORIZED};

/// For how long an API does not ask Redis again whether a session exists: a logout at another API takes effect within
/// this time. Every open page asks once a second.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// More sessions than this are not remembered, and each request asks Redis.
const MAX_KNOWN: usize = 10_000;
const LIFETIME: Duration = Duration::from_secs(Cookie::LIFETIME_S);

/// The sessions that this API knows.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: Mutex<HashMap<Secret, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    key: KeyId,
    until: Instant,
}

impl Sessions {
    /// Opens a session with an API key; `None` if the key is not valid.
    ///
    /// # Errors
    /// If Redis is unavailable.
    pub(super) async fn open(
        &self,
        broker: &Broker,
        authority: &Authority,
        key: &str,
    ) -> Result<Option<Secret>, Problem> {
        let Some(key) = authority.key_of(key) else { return Ok(None) };
        let secret = Secret::generate();
        broker.open_session(&secret.digest(), &key.to_string(), LIFETIME).await?;
        self.remember(secret.clone(), key);
        Ok(Some(secret))
    }

    /// Returns who has a session: a caller with the rights of its key.
    ///
    /// # Errors
    /// 401 if there is no such session, or its key was revoked; 503 if Redis is unavailable.
    pub(super) async fn caller(
        &self,
        broker: &Broker,
        authority: &Authority,
        secret: &Secret,
    ) -> Result<Caller, Problem> {
        let key = match self.remembered(secret) {
            Some(key) => Some(key),
            None => self.read(broker, secret).await?,
        };
        let ended = || Problem::new(UNAUTHORIZED, "the session has ended: log in again");
        key.and_then(|key| authority.caller_with(&key)).ok_or_else(ended)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// If Redis is unavailable: it may go on.
    pub(super) async fn end(&self, broker: &Broker, secret: &Secret) -> Result<(), Problem> {
        self.known.lock().remove(secret);
        Ok(broker.end_session(&secret.digest()).await?)
    }

    async fn read(&self, broker: &Broker, secret: &Secret) -> Result<Option<KeyId>, Problem> {
        let owner = broker.session(&secret.digest()).await?;
        let key: Option<KeyId> = owner.and_then(|owner| owner.parse().ok());
        if let Some(key) = &key {
            self.remember(secret.clone(), key.clone());
        }
        Ok(key)
    }

    fn remembered(&self, secret: &Secret) -> Option<KeyId> {
        let known = self.known.lock().get(secret).cloned();
        known.filter(|known| Instant::now() < known.until).map(|known| known.key)
    }

    fn remember(&self, secret: Secret, key: KeyId) {
        let (now, mut known) = (Instant::now(), self.known.lock());
        if known.len() >= MAX_KNOWN {
            known.retain(|_, known| now < known.until);
        }
        if known.len() < MAX_KNOWN {
            known.insert(secret, Known { key, until: now + KNOWN_FOR });
        }
    }
}

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
