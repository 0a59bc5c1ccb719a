//! What all declarations of a file need to know besides their own text.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where a file is, and the worker that reads it.
#[derive(Debug)]
pub(super) struct FileContext {
    /// The directory that paths are relative to.
    pub(super) folder: PathBuf,
    /// The worker's environment.
    pub(super) environment: Vec<(OsString, OsString)>,
    /// The largest result of a command, in bytes.
    pub(super) max_result: usize,
    /// The number of its slots.
    pub(super) slots: usize,
}
