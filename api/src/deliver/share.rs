//! Limits how many slots the deliveries to one receiver take: one that accepts connections and never answers must not
//! block the deliveries to all others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// How many slots one receiver may take: a quarter of `SLOTS`.
const MAX_PER_RECEIVER: usize = 8;

/// How many slots the deliveries to each receiver take now; receivers that take none are not listed.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<String, usize>>);

/// One of the slots that a receiver may take; free again when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    receiver: String,
}

impl Shares {
    /// Takes a slot for a delivery to a receiver; `None` if it has as many as it may take.
    pub(super) fn take(self: &Arc<Self>, receiver: &str) -> Option<Share> {
        let mut counts = self.0.lock();
        let count = counts.entry(receiver.to_owned()).or_default();
        if *count >= MAX_PER_RECEIVER {
            return None;
        }
        *count += 1;
        Some(Share { shares: self.clone(), receiver: receiver.to_owned() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.shares.0.lock();
        let Some(count) = counts.get_mut(&self.receiver) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_gets_its_share_and_leaves_nothing_behind() {
        let shares = Arc::new(Shares::default());
        let taken: Vec<_> =
            (0..MAX_PER_RECEIVER).map(|_| shares.take("slow:443").unwrap()).collect();
        assert!(shares.take("slow:443").is_none() && shares.take("quick:443").is_some());
        drop(taken);
        assert!(shares.take("slow:443").is_some() && shares.0.lock().is_empty());
    }
}
