//! The keys of a running API: looked up on every request, read again when their file changes.
//!
//! A file that cannot be read changes nothing: the previous keys stay valid, and an error is logged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::job::JobId;
use crunch_common::time::Timestamp;

use super::file::{FileError, KeyFile, Stamp};
use super::key::SecretHash;
use super::ticket::Ticket;
use super::{ApiKey, KeyId, Token};
use crate::reloaded::{Reloaded, Source};

/// All keys that are accepted.
#[derive(Debug)]
pub(crate) struct KeyRing(Reloaded<KeyFile>);

impl Source for KeyFile {
    type Value = HashMap<KeyId, Arc<ApiKey>>;
    type Error = FileError;
    type Stamp = Option<Stamp>;

    fn stamp(&self) -> Option<Stamp> {
        Self::stamp(self)
    }

    fn read(&self) -> Result<Self::Value, FileError> {
        let keys = Self::read(self)?.into_iter();
        Ok(keys.map(|key| (key.id.clone(), Arc::new(key))).collect())
    }
}

impl KeyRing {
    /// A new key becomes valid, and a revoked one invalid, within this time.
    pub(crate) const INTERVAL: Duration = Reloaded::<KeyFile>::INTERVAL;

    /// Reads the file for the first time.
    pub(crate) fn open(file: KeyFile) -> Result<Self, FileError> {
        let path = file.path().to_owned();
        let keys = Reloaded::open(file)?;
        if keys.get().is_empty() {
            let path = path.display();
            tracing::warn!(%path, "there are no API keys yet, so all requests are rejected");
        }
        Ok(Self(keys))
    }

    /// Reads the file again if it has changed.
    pub(crate) fn tick(&self) {
        match self.0.tick() {
            Some(Ok(keys)) => tracing::info!(keys = keys.len(), "API keys reloaded"),
            Some(Err(error)) => {
                tracing::error!(%error, "cannot read the file of API keys; the previous keys stay valid");
            }
            None => {}
        }
    }

    /// Returns the key whose rights a ticket grants for a job's stream, if the ticket is valid.
    pub(crate) fn find_by_ticket(&self, ticket: &Ticket, job: JobId) -> Option<Arc<ApiKey>> {
        let key = self.0.get().get(ticket.key()).cloned();
        key.filter(|key| ticket.opens(job, key, Timestamp::now()))
    }

    /// Returns all keys.
    pub(crate) fn all(&self) -> Vec<Arc<ApiKey>> {
        self.0.get().values().cloned().collect()
    }

    /// Returns the key with this id.
    pub(crate) fn find_by_id(&self, id: &KeyId) -> Option<Arc<ApiKey>> {
        self.0.get().get(id).cloned()
    }

    /// Returns the key that a caller sent, if it is valid. An unknown id is compared like a known one, so that the time
    /// it takes does not reveal which ids exist.
    pub(crate) fn find(&self, token: &Token) -> Option<Arc<ApiKey>> {
        let key = self.0.get().get(&token.id).cloned();
        let stored = key.as_ref().map_or(&SecretHash::NOTHING, |key| &key.hash);
        let fits = bool::from(stored.matches(&token.hash()));
        key.filter(|_| fits)
    }
}
