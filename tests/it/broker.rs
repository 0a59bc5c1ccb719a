//! The broker against a real Redis: every verb, in chosen orders and in thousands of random ones.

pub(crate) mod driver;
mod dump;
mod fast_path;
mod indexes;
mod model;
mod moves;
pub(crate) mod mutants;
mod operation;
mod properties;
mod reads;
mod scenarios;
pub(crate) mod simulated;
mod snapshot;
