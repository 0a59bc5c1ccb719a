//! What it costs to have everything on disk: the same drain with the append-only file, flushed every second, and
//! without it, in turn.

use crate::drain::{self, drain};
use crate::metrics::Unit;
use crate::session::Session;
use crate::testbed::{ON_DISK, SHIPPED};

/// Size of the measurement.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Arguments {
    #[command(flatten)]
    drain: drain::Arguments,
    /// Number of measurements of both in a run; the sums are compared.
    #[arg(long, default_value_t = 2)]
    turns: u32,
}

/// Runs the benchmark.
pub(crate) async fn measure(session: &mut Session, arguments: &Arguments) {
    session.refresh_control();
    let (mut with, mut without) = (0.0, 0.0);
    for _ in 0..arguments.turns {
        with += drain(ON_DISK, 1, &arguments.drain).await.rate();
        without += drain(SHIPPED, 1, &arguments.drain).await.rate();
    }
    let turns = f64::from(arguments.turns);
    session.record("safety: drain with appendfsync everysec", with / turns, Unit::PerSecond);
    session.record("safety: drain without", without / turns, Unit::PerSecond);
    session.record("safety: with / without", with / without, Unit::Times);
}
