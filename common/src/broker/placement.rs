//! In which partition a job is: its *home*.
//!
//! Everything that one step must see is in one partition, since a function of Redis sees no other. So what a job is
//! bound to decides its home. Of several bindings the first in this order does:
//!
//! ```text
//! home = workflow ?? shared limit (partition 0) ?? limited queue ?? group ?? lock ?? idempotency key ?? any
//! ```
//!
//! Only the idempotency key exists yet; the others are reserved for it to have its place among them
//! (`docs/redis-schema.md`). A lock's digest will contain task, queue and group, so that it is where they are.

use rand::seq::IteratorRandom;

use super::new_job::Idempotency;
use crate::job::Partition;

/// What decides where a job is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bindings<'a> {
    /// Its idempotency key: the step that stores the key creates the job.
    pub(super) idempotency: Option<&'a Idempotency>,
}

/// Returns the home of a job in a key space of that many partitions: the same for the same bindings; any, with equal
/// probability, for a job without, except those that are away if there are others.
pub(super) fn home(
    bindings: Bindings<'_>,
    partitions: u16,
    is_away: impl Fn(Partition) -> bool,
) -> Partition {
    let numbered =
        |number| Partition::new(number).expect("the configuration bounds the number of partitions");
    match bindings.idempotency {
        Some(Idempotency { digest: [high, low, ..], .. }) => {
            numbered(u16::from_be_bytes([*high, *low]) % partitions)
        }
        None => {
            let drawn = numbered(rand::random_range(0..partitions));
            if !is_away(drawn) {
                return drawn;
            }
            let present = (0..partitions).map(numbered).filter(|&partition| !is_away(partition));
            present.choose(&mut rand::rng()).unwrap_or(drawn)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_always_has_the_same_home_and_other_jobs_have_any() {
        let home_of = |key: Option<u32>| {
            let key = key.map(|key| Idempotency::new(&[&key.to_be_bytes()], &[b"request"]));
            home(Bindings { idempotency: key.as_ref() }, 16, |_| false)
        };
        let homes = |keys: Vec<Option<u32>>| -> usize {
            keys.into_iter().map(home_of).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(homes(vec![None; 1000]), 16);
        assert_eq!(homes(vec![Some(7); 10]), 1);
        assert_eq!(homes((0..1000).map(Some).collect()), 16);
    }

    #[test]
    fn a_job_without_a_key_avoids_partitions_that_are_away() {
        let key = Idempotency::new(&[b"key"], &[b"request"]);
        let bound = Bindings { idempotency: Some(&key) };
        let home_of_key = home(bound, 4, |_| false);
        assert_eq!(home(bound, 4, |partition| partition == home_of_key), home_of_key);
        for _ in 0..1000 {
            assert_eq!(home(Bindings::default(), 4, |it| it.number() != 2).number(), 2);
        }
        assert!(home(Bindings::default(), 4, |_| true).number() < 4);
    }
}
