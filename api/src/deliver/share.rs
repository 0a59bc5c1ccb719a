//! How many slots one receiver may hold: one that takes connections and never answers must not keep all others waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A quarter of the slots.
const MOST: usize = 8;

/// Receivers to which something is under way.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<HashMap<String, usize>>);

/// A place at one receiver; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Shares>,
    receiver: String,
}

impl Shares {
    /// A place at that receiver, if one is left.
    pub(super) fn take(self: &Arc<Self>, receiver: &str) -> Option<Share> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.entry(receiver.to_owned()).or_default();
        if *held >= MOST {
            return None;
        }
        *held += 1;
        Some(Share { of: self.clone(), receiver: receiver.to_owned() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = taken.get_mut(&self.receiver) else { return };
        *held -= 1;
        if *held == 0 {
            taken.remove(&self.receiver);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_gets_its_share_and_leaves_nothing_behind() {
        let shares = Arc::new(Shares::default());
        let held: Vec<_> = (0..MOST).map(|_| shares.take("slow:443").unwrap()).collect();
        assert!(shares.take("slow:443").is_none() && shares.take("quick:443").is_some());
        drop(held);
        assert!(shares.take("slow:443").is_some() && shares.0.lock().unwrap().is_empty());
    }
}
