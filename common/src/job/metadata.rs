//! Labels that a client hangs on a job.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Flat labels of a job: at most 32 keys of 1–64 bytes, values of at most 1 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

/// Why a label cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMetadata {
    /// There are 32 labels already.
    #[error("at most 32 keys are kept")]
    TooMany,
    /// The key is empty or longer than 64 bytes.
    #[error("keys have 1 to 64 bytes")]
    Key,
    /// The value is longer than 1 KiB.
    #[error("values have at most 1024 bytes")]
    Value,
}

impl Metadata {
    const MAX_KEYS: usize = 32;
    const MAX_KEY_BYTES: usize = 64;
    const MAX_VALUE_BYTES: usize = 1024;

    /// Bytes of all keys and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// Sets one label.
    ///
    /// # Errors
    /// If a limit would be passed; the labels are then as they were.
    pub fn insert(&mut self, key: String, value: String) -> Result<(), InvalidMetadata> {
        if key.is_empty() || key.len() > Self::MAX_KEY_BYTES {
            return Err(InvalidMetadata::Key);
        }
        if value.len() > Self::MAX_VALUE_BYTES {
            return Err(InvalidMetadata::Value);
        }
        if self.0.len() == Self::MAX_KEYS && !self.0.contains_key(&key) {
            return Err(InvalidMetadata::TooMany);
        }
        self.0.insert(key, value);
        Ok(())
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
