//! Labels that a client attaches to a job.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Flat labels of a job: at most 32 keys of 1–64 bytes, values of at most 1 KiB, all labels at most 96 KiB as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(BTreeMap<String, String>);

/// Why a label is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMetadata {
    /// There are 32 labels already.
    #[error("at most 32 keys are allowed")]
    TooMany,
    /// The key is empty or longer than 64 bytes.
    #[error("keys have 1 to 64 bytes")]
    Key,
    /// The value is longer than 1 KiB.
    #[error("values have at most 1024 bytes")]
    Value,
    /// As JSON, the labels would be longer than 96 KiB.
    #[error(
        "all labels together have at most 98304 bytes as JSON, in which a control character takes six"
    )]
    Written,
}

impl Metadata {
    const MAX_KEYS: usize = 32;
    const MAX_KEY_BYTES: usize = 64;
    const MAX_VALUE_BYTES: usize = 1024;
    /// A command gets the labels as JSON in one variable, and Linux starts no program with a variable above 128 KiB.
    /// This limit leaves a margin, and only labels of control characters reach it: characters that JSON writes as two
    /// bytes stay below it because of the other limits.
    const MAX_WRITTEN_BYTES: usize = 96 * 1024;

    /// Whether a label can have this name.
    pub(crate) const fn is_name(key: &str) -> bool {
        !key.is_empty() && key.len() <= Self::MAX_KEY_BYTES
    }

    /// Bytes of all keys and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len()).sum()
    }

    /// Sets one label.
    ///
    /// # Errors
    /// If a limit would be exceeded; the labels are then unchanged.
    pub fn insert(&mut self, key: String, value: String) -> Result<(), InvalidMetadata> {
        if !Self::is_name(&key) {
            return Err(InvalidMetadata::Key);
        }
        if value.len() > Self::MAX_VALUE_BYTES {
            return Err(InvalidMetadata::Value);
        }
        if self.0.len() == Self::MAX_KEYS && !self.0.contains_key(&key) {
            return Err(InvalidMetadata::TooMany);
        }
        let others = self.iter().filter(|&(other, _)| other != key);
        let others: usize = others.map(|(key, value)| json_size(key, value)).sum();
        if others + json_size(&key, &value) + "{}".len() > Self::MAX_WRITTEN_BYTES {
            return Err(InvalidMetadata::Written);
        }
        self.0.insert(key, value);
        Ok(())
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether there are no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Bytes of one label in a JSON object, with its colon and comma.
fn json_size(key: &str, value: &str) -> usize {
    let text = |text: &str| serde_json::to_string(text).map_or(usize::MAX / 4, |json| json.len());
    text(key) + text(value) + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(count: usize, value: &str) -> Result<Metadata, InvalidMetadata> {
        let mut metadata = Metadata::default();
        (0..count).try_for_each(|at| metadata.insert(format!("k{at:02}"), value.to_owned()))?;
        Ok(metadata)
    }

    #[test]
    fn labels_are_bounded_by_what_they_become_as_json() {
        for (count, character) in [(32, "\""), (32, "\u{e4}"), (15, "\u{1}")] {
            let metadata = labels(count, &character.repeat(1024 / character.len())).unwrap();
            let json = serde_json::to_string(&metadata).unwrap();
            assert!(json.len() <= Metadata::MAX_WRITTEN_BYTES, "{}", json.len());
        }
        assert_eq!(labels(16, &"\u{1}".repeat(1024)), Err(InvalidMetadata::Written));
    }

    #[test]
    fn a_label_that_is_set_again_counts_once() {
        let mut metadata = labels(15, &"\u{1}".repeat(1024)).unwrap();
        metadata.insert("k00".to_owned(), "\u{1}".repeat(1023)).unwrap();
        assert_eq!(metadata.get("k00").map(str::len), Some(1023));
    }
}
