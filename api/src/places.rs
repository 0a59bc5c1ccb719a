//! Limits the requests that wait: a request whose answer is delayed and an event stream take a place each, for minutes
//! or hours. There are fewer places than connections, and one caller gets only some of them, so that waiting requests
//! do not block others.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::http::header;
use parking_lot::Mutex;

use crate::auth::Identity;
use crate::budget::overloaded;
use crate::metrics::{self, Sum};
use crate::problem::{Problem, TOO_MANY_WAITING};

/// `Retry-After` of a request that finds no place, in seconds: places become free as jobs end, and not within one
/// second.
pub(crate) const LATER: &str = "5";

/// The places of one API.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    max_per_caller: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of_caller: HashMap<Identity, usize>,
}

impl Places {
    /// Four of five connections may wait. One caller gets half of these places, unless configured otherwise.
    pub(crate) fn new(connections: usize, max_per_caller: Option<usize>) -> Self {
        let max = (connections / 5 * 4 + connections % 5 * 4 / 5).max(1);
        let max_per_caller = max_per_caller.unwrap_or(max.div_ceil(2));
        Self { max, max_per_caller, taken: Mutex::default() }
    }

    /// Takes a place for one request of a caller.
    ///
    /// # Errors
    /// 429 if the caller has its maximum, 503 if no place is free.
    pub(crate) fn take(self: &Arc<Self>, caller: Identity) -> Result<Place, Problem> {
        let mut taken = self.taken.lock();
        if taken.all >= self.max {
            return Err(overloaded(Sum::Waiting).header(header::RETRY_AFTER, LATER));
        }
        let of_caller = taken.of_caller.get(&caller).copied().unwrap_or(0);
        if of_caller >= self.max_per_caller {
            metrics::refused(Sum::Waiting);
            let max = self.max_per_caller;
            let detail = format!("this caller already has {max} waiting requests, the maximum");
            let problem = Problem::new(TOO_MANY_WAITING, detail);
            return Err(problem.header(header::RETRY_AFTER, LATER));
        }
        taken.all += 1;
        taken.of_caller.insert(caller.clone(), of_caller + 1);
        Ok(Place { places: self.clone(), caller })
    }
}

/// A taken place; released when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    caller: Identity,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.of_caller.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                taken.of_caller.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(last: u8) -> Identity {
        Identity::Address(Some([10, 0, 0, last].into()))
    }

    #[test]
    fn a_caller_has_its_share_and_all_have_fewer_places_than_connections() {
        let places = Arc::new(Places::new(10, None));
        let first: Vec<_> = (0..4).map(|_| places.take(caller(1)).unwrap()).collect();
        assert_eq!(places.take(caller(1)).unwrap_err().kind, TOO_MANY_WAITING);
        let second: Vec<_> = (0..4).map(|_| places.take(caller(2)).unwrap()).collect();
        assert_eq!(places.take(caller(3)).unwrap_err().kind.slug, "overloaded");
        drop(first);
        assert!(places.take(caller(3)).is_ok());
        drop(second);
        let taken = places.taken.lock();
        assert_eq!((taken.all, taken.of_caller.len()), (0, 0));
    }

    #[test]
    fn there_is_always_a_place() {
        for connections in 1..=20 {
            let places = Places::new(connections, None);
            assert!(places.max >= 1 && places.max <= connections, "{places:?}");
            assert!((1..=places.max).contains(&places.max_per_caller), "{places:?}");
        }
        assert_eq!(Places::new(20_000, None).max, 16_000);
        assert_eq!(Places::new(20_000, Some(7)).max_per_caller, 7);
    }
}
