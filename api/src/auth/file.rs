//! The file of API keys: read and replaced as a whole, so that a reader never gets part of it.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ApiKey;

/// More than a file is practical for; with this many, the look-up of each request still takes nanoseconds.
const MAX_KEYS: usize = 100_000;
/// The size of a file with this many keys, in bytes; a larger one is not a file of keys.
const LARGEST: u64 = 64 * 1024 * 1024;
/// The permission bits by which others could change the file, and so add their own keys.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const READABLE_BY_ALL: u32 = 0o004;

/// Why keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file does not exist, or access is denied.
    #[error("{path}: {source}{}", if source.kind() == io::ErrorKind::NotFound { "; `crunch-api keys create` creates it" } else { "" })]
    Unreachable {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file is not a file of keys.
    #[error("{path}: {reason}")]
    Broken {
        /// The path.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// Other users could write keys into the file.
    #[error(
        "{path} is writable by other users (mode {mode:04o}), who could add their own keys: chmod 600 {path}"
    )]
    Exposed {
        /// The path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Identifies a version of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
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

/// Reads and changes a file of keys.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile {
    path: PathBuf,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    keys: Vec<ApiKey>,
}

impl KeyFile {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the current version of the file; `None` if its metadata cannot be read.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata))
    }

    /// Reads all keys.
    pub(crate) fn read(&self) -> Result<Vec<ApiKey>, FileError> {
        let file = File::open(&self.path).map_err(|source| self.unreachable(source))?;
        let metadata = file.metadata().map_err(|source| self.unreachable(source))?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & WRITABLE_BY_OTHERS != 0 {
            return Err(FileError::Exposed { path: self.path.clone(), mode });
        }
        if mode & READABLE_BY_ALL != 0 {
            let path = self.path.display();
            tracing::warn!(%path, "every user of this machine can read the file of API keys; restrict it with chmod 600");
        }
        if metadata.len() > LARGEST {
            return Err(self.broken("the file is too large to be a file of keys"));
        }
        let text = io::read_to_string(file).map_err(|source| self.unreachable(source))?;
        let contents: Contents =
            serde_json::from_str(&text).map_err(|error| self.broken(error.to_string()))?;
        self.check(&contents.keys)?;
        Ok(contents.keys)
    }

    fn check(&self, keys: &[ApiKey]) -> Result<(), FileError> {
        if keys.len() > MAX_KEYS {
            return Err(self.broken(format!("the file has more than {MAX_KEYS} keys")));
        }
        let mut seen = HashSet::new();
        for key in keys {
            if key.id.is_the_example() {
                let reason = "the example key of the documentation is public; create another with `crunch-api keys create`";
                return Err(self.broken(reason));
            }
            if !seen.insert(&key.id) {
                return Err(self.broken(format!("the id {} occurs twice", key.id)));
            }
        }
        Ok(())
    }

    /// Changes the keys under a lock, one process at a time. A file that does not exist yet has none.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<ApiKey>) -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = File::open(directory).map_err(|source| self.unreachable(source))?;
        // The lock is on the directory, because the file is replaced; it is released when this value is dropped.
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

    /// Writes a new file in the same directory and renames it over the old one. It gets the owner and the permissions
    /// of the old one; the first one is readable and writable by its owner only.
    fn replace(&self, keys: Vec<ApiKey>) -> io::Result<()> {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = self.path.with_file_name(name);
        let written = (|| {
            let _ = fs::remove_file(&temporary);
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            if let Ok(old) = fs::metadata(&self.path) {
                // Root may change the keys of a service that runs as another user, who must be able to read them.
                let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
                file.set_permissions(old.permissions())?;
            }
            let text = serde_json::to_string_pretty(&Contents { keys })?;
            writeln!(file, "{text}")?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)
        })();
        written.inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    fn unreachable(&self, source: io::Error) -> FileError {
        FileError::Unreachable { path: self.path.clone(), source }
    }

    pub(crate) fn broken(&self, reason: impl Into<String>) -> FileError {
        FileError::Broken { path: self.path.clone(), reason: reason.into() }
    }
}
