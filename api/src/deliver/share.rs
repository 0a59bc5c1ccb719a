//! Limits the slots of one receiver: one that accepts connections and never answers must not block all others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// A quarter of the slots.
const MOST: usize = 8;

/// The number of deliveries in flight to each receiver.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<String, usize>>);

/// A slot for one receiver; released when dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Shares>,
    receiver: String,
}

impl Shares {
    /// Takes a slot for a receiver, if one is left.
    pub(super) fn take(self: &Arc<Self>, receiver: &str) -> Option<Share> {
        let mut counts = self.0.lock();
        let count = counts.entry(receiver.to_owned()).or_default();
        if *count >= MOST {
            return None;
        }
        *count += 1;
        Some(Share { of: self.clone(), receiver: receiver.to_owned() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock();
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
        let taken: Vec<_> = (0..MOST).map(|_| shares.take("slow:443").unwrap()).collect();
        assert!(shares.take("slow:443").is_none() && shares.take("quick:443").is_some());
        drop(taken);
        assert!(shares.take("slow:443").is_some() && shares.0.lock().is_empty());
    }
}
