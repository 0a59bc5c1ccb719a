//! Hash tags of partitions: which slot of a Redis Cluster each partition has.
//!
//! A cluster distributes 16 384 slots over its nodes in equal, contiguous ranges, and a key's tag decides its slot. The
//! numbers 0, 1, 2, … as tags would be in random slots: of eight partitions, one of three nodes would have four. So each
//! of P partitions has a range of slots of its own, the P-th part of all, and a tag in the middle of that range: P = k
//! partitions a node are then exactly k on each node. Tags are short, because every key contains one.

use crc::{CRC_16_XMODEM, Crc};

use crate::job::Partition;

/// Slots of a cluster (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).
const SLOTS: u16 = 16_384;
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);
const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The slot of a key with this tag.
pub(super) fn slot(tag: &str) -> u16 {
    CRC.checksum(tag.as_bytes()) % SLOTS
}

/// The tag of a partition, one of that many. Partition 0 always has the tag `0`, so that every process finds the layout
/// there, however many partitions it is configured for. The others are numbered along the slots, from that one on.
pub(super) fn tag(partition: Partition, partitions: u16) -> String {
    let (number, count) = (u32::from(partition.number()), u32::from(partitions));
    if number == 0 {
        return "0".to_owned();
    }
    let slots = u32::from(SLOTS);
    let range = (u32::from(slot("0")) * count / slots + number) % count;
    // In quarters of a slot's share, so that the middle half of a range is exact.
    let is_middle = |slot: u16| {
        let quarters = u32::from(slot) * count * 4 / slots;
        quarters / 4 == range && matches!(quarters % 4, 1 | 2)
    };
    let candidates = (0_u32..).map(|suffix| format!("{number}.{}", base_36(suffix)));
    let mut fitting = candidates.filter(|tag| is_middle(slot(tag)));
    fitting.next().expect("every slot has tags")
}

fn base_36(mut number: u32) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(DIGITS[(number % 36) as usize]);
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits.iter().rev().map(|&digit| char::from(digit)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn tags(partitions: u16) -> impl Iterator<Item = String> {
        (0..partitions).filter_map(Partition::new).map(move |partition| tag(partition, partitions))
    }

    #[test]
    fn slots_are_those_of_redis() {
        // From CLUSTER KEYSLOT.
        assert_eq!(["0", "1", "2", "3"].map(slot), [13_907, 9842, 5649, 1584]);
        assert_eq!(base_36(35) + &base_36(36) + &base_36(1295), "z10zz");
    }

    #[test]
    fn every_node_has_as_many_partitions_as_every_other() {
        for (nodes, each) in [(1, 16), (2, 8), (3, 1), (3, 4), (5, 7), (6, 16), (8, 128)] {
            let mut counts = BTreeMap::new();
            for tag in tags(nodes * each) {
                // The ranges of `redis-cli --cluster create`.
                let share = f64::from(SLOTS) / f64::from(nodes);
                let last = |node: u16| (f64::from(node + 1) * share - 1.0).round() as u32;
                let node = (0..nodes)
                    .find(|&node| u32::from(slot(&tag)) <= last(node))
                    .unwrap_or(nodes - 1);
                *counts.entry(node).or_insert(0) += 1;
            }
            assert!(counts.len() == usize::from(nodes), "{nodes} nodes: {counts:?}");
            assert!(counts.values().all(|&count| count == each), "{nodes} nodes: {counts:?}");
        }
    }

    #[test]
    fn tags_are_short_and_differ() {
        for (partitions, longest) in [(1, 1), (4, 3), (12, 5), (64, 6), (1024, 9)] {
            let tags: Vec<_> = tags(partitions).collect();
            let found = tags.iter().map(String::len).max();
            assert!(found <= Some(longest), "{partitions}: {found:?}");
            let different: std::collections::BTreeSet<_> = tags.iter().collect();
            assert_eq!(different.len(), tags.len());
        }
    }
}
