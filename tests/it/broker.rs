//! The broker against a real Redis: every verb, in every order we can think of and in thousands we cannot.

pub(crate) mod driver;
mod dump;
mod fast_path;
mod model;
mod moves;
pub(crate) mod mutants;
mod operation;
mod properties;
mod reads;
mod scenarios;
mod snapshot;
