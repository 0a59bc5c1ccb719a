//! The keys of a running API: looked up on every request, read again when their file changes.
//!
//! A file that cannot be read changes nothing: the previous keys stay valid, and an error is logged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::job::JobId;
use crunch_common::time::Timestamp;
use parking_lot::{Mutex, RwLock};

use super::file::{FileError, KeyFile, Stamp};
use super::key::SecretHash;
use super::ticket::Ticket;
use super::{Key, KeyId, Token};

type Keys = HashMap<KeyId, Arc<Key>>;

/// All keys that are accepted.
#[derive(Debug)]
pub(crate) struct KeyRing {
    file: KeyFile,
    keys: RwLock<Keys>,
    /// The version of the file that was last read, successfully or not.
    seen: Mutex<Option<Stamp>>,
}

impl KeyRing {
    /// A new key becomes valid, and a revoked one invalid, within this time. Checking a file for changes costs almost
    /// nothing.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

    /// Reads the file for the first time.
    pub(crate) fn open(file: KeyFile) -> Result<Self, FileError> {
        let seen = file.stamp();
        let keys = by_id(file.read()?);
        if keys.is_empty() {
            let path = file.path().display();
            tracing::warn!(%path, "there are no API keys yet, so all requests are rejected");
        }
        Ok(Self { file, keys: RwLock::new(keys), seen: Mutex::new(seen) })
    }

    /// Reads the file again if it has changed.
    pub(crate) fn tick(&self) {
        let stamp = self.file.stamp();
        let mut seen = self.seen.lock();
        if *seen == stamp {
            return;
        }
        *seen = stamp;
        match self.file.read() {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "API keys reloaded");
                *self.keys.write() = by_id(keys);
            }
            Err(error) => {
                tracing::error!(%error, "cannot read the file of API keys; the previous keys stay valid");
            }
        }
    }

    /// Returns the key whose rights a ticket grants for a job's stream, if the ticket is valid.
    pub(crate) fn find_by_ticket(&self, ticket: &Ticket, job: JobId) -> Option<Arc<Key>> {
        let keys = self.keys.read();
        let key = keys.get(ticket.key()).cloned();
        drop(keys);
        key.filter(|key| ticket.opens(job, key, Timestamp::now()))
    }

    /// Returns the key that a caller sent, if it is valid. An unknown id is compared like a known one, so that the time
    /// it takes does not reveal which ids exist.
    pub(crate) fn find(&self, token: &Token) -> Option<Arc<Key>> {
        let keys = self.keys.read();
        let key = keys.get(&token.id).cloned();
        drop(keys);
        let stored = key.as_ref().map_or(&SecretHash::NOTHING, |key| &key.hash);
        let fits = bool::from(stored.matches(&token.hash()));
        key.filter(|_| fits)
    }
}

fn by_id(keys: Vec<Key>) -> Keys {
    keys.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect()
}
