//! Finds jobs by the idempotency keys with which they were submitted. Read-only.

use redis::Value;

use super::commands::Commands;
use super::error::Error;
use super::new_job::{Idempotency, half_as_hex};
use super::transfer::MinRate;
use super::{Broker, reply};
use crate::job::JobId;

/// An id and a fingerprint.
const ENTRY_BYTES: u64 = 80;

impl Broker {
    /// Returns the jobs that were submitted with one of these keys in the last 24 hours. One round trip.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn jobs_by_key(&self, keys: &[Idempotency]) -> Result<Vec<JobId>, Error> {
        let mut commands = Commands::default();
        for key in keys {
            let partition = self.new_id(Some(key)).partition();
            let name = self.settings.keys(partition).idempotency(&half_as_hex(&key.digest));
            commands.at(partition).cmd("GET").arg(name);
        }
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = keys.len() as u64 * ENTRY_BYTES;
        let entries = self.pages.read_all(&commands, bytes, MinRate::ForCaller).await?;
        let found = entries.into_iter().filter(|entry| *entry != Value::Nil);
        found.map(|entry| reply::parse(first_word(&reply::text(entry)?))).collect()
    }
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}
