//! The tasks that ship with the stock worker: real computations, and the proof that handlers are plain functions.
//!
//! Nothing here knows of queues, leases or Redis; `docs/shipped-tasks.md` tells clients what each takes and gives.

mod crunch;
mod simulation;
mod slab;
mod thumbnail;

pub use crunch::{Crunch, CrunchResult, Estimate, crunch};
pub use thumbnail::{MAX_PAYLOAD_BYTES as THUMBNAIL_MAX_PAYLOAD_BYTES, thumbnail};
