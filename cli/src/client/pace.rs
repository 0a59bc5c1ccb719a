//! When a request is repeated, and for how long.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// The first pause; each one is twice as long as the one before.
const FIRST: Duration = Duration::from_millis(100);
/// The longest: an API that is back is found within a second.
const LONGEST: Duration = Duration::from_secs(1);
/// An outage that is shorter is not worth a message.
const SHORT: Duration = Duration::from_secs(1);

/// The repetitions of one request.
#[derive(Debug)]
pub(super) struct Pace {
    allowed: Duration,
    /// No pause ends later.
    deadline: Option<Instant>,
    since: Option<Instant>,
    next: Duration,
    is_reported: bool,
}

impl Pace {
    pub(super) fn new(allowed: Duration) -> Self {
        Self { allowed, deadline: None, since: None, next: FIRST, is_reported: false }
    }

    /// The same with a deadline.
    pub(super) fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// Begins again: there was an answer.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.allowed).until(self.deadline);
    }

    /// Whether the outage is long enough to be reported, and is not yet.
    pub(super) fn is_worth_a_message(&mut self) -> bool {
        let is_long = self.since.is_some_and(|since| since.elapsed() >= SHORT);
        is_long && !std::mem::replace(&mut self.is_reported, is_long)
    }

    /// Waits as long as the API asked for, or a little longer each time; returns false if the time is over.
    pub(super) fn wait(&mut self, retry_after: Option<Duration>) -> bool {
        let ends = *self.since.get_or_insert_with(Instant::now) + self.allowed;
        let ends = self.deadline.map_or(ends, |deadline| deadline.min(ends));
        let left = ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(retry_after.unwrap_or(self.next).max(FIRST).min(left));
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pause_ends_after_the_deadline() {
        let started = Instant::now();
        let deadline = started + Duration::from_millis(200);
        let mut pace = Pace::new(Duration::from_secs(60)).until(Some(deadline));
        assert!(pace.wait(Some(Duration::from_secs(60))));
        assert!(!pace.wait(None), "the time is over");
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        pace.reset();
        assert!(!pace.wait(None), "an answer moves no deadline");
    }
}
