//! What one loop says of itself.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One loop's pulse, or that of several that are one: whoever waits for work and whoever takes it. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    /// Its first word is the kind of loop.
    name: Arc<str>,
    vital: Arc<Mutex<Vital>>,
}

#[derive(Debug, Default)]
struct Vital {
    last_success: Option<Instant>,
    /// Why the last call failed, until one does not.
    failing: Option<String>,
    /// Until when something is to be heard, each under a number of its own.
    expected: Vec<(u64, Instant)>,
    numbers: u64,
    panicked: bool,
}

/// Something is to be heard in time; not any more when this is dropped.
#[derive(Debug)]
#[must_use = "what is dropped is not expected any more"]
pub(crate) struct Expected {
    pulse: Pulse,
    number: u64,
}

impl Pulse {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self { name, vital: Arc::default() }
    }

    pub(super) fn kind(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }

    /// Redis has answered.
    pub(crate) fn answered(&self) {
        let mut vital = self.lock();
        vital.last_success = Some(Instant::now());
        vital.failing = None;
    }

    /// Redis has not, or not as it should.
    pub(crate) fn failed(&self, error: impl Display) {
        self.lock().failing = Some(error.to_string());
    }

    /// Until the value is dropped it is known that something is to be heard within that time.
    pub(crate) fn expects(&self, within: Duration) -> Expected {
        let mut vital = self.lock();
        vital.numbers += 1;
        let number = vital.numbers;
        vital.expected.push((number, Instant::now() + within));
        Expected { pulse: self.clone(), number }
    }

    /// What is wrong at that moment.
    pub(crate) fn trouble(&self, now: Instant) -> Option<String> {
        let vital = self.lock();
        let silence = || vital.last_success.map_or(0.0, |at| (now - at).as_secs_f64());
        let what = if vital.panicked {
            "ended by a panic".to_owned()
        } else if let Some(error) = &vital.failing {
            error.clone()
        } else if vital.last_success.is_none() {
            "has not been answered yet".to_owned()
        } else if vital.expected.iter().any(|&(_, until)| until < now) {
            format!("not answered for {:.1} s", silence())
        } else {
            return None;
        };
        Some(format!("{}: {what}", self.name))
    }

    /// Time since the last success.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        self.lock().last_success.map(|at| now.saturating_duration_since(at))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vital> {
        // Each change is whole: a panic elsewhere leaves nothing half done.
        self.vital.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pulse {
    /// A loop that panics drops its pulse on the way down: nobody else would tell.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lock().panicked = true;
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.pulse.lock().expected.retain(|&(number, _)| number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse() -> Pulse {
        Pulse::new("listener".into())
    }

    #[test]
    fn a_failure_lasts_until_the_next_success() {
        let pulse = pulse();
        assert_eq!(
            pulse.trouble(Instant::now()).as_deref(),
            Some("listener: has not been answered yet")
        );
        pulse.answered();
        assert_eq!(pulse.trouble(Instant::now()), None);
        pulse.failed("gone");
        assert_eq!(pulse.trouble(Instant::now()).as_deref(), Some("listener: gone"));
        pulse.answered();
        assert_eq!(pulse.trouble(Instant::now()), None);
    }

    #[test]
    fn what_is_overdue_is_trouble_only_while_it_is_expected() {
        let (pulse, second) = (pulse(), Duration::from_secs(1));
        pulse.answered();
        let late = Instant::now() + 3 * second;
        let (soon, later) = (pulse.expects(second), pulse.expects(60 * second));
        assert_eq!(pulse.trouble(Instant::now()), None);
        assert!(pulse.trouble(late).unwrap().starts_with("listener: not answered for 3"));
        drop(soon);
        assert_eq!(pulse.trouble(late), None);
        assert_eq!(pulse.age(late).map(|age| age.as_secs()), Some(3));
        drop(later);
        assert_eq!(pulse.trouble(late + 100 * second), None);
    }

    #[test]
    fn a_loop_that_panicked_is_never_well_again() {
        let pulse = pulse();
        pulse.answered();
        let of_loop = pulse.clone();
        let panicked = std::thread::spawn(move || {
            let _pulse = of_loop;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(pulse.trouble(Instant::now()).as_deref(), Some("listener: ended by a panic"));
    }
}
