//! Samples of durations, and how they are shown.

use std::time::Duration;

/// Durations of one kind, sorted.
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// # Panics
    /// If there are none.
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort_unstable();
        Self(samples)
    }

    /// The smallest duration that at least this share of the samples does not exceed (nearest rank).
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    /// Prints one line: what, p50, p99, the worst, and the ratio of the p50 to the control's.
    pub(crate) fn print(&self, what: &str, control: &Self) {
        let [half, most, worst] =
            [0.5, 0.99, 1.0].map(|share| self.quantile(share).as_secs_f64() * 1e3);
        let ratio = self.quantile(0.5).as_secs_f64() / control.quantile(0.5).as_secs_f64();
        println!("{what:<44} {half:>9.3} {most:>9.3} {worst:>9.3} {ratio:>8.1}");
    }
}
