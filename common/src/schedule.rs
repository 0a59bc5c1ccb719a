//! Schedules: when a job is submitted by itself, again and again.
//!
//! This module computes *ticks*: the times of a schedule. It reads no clock and knows no Redis; the broker stores
//! schedules and submits their jobs (`broker/schedules.rs`), and APIs do so when a tick is due.
//!
//! A tick is a whole number of milliseconds since 1970: its *nominal* time, by which it is known. It is *due* at that time
//! plus its jitter.

#[cfg(test)]
mod clock_changes;
mod cron;
mod missed;
mod plan;
mod timing;
mod zone;

pub use cron::{CronLine, InvalidCron};
pub use missed::{Missed, MissedPolicy};
pub use plan::{MAX_COUNTED, Plan};
pub use timing::{InvalidTiming, Rule, Timing, Uncomputable};
pub use zone::{InvalidZone, ZONES_VERSION, Zone};

/// Options of a submission that the jobs of a schedule cannot have: it decides itself when they start, and that each is one.
pub const EXCLUDED_OPTIONS: [&str; 3] = ["delay_ms", "run_at", "idempotency_key"];

crate::name::checked_name! {
    /// Name of a schedule: 1–64 characters of `[a-z0-9_.-]`, starting with a letter or digit.
    ScheduleName
}

crate::word_enum! {
    /// What becomes of a tick while the job of an earlier tick has not ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum Overlap {
        /// Nothing: it is skipped.
        #[default]
        Skip = "skip",
        /// Its job is submitted when that one has ended; further ticks until then are skipped.
        BufferOne = "buffer_one",
        /// That job is canceled, and the job of the newest tick is submitted when it has ended.
        CancelPrevious = "cancel_previous",
        /// Its job is submitted, and both run.
        Allow = "allow",
    }
}
