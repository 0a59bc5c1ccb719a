//! The tasks that ship with the stock worker: real computations, and a proof that handlers are plain functions.
//!
//! Independent of queues, leases and Redis; `docs/shipped-tasks.md` documents for clients what each takes and returns.

mod crunch;
mod simulation;
mod slab;
mod thumbnail;

use crate::Task;

pub use crunch::{Crunch, CrunchResult, Estimate, crunch};
pub use thumbnail::{MAX_PAYLOAD_BYTES as THUMBNAIL_MAX_PAYLOAD_BYTES, thumbnail};

/// Returns the tasks that ship with the stock worker.
///
/// ```
/// let names: Vec<_> =
///     crunch_worker::tasks::builtin().iter().map(|task| task.name().to_string()).collect();
/// assert_eq!(names, ["crunch", "image.thumbnail"]);
/// ```
#[must_use]
pub fn builtin() -> Vec<Task> {
    vec![
        Task::blocking("crunch", crunch)
            .payload_schema::<Crunch>()
            .result_schema::<CrunchResult>()
            .description("Monte Carlo light transport through an absorbing, scattering slab."),
        Task::raw_blocking("image.thumbnail", thumbnail)
            .description("A PNG of a JPEG or PNG, its longest side as in metadata.size.")
            .accepts(&["image/png", "image/jpeg"])
            .content_type("image/png")
            .max_payload(THUMBNAIL_MAX_PAYLOAD_BYTES),
    ]
}
