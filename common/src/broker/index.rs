//! Indexes of metadata: in each partition, the ids of the jobs that have a label. `lua/indexes.lua` writes them.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::job::Metadata;
use crate::task::Indexes;

/// An index: a label, as the first 64 bits of the hash of its name and value.
///
/// That is enough, because readers of an index check the labels of the jobs in it: two labels with the same hash cost
/// only that. The task is not part of it, so that one set in each partition has all jobs of, say, a customer.
///
/// ```
/// use crunch_common::broker::IndexId;
///
/// let index = IndexId::of("customer", "acme").unwrap();
/// assert_eq!(index.to_string().parse(), Ok(index));
/// assert_ne!(IndexId::of("customer", "other"), Some(index));
/// assert_eq!(IndexId::of("customer", &"a".repeat(65)), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexId(u64);

/// Not the id of an index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 16 hexadecimal digits")]
pub struct InvalidIndexId;

impl IndexId {
    /// Maximum bytes of a value that is indexed: an id, a name, a region. Jobs with a longer one are not in an index.
    pub const MAX_VALUE_BYTES: usize = 64;

    /// Returns the index of a label; `None` if its value is too long for one.
    #[must_use]
    pub fn of(name: &str, value: &str) -> Option<Self> {
        let mut digest = Sha256::new();
        // With its length, so that two labels are never confused.
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name);
        digest.update(value);
        let digest = digest.finalize();
        let first = digest[..8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        (value.len() <= Self::MAX_VALUE_BYTES).then_some(Self(first))
    }

    /// Returns the indexes of a job with these labels, whose task declares the names of those to be indexed.
    #[must_use]
    pub fn of_labels(declared: &Indexes, metadata: &Metadata) -> Vec<Self> {
        declared.iter().filter_map(|name| Self::of(name, metadata.get(name)?)).collect()
    }
}

impl fmt::Display for IndexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for IndexId {
    type Err = InvalidIndexId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidIndexId)?;
        // One spelling each: no sign, no capitals.
        if id.to_string() == text { Ok(id) } else { Err(InvalidIndexId) }
    }
}
