//! Schedules with real processes: jobs that are submitted by themselves.

mod files;
mod kills;
mod ticks;
