//! The client side of the exchange protocol: claims jobs from Redis, has them run, settles what ended, and keeps the
//! leases meanwhile.
//!
//! Workers use it for jobs, and the API for deliveries of webhooks. Its slots form *pools*, each with its own tasks and
//! queues: a worker's own slots are one, the children of each of its servers another. What runs the jobs of a pool is a
//! [`Runner`]. A [`Consumer`]
//! decides only when to call Redis and what to send: it never runs a job itself, and knows nothing about tasks.
//!
//! | question | file |
//! |---|---|
//! | What is started, and in which order does it stop? | `consumer.rs` |
//! | How does one exchange follow the other? | `processor.rs`; the events it waits for, `inbox.rs` |
//! | What makes an idle consumer exchange? | `listener.rs`; in a large fleet, `share.rs` |
//! | Which partition takes the next idle slots? | `turns.rs` |
//! | What do its pools share? | `slots.rs`, `declared.rs` |
//! | What do the partitions of a pool share? | `connection.rs` |
//! | Which leases do heartbeats extend, and until when? | `heartbeat.rs`, `leases.rs` |
//! | How does the history learn how attempts ended? | `tallies.rs` |
//! | What if Redis is unreachable? | `reachability.rs` |
//! | How does a loop that hangs show? | `pulse.rs` |

#![warn(missing_docs, clippy::missing_errors_doc)]

mod announcer;
mod connection;
mod consumer;
mod declared;
mod heartbeat;
mod inbox;
mod leases;
mod listener;
mod processor;
mod pulse;
mod reachability;
mod rotation;
mod runner;
mod settings;
mod share;
mod slots;
mod start;
mod tallies;
mod turns;
mod upload;

pub use consumer::Consumer;
pub use declared::Announced;
pub use leases::Leases;
pub use pulse::{Expected, Pulse, Pulses};
pub use reachability::Reachability;
pub use rotation::Rotation;
pub use runner::{Ended, Monitor, Runner};
pub use settings::{PoolSettings, Settings, Threads};
use slots::Slots;
pub use slots::{PoolSlots, Slot, SlotGauges};
pub use tallies::Tallies;
