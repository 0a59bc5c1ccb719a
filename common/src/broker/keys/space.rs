//! A key space: all partitions, and which of them a key belongs to.

use std::collections::HashMap;

use super::tag::tag;
use super::{KeyPrefix, Keys};
use crate::job::Partition;

/// The keys of all partitions.
#[derive(Debug)]
pub(crate) struct KeySpace {
    prefix: KeyPrefix,
    partitions: Vec<Keys>,
    /// By their hash tags.
    tags: HashMap<String, Partition>,
}

impl KeySpace {
    /// A key space of that many partitions, at least one.
    pub(crate) fn new(prefix: KeyPrefix, partitions: u16) -> Self {
        let all = (0..partitions).filter_map(Partition::new);
        let tags: Vec<_> = all.map(|partition| (tag(partition, partitions), partition)).collect();
        Self {
            partitions: tags
                .iter()
                .map(|(tag, partition)| Keys::new(&prefix, *partition, tag))
                .collect(),
            tags: tags.into_iter().collect(),
            prefix,
        }
    }

    pub(crate) const fn prefix(&self) -> &KeyPrefix {
        &self.prefix
    }

    /// How many partitions it has.
    pub(crate) fn len(&self) -> u16 {
        self.partitions.len() as u16
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.len()).filter_map(Partition::new)
    }

    /// The keys of a partition. An id may name one that this key space does not have; then those of the first, which
    /// does not have the job either.
    pub(crate) fn keys(&self, partition: Partition) -> &Keys {
        self.partitions.get(usize::from(partition.number())).unwrap_or(&self.partitions[0])
    }

    /// The partition with this hash tag.
    pub(super) fn tagged(&self, tag: &str) -> Option<Partition> {
        self.tags.get(tag).copied()
    }
}
