//! Settings common to all declarations of a file.

use std::ffi::OsString;
use std::path::PathBuf;

/// The context in which a file is read.
#[derive(Debug)]
pub(super) struct Setting {
    /// The directory that paths are relative to.
    pub(super) folder: PathBuf,
    /// The worker's environment.
    pub(super) worker: Vec<(OsString, OsString)>,
    /// The largest result of a command, in bytes.
    pub(super) max_result: usize,
}
