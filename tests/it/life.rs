//! Jobs from submission to end, with real processes: API, Redis, workers.

mod attempts;
mod batches;
mod cancel;
mod outcomes;
mod timing;
mod waits;
