//! The health of loops that call Redis, as they report it: when a call was answered, when one failed, and until when they
//! expect an answer. A loop that hangs shows as one that fails.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The pulses of all loops of a process. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Arc<Mutex<Vec<Pulse>>>);

impl Pulses {
    /// Adds a new loop's pulse. It is not healthy before its first success.
    pub fn add(&self, name: impl Into<Arc<str>>) -> Pulse {
        let pulse = Pulse::new(name.into());
        self.0.lock().push(pulse.clone());
        pulse
    }

    /// Returns what is wrong at that time, with the name of each loop.
    #[must_use]
    pub fn problems(&self, now: Instant) -> Vec<String> {
        self.0.lock().iter().filter_map(|pulse| pulse.problem(now)).collect()
    }

    /// Returns the time since the last success of each kind of loop; of several the longest.
    #[must_use]
    pub fn ages(&self, now: Instant) -> BTreeMap<String, Duration> {
        let mut ages = BTreeMap::<String, Duration>::new();
        for pulse in self.0.lock().iter() {
            if let Some(age) = pulse.age(now) {
                let longest = ages.entry(pulse.kind().to_owned()).or_default();
                *longest = age.max(*longest);
            }
        }
        ages
    }
}

/// The pulse of one loop, or of several that work together: one that waits for work and those that claim it. Clones
/// share their state.
#[derive(Debug, Clone)]
pub struct Pulse {
    /// The first word is the kind of loop.
    name: Arc<str>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last_success: Option<Instant>,
    /// Why the last call failed, until one succeeds.
    failing: Option<String>,
    /// Until when reports are expected, each with its own number.
    expected: Vec<(u64, Instant)>,
    last_number: u64,
    panicked: bool,
}

/// A report is expected in time; not any more when this is dropped.
#[derive(Debug)]
#[must_use = "nothing is expected after this is dropped"]
pub struct Expected {
    pulse: Pulse,
    number: u64,
}

impl Pulse {
    fn new(name: Arc<str>) -> Self {
        Self { name, state: Arc::default() }
    }

    fn kind(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }

    /// Records an answer of Redis.
    pub fn answered(&self) {
        let mut state = self.state.lock();
        state.last_success = Some(Instant::now());
        state.failing = None;
    }

    /// Records that Redis did not answer, or not correctly.
    pub fn failed(&self, error: impl Display) {
        self.state.lock().failing = Some(error.to_string());
    }

    /// Expects a report within that time, until the returned value is dropped.
    pub fn expects(&self, within: Duration) -> Expected {
        let mut state = self.state.lock();
        state.last_number += 1;
        let number = state.last_number;
        state.expected.push((number, Instant::now() + within));
        Expected { pulse: self.clone(), number }
    }

    /// Returns what is wrong at that time.
    #[must_use]
    pub fn problem(&self, now: Instant) -> Option<String> {
        let state = self.state.lock();
        let silence = || state.last_success.map_or(0.0, |at| (now - at).as_secs_f64());
        let what = if state.panicked {
            "ended by a panic".to_owned()
        } else if let Some(error) = &state.failing {
            error.clone()
        } else if state.last_success.is_none() {
            "has not been answered yet".to_owned()
        } else if state.expected.iter().any(|&(_, until)| until < now) {
            format!("not answered for {:.1} s", silence())
        } else {
            return None;
        };
        Some(format!("{}: {what}", self.name))
    }

    /// Returns the time since the last success.
    fn age(&self, now: Instant) -> Option<Duration> {
        self.state.lock().last_success.map(|at| now.saturating_duration_since(at))
    }
}

impl Drop for Pulse {
    /// Records a panic: a loop that panics drops its pulse while it unwinds, and nothing else would report it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state.lock().panicked = true;
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.pulse.state.lock().expected.retain(|&(number, _)| number != self.number);
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
            pulse.problem(Instant::now()).as_deref(),
            Some("listener: has not been answered yet")
        );
        pulse.answered();
        assert_eq!(pulse.problem(Instant::now()), None);
        pulse.failed("gone");
        assert_eq!(pulse.problem(Instant::now()).as_deref(), Some("listener: gone"));
        pulse.answered();
        assert_eq!(pulse.problem(Instant::now()), None);
    }

    #[test]
    fn what_is_overdue_is_trouble_only_while_it_is_expected() {
        let (pulse, second) = (pulse(), Duration::from_secs(1));
        pulse.answered();
        let late = Instant::now() + 3 * second;
        let (soon, later) = (pulse.expects(second), pulse.expects(60 * second));
        assert_eq!(pulse.problem(Instant::now()), None);
        assert!(pulse.problem(late).unwrap().starts_with("listener: not answered for 3"));
        drop(soon);
        assert_eq!(pulse.problem(late), None);
        assert_eq!(pulse.age(late).map(|age| age.as_secs()), Some(3));
        drop(later);
        assert_eq!(pulse.problem(late + 100 * second), None);
    }

    #[test]
    fn a_loop_that_panicked_is_never_well_again() {
        let pulse = pulse();
        pulse.answered();
        let clone = pulse.clone();
        let panicked = std::thread::spawn(move || {
            let _pulse = clone;
            panic!("on purpose");
        });
        assert!(panicked.join().is_err());
        assert_eq!(pulse.problem(Instant::now()).as_deref(), Some("listener: ended by a panic"));
    }
}
