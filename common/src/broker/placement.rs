//! In which partition a job is: its *home*.
//!
//! Everything that one step must see is in one partition, since a function of Redis sees no other. So what a job is
//! bound to decides its home. Of several bindings the first in this order does:
//!
//! ```text
//! home = workflow ?? queue with groups, limited, unique or of a schedule ?? idempotency key ?? any
//! ```
//!
//! All groups of a queue are in one partition, although each could have its own: workers visit partitions in turn, so weights
//! of groups in different partitions would mean nothing. All jobs of a queue with a limit are there too, since what runs is
//! counted where it runs; submissions learn that from partitions that refuse them (`submit/homes.rs`). Locks are there as well: a lock of its own
//! home would move when its queue gets a limit, and leave its holder behind. Workflows are reserved (`docs/redis-schema.md`).
//!
//! The home of a queue is that of its *family*: of its name before the first dot. Queues that share a limit must have one home, and
//! it must not change when they begin to: so they are of one family, with the limit.
//!
//! An idempotency key is in the partition that its hash determines, whatever else the job is bound to: there any other
//! request with the same key finds it.

use rand::seq::IteratorRandom;
use sha2::{Digest, Sha256};

use super::new_job::Idempotency;
use crate::job::Partition;
use crate::queue::QueueName;

/// What decides where a job is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bindings<'a> {
    /// Its queue, if it has a group, is unique, or comes from a schedule: the groups of a queue take turns in one partition, its
    /// locks are there, and a schedule is because the step that moves its tick submits the job.
    pub at_home_of: Option<&'a QueueName>,
    /// Its idempotency key: without other bindings, the step that stores the key creates the job.
    pub idempotency: Option<&'a Idempotency>,
}

/// Returns the partition with this number, out of as many.
fn numbered(number: u16) -> Partition {
    Partition::new(number).expect("the configuration bounds the number of partitions")
}

/// Returns the partition of an idempotency key.
pub(super) fn home_of_key(key: &Idempotency, partitions: u16) -> Partition {
    numbered(u16::from_be_bytes([key.digest[0], key.digest[1]]) % partitions)
}

/// Returns the partition of that name: of the groups of a queue, and of a limit that queues share.
pub(super) fn home_of(name: impl AsRef<str>, partitions: u16) -> Partition {
    let name = name.as_ref();
    let family = name.split_once('.').map_or(name, |(family, _)| family);
    let digest = Sha256::digest(family);
    numbered(u16::from_be_bytes([digest[0], digest[1]]) % partitions)
}

/// Returns the home of a job in a key space of that many partitions: the same for the same bindings; any, with equal
/// probability, for a job without, except those that are away if there are others.
pub(super) fn home(
    bindings: Bindings<'_>,
    partitions: u16,
    is_away: impl Fn(Partition) -> bool,
) -> Partition {
    if let Some(queue) = bindings.at_home_of {
        return home_of(queue, partitions);
    }
    if let Some(key) = bindings.idempotency {
        return home_of_key(key, partitions);
    }
    let drawn = numbered(rand::random_range(0..partitions));
    if !is_away(drawn) {
        return drawn;
    }
    let present = (0..partitions).map(numbered).filter(|&partition| !is_away(partition));
    present.choose(&mut rand::rng()).unwrap_or(drawn)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_always_has_the_same_home_and_other_jobs_have_any() {
        let home_of = |key: Option<u32>| {
            let key = key.map(|key| Idempotency::new(&[&key.to_be_bytes()], &[b"request"]));
            home(Bindings { idempotency: key.as_ref(), ..Bindings::default() }, 16, |_| false)
        };
        let homes = |keys: Vec<Option<u32>>| -> usize {
            keys.into_iter().map(home_of).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(homes(vec![None; 1000]), 16);
        assert_eq!(homes(vec![Some(7); 10]), 1);
        assert_eq!(homes((0..1000).map(Some).collect()), 16);
    }

    #[test]
    fn the_groups_of_a_queue_have_one_home_whatever_else_a_job_is_bound_to() {
        let home_of = |queue: &str| {
            let queue: QueueName = queue.parse().unwrap();
            let key = Idempotency::new(&[&rand::random::<[u8; 8]>()], &[b"request"]);
            let bound = Bindings { at_home_of: Some(&queue), idempotency: Some(&key) };
            home(bound, 16, |_| true)
        };
        assert_eq!((0..10).map(|_| home_of("cpu")).collect::<BTreeSet<_>>().len(), 1);
        let homes: BTreeSet<_> = (0..300).map(|at| home_of(&format!("q{at}"))).collect();
        assert_eq!(homes.len(), 16);
    }

    #[test]
    fn a_family_has_one_home() {
        let homes: BTreeSet<_> =
            ["openai", "openai.chat", "openai.a.b"].map(|name| home_of(name, 16)).into();
        assert_eq!(homes.len(), 1);
        assert!((0..9).any(|at| home_of(format!("q{at}.openai"), 16) != home_of("openai", 16)));
    }

    #[test]
    fn a_job_without_a_key_avoids_partitions_that_are_away() {
        let key = Idempotency::new(&[b"key"], &[b"request"]);
        let bound = Bindings { idempotency: Some(&key), ..Bindings::default() };
        let home_of_key = home(bound, 4, |_| false);
        assert_eq!(home(bound, 4, |partition| partition == home_of_key), home_of_key);
        for _ in 0..1000 {
            assert_eq!(home(Bindings::default(), 4, |it| it.number() != 2).number(), 2);
        }
        assert!(home(Bindings::default(), 4, |_| true).number() < 4);
    }
}
