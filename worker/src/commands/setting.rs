//! What holds for every declaration of a file.

use std::ffi::OsString;
use std::path::PathBuf;

/// What a file is read in.
#[derive(Debug)]
pub(super) struct Setting {
    /// Where paths start.
    pub(super) folder: PathBuf,
    /// The worker's environment.
    pub(super) worker: Vec<(OsString, OsString)>,
    /// How much a command may write, in bytes.
    pub(super) max_result: usize,
}
