//! The file in which keys are kept: read whole, replaced whole, so that nobody ever sees half of it.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Key;

/// Nobody hands out more keys by a file, and each request's look-up stays a matter of nanoseconds.
const MOST_KEYS: usize = 100_000;
/// What so many keys need; a larger file is another one.
const LARGEST: u64 = 64 * 1024 * 1024;
/// The bits that let others change the file, and so make keys for themselves.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const READABLE_BY_ANYBODY: u32 = 0o004;

/// Why keys cannot be had, or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It is not there, or not for us.
    #[error("{path}: {source}{}", if source.kind() == io::ErrorKind::NotFound { "; `crunch-api keys create` makes it" } else { "" })]
    Unreachable {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not a file of keys.
    #[error("{path}: {reason}")]
    Broken {
        /// Where it is.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Somebody else could write keys into it.
    #[error(
        "{path} can be written by others (mode {mode:04o}), who could make keys for themselves: chmod 600 {path}"
    )]
    Exposed {
        /// Where it is.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// What tells one state of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A place where keys are kept.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile {
    path: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    keys: Vec<Key>,
}

impl KeyFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file is like now; `None` if it cannot be looked at.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata))
    }

    /// Reads all keys.
    pub(crate) fn read(&self) -> Result<Vec<Key>, FileError> {
        let file = File::open(&self.path).map_err(|source| self.unreachable(source))?;
        let metadata = file.metadata().map_err(|source| self.unreachable(source))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(FileError::Exposed { path: self.path.clone(), mode });
        }
        if mode & READABLE_BY_ANYBODY != 0 {
            let path = self.path.display();
            tracing::warn!(%path, "everybody on this machine can read who has keys; chmod 600 keeps it to us");
        }
        if metadata.len() > LARGEST {
            return Err(self.broken("it is far too large to be a file of keys"));
        }
        let text = io::read_to_string(file).map_err(|source| self.unreachable(source))?;
        let contents: Contents =
            serde_json::from_str(&text).map_err(|error| self.broken(error.to_string()))?;
        self.check(&contents.keys)?;
        Ok(contents.keys)
    }

    fn check(&self, keys: &[Key]) -> Result<(), FileError> {
        if keys.len() > MOST_KEYS {
            return Err(self.broken(format!("it has more than {MOST_KEYS} keys")));
        }
        let mut seen = HashSet::new();
        for key in keys {
            if key.id.is_the_example() {
                let reason = "the key of the documentation is known to everybody; make one with `crunch-api keys create`";
                return Err(self.broken(reason));
            }
            if !seen.insert(&key.id) {
                return Err(self.broken(format!("the id {} stands there twice", key.id)));
            }
        }
        Ok(())
    }

    /// Changes the keys, one command after another. A file that is not there yet has none.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<Key>) -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = File::open(directory).map_err(|source| self.unreachable(source))?;
        // The directory is what stays when the file is replaced; its lock ends with this value.
        directory.lock().map_err(|source| self.unreachable(source))?;
        let mut keys = match self.read() {
            Err(FileError::Unreachable { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Vec::new()
            }
            read => read?,
        };
        let outcome = change(&mut keys)?;
        self.check(&keys)?;
        let replaced = self.replace(keys).and_then(|()| directory.sync_all());
        replaced.map_err(|source| self.unreachable(source))?;
        Ok(outcome)
    }

    /// Writes a new file beside the old one and puts it in its place. It is as open as the old one was; a first one is ours
    /// alone.
    fn replace(&self, keys: Vec<Key>) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let beside = self.path.with_file_name(name);
        let written = (|| {
            let _ = fs::remove_file(&beside);
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            if let Ok(old) = fs::metadata(&self.path) {
                // Root may change the keys of a service that runs as somebody else, who must be able to read them.
                let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
                file.set_permissions(old.permissions())?;
            }
            let text = serde_json::to_string_pretty(&Contents { keys })?;
            writeln!(file, "{text}")?;
            file.sync_all()?;
            fs::rename(&beside, &self.path)
        })();
        written.inspect_err(|_| drop(fs::remove_file(&beside)))
    }

    fn unreachable(&self, source: io::Error) -> FileError {
        FileError::Unreachable { path: self.path.clone(), source }
    }

    pub(crate) fn broken(&self, reason: impl Into<String>) -> FileError {
        FileError::Broken { path: self.path.clone(), reason: reason.into() }
    }
}
