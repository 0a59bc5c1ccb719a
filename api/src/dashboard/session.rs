//! Sessions: opened with a key, ended by a logout, after 8 hours, or when the key is revoked.

use std::collections::HashMap;
use std::time::Duration;

use crunch_common::broker::Broker;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::secret::{Cookie, Secret};
use crate::auth::{Authority, Caller, KeyId};
use crate::problem::{Problem, UNAUTHORIZED};

/// For how long an API does not ask Redis again whether its sessions exist: a logout at another API takes effect within
/// this time. Every open page asks once a second.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// More sessions than this are not remembered, and each request asks Redis.
const MAX_KNOWN: usize = 1000;
const LIFETIME: Duration = Duration::from_secs(Cookie::LIFETIME_S);

/// The sessions that this API knows.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: Mutex<HashMap<Secret, Known>>,
    /// Held while old ones are read again.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Known {
    key: KeyId,
    until: Instant,
    /// Whether it was used since it was read last; otherwise it is forgotten.
    used: bool,
}

impl Known {
    fn new(key: KeyId) -> Self {
        Self { key, until: Instant::now() + KNOWN_FOR, used: false }
    }
}

/// What this API knows of a session.
enum Knowledge {
    /// It belongs to this key.
    Fresh(KeyId),
    /// It did, some seconds ago.
    Old,
    None,
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
        let key = match self.known(secret) {
            Knowledge::Fresh(key) => Some(key),
            Knowledge::Old => self.refresh(broker, secret).await?,
            Knowledge::None => self.read(broker, secret).await?,
        };
        let ended = || Problem::new(UNAUTHORIZED, "the session has ended: log in again");
        key.and_then(|key| authority.caller_with(&key)).ok_or_else(ended)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// If Redis is unavailable: it may go on.
    pub(super) async fn end(&self, broker: &Broker, secret: &Secret) -> Result<(), Problem> {
        // What is being read now may still contain it.
        let _reading = self.reading.lock().await;
        self.known.lock().remove(secret);
        Ok(broker.end_session(&secret.digest()).await?)
    }

    /// Reads a session that this API has not seen.
    async fn read(&self, broker: &Broker, secret: &Secret) -> Result<Option<KeyId>, Problem> {
        let owner = broker.sessions(&[secret.digest()]).await?.pop().flatten();
        let key: Option<KeyId> = owner.and_then(|owner| owner.parse().ok());
        if let Some(key) = &key {
            self.remember(secret.clone(), key.clone());
        }
        Ok(key)
    }

    /// Reads all sessions again that are in use: a hundred viewers cost Redis one command.
    async fn refresh(&self, broker: &Broker, secret: &Secret) -> Result<Option<KeyId>, Problem> {
        let _reading = self.reading.lock().await;
        let old = self.old();
        let digests: Vec<_> = old.iter().map(Secret::digest).collect();
        let owners = broker.sessions(&digests).await?;
        let mut all = self.known.lock();
        for (secret, owner) in old.into_iter().zip(owners) {
            match owner.and_then(|owner| owner.parse().ok()) {
                Some(key) => drop(all.insert(secret, Known::new(key))),
                None => drop(all.remove(&secret)),
            }
        }
        Ok(all.get(secret).map(|known| known.key.clone()))
    }

    fn known(&self, secret: &Secret) -> Knowledge {
        let mut all = self.known.lock();
        let Some(known) = all.get_mut(secret) else { return Knowledge::None };
        known.used = true;
        match Instant::now() < known.until {
            true => Knowledge::Fresh(known.key.clone()),
            false => Knowledge::Old,
        }
    }

    /// Returns the sessions that are due to be read again, and forgets those that were not used since the last time.
    fn old(&self) -> Vec<Secret> {
        let (now, mut all) = (Instant::now(), self.known.lock());
        all.retain(|_, known| known.used || now < known.until);
        let old = all.iter().filter(|(_, known)| known.until <= now);
        old.map(|(secret, _)| secret.clone()).collect()
    }

    fn remember(&self, secret: Secret, key: KeyId) {
        let mut all = self.known.lock();
        if all.len() < MAX_KNOWN {
            all.insert(secret, Known::new(key));
        }
    }
}
