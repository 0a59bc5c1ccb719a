//! The directory of a child for large values.

use std::ffi::OsString;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::process::temporary_directory;

/// A directory, deleted with this value. A launcher deletes it too: the worker may be killed.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Creates a directory for a child with this environment. Without one, for example because the disk is read-only, a
    /// child gets and sends all values over its pipes.
    pub(crate) fn create(environment: &[(OsString, OsString)]) -> Option<Self> {
        let parent = Path::new(temporary_directory(environment));
        let directory = parent.join(format!("crunch-{}", Uuid::new_v4().simple()));
        let created = fs::DirBuilder::new().mode(0o700).create(&directory);
        created.ok().map(|()| Self(directory))
    }
}

impl Deref for Directory {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // An empty one needs no descriptor: there may be none, and then no child can be started in it either. Nothing can be
        // done about files that another user put there.
        let _ = fs::remove_dir(&self.0).or_else(|_| fs::remove_dir_all(&self.0));
    }
}
