//! How many jobs a pool claims before a child is free for them.
//!
//! A child that runs a job in a fraction of a millisecond would otherwise wait longer for its next one, which must come
//! from Redis, than it works; and a call to Redis would carry a job or two. So while jobs are short, a few more are
//! claimed, and wait here. A job is claimed ahead only if it is expected to start within [`LONGEST`]; one that waits
//! longer than [`GIVEN_BACK`], because those before it take longer than all others did, goes back to its queue.

use std::time::Duration;

/// How long a job that is claimed ahead should wait, at most: less than a call to Redis takes on many networks.
const LONGEST: Duration = Duration::from_millis(2);
/// After this, a job that waits for a child while all are busy is given back.
pub(super) const GIVEN_BACK: Duration = Duration::from_millis(20);
/// How many jobs are claimed ahead for each that can run at once.
const MOST: usize = 4;
/// And for all of them: so that a pool of many children leaves jobs for other workers.
const MOST_OF_A_POOL: usize = 20;
/// The mean follows the last few dozen jobs: one long job in twenty short ones is enough for it to stop claiming ahead.
const WEIGHT: u32 = 16;

/// How long the children of a pool take for a job.
#[derive(Debug)]
pub(super) struct Ahead {
    mean: Duration,
}

impl Default for Ahead {
    /// Nothing is known: nothing is claimed ahead.
    fn default() -> Self {
        Self { mean: GIVEN_BACK }
    }
}

impl Ahead {
    /// Records that a child has run a job for this long.
    pub(super) fn ended(&mut self, took: Duration) {
        self.mean = (self.mean * (WEIGHT - 1) + took) / WEIGHT;
    }

    /// Records that a job was given back: none is claimed ahead for a while.
    pub(super) fn gave_back(&mut self) {
        self.mean = self.mean.max(GIVEN_BACK);
    }

    /// Returns how many jobs to claim ahead where `slots` can run at once.
    pub(super) fn jobs(&self, slots: usize) -> usize {
        let each = LONGEST.as_nanos() / self.mean.as_nanos().max(1);
        let each = usize::try_from(each).map_or(MOST, |each| each.min(MOST));
        (slots * each).min(MOST_OF_A_POOL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(300);

    fn after(jobs: u32, took: Duration) -> Ahead {
        let mut ahead = Ahead::default();
        (0..jobs).for_each(|_| ahead.ended(took));
        ahead
    }

    #[test]
    fn nothing_is_claimed_ahead_until_jobs_have_been_short_for_a_while() {
        assert_eq!(Ahead::default().jobs(4), 0);
        assert_eq!(after(10, SHORT).jobs(4), 0);
        assert_eq!(after(100, SHORT).jobs(4), 16);
    }

    #[test]
    fn no_more_is_claimed_than_can_start_soon() {
        assert_eq!(after(200, Duration::from_micros(900)).jobs(3), 6);
        assert_eq!(after(200, Duration::from_micros(2100)).jobs(3), 0);
        assert_eq!(after(200, Duration::ZERO).jobs(100), MOST_OF_A_POOL);
        assert_eq!(after(200, SHORT).jobs(0), 0);
    }

    #[test]
    fn a_long_job_ends_it() {
        let mut ahead = after(100, SHORT);
        ahead.ended(Duration::from_millis(50));
        assert_eq!(ahead.jobs(4), 0);
    }

    #[test]
    fn a_job_that_was_given_back_ends_it() {
        let mut ahead = after(100, SHORT);
        ahead.gave_back();
        assert_eq!(ahead.jobs(4), 0);
    }
}
