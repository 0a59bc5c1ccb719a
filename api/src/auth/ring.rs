//! The keys of a running API: looked up on every request, read anew when their file changes.
//!
//! A file that cannot be read changes nothing: the keys that were good stay good, and the log says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use crunch_common::job::JobId;
use crunch_common::time::Timestamp;

use super::file::{FileError, KeyFile, Stamp};
use super::key::SecretHash;
use super::ticket::Ticket;
use super::{Key, KeyId, Token};

type Keys = HashMap<KeyId, Arc<Key>>;

/// All keys that are taken.
#[derive(Debug)]
pub(crate) struct KeyRing {
    file: KeyFile,
    keys: RwLock<Keys>,
    /// What the file was like when it was last read, well or not.
    seen: Mutex<Option<Stamp>>,
}

impl KeyRing {
    /// A new key opens, and a revoked one opens no more, within this time. A look at a file costs next to nothing.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

    /// Reads the file a first time.
    pub(crate) fn open(file: KeyFile) -> Result<Self, FileError> {
        let seen = file.stamp();
        let keys = by_id(file.read()?);
        if keys.is_empty() {
            let path = file.path().display();
            tracing::warn!(%path, "there are no API keys yet, so nobody can use this API");
        }
        Ok(Self { file, keys: RwLock::new(keys), seen: Mutex::new(seen) })
    }

    /// Reads the file again if it is not what it was.
    pub(crate) fn tick(&self) {
        let stamp = self.file.stamp();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == stamp {
            return;
        }
        *seen = stamp;
        match self.file.read() {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "the API keys have changed");
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = by_id(keys);
            }
            Err(error) => {
                tracing::error!(%error, "the API keys cannot be read; those known before are still taken");
            }
        }
    }

    /// The key by whose right a ticket opens a job's stream, if it does.
    pub(crate) fn find_by_ticket(&self, ticket: &Ticket, job: JobId) -> Option<Arc<Key>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.get(ticket.key()).cloned();
        drop(keys);
        key.filter(|key| ticket.opens(job, key, Timestamp::now()))
    }

    /// The key that a caller showed, if it is one of ours. An unknown id is compared like a known one, so that the time it
    /// takes does not tell which ids there are.
    pub(crate) fn find(&self, token: &Token) -> Option<Arc<Key>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.get(&token.id).cloned();
        drop(keys);
        let kept = key.as_ref().map_or(&SecretHash::NOTHING, |key| &key.hash);
        let fits = bool::from(kept.matches(&token.hash()));
        key.filter(|_| fits)
    }
}

fn by_id(keys: Vec<Key>) -> Keys {
    keys.into_iter().map(|key| (key.id.clone(), Arc::new(key))).collect()
}
