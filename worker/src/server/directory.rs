//! The directory of a child for large values.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::process::temporary_directory;

/// Creates a directory for a child with this environment; its launcher deletes it. Without one, for example because the
/// disk is read-only, a child gets and sends all values over its pipes.
pub(crate) fn create_directory(environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let parent = Path::new(temporary_directory(environment));
    let directory = parent.join(format!("crunch-{}", Uuid::new_v4().simple()));
    let created = fs::DirBuilder::new().mode(0o700).create(&directory);
    created.ok().map(|()| directory)
}
