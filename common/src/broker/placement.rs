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

use super::new_job::Idempotency;
use crate::job::Partition;

/// What decides where a job is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bindings<'a> {
    /// Its idempotency key: the step that stores the key creates the job.
    pub(super) idempotency: Option<&'a Idempotency>,
}

/// Returns the home of a job in a key space of that many partitions: the same for the same bindings; any, with equal
/// probability, for a job without.
pub(super) fn home(bindings: Bindings<'_>, partitions: u16) -> Partition {
    let number = match bindings.idempotency {
        Some(Idempotency { digest: [high, low, ..], .. }) => {
            u16::from_be_bytes([*high, *low]) % partitions
        }
        None => rand::random_range(0..partitions),
    };
    Partition::new(number).expect("the configuration bounds the number of partitions")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_always_has_the_same_home_and_other_jobs_have_any() {
        let home_of = |key: Option<u32>| {
            let key = key.map(|key| Idempotency::new(&[&key.to_be_bytes()], &[b"request"]));
            home(Bindings { idempotency: key.as_ref() }, 16)
        };
        let homes = |keys: Vec<Option<u32>>| -> usize {
            keys.into_iter().map(home_of).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(homes(vec![None; 1000]), 16);
        assert_eq!(homes(vec![Some(7); 10]), 1);
        assert_eq!(homes((0..1000).map(Some).collect()), 16);
    }
}
