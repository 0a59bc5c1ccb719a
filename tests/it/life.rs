//! The life of jobs through real processes: API, Redis, workers.

mod attempts;
mod cancel;
mod outcomes;
mod timing;
