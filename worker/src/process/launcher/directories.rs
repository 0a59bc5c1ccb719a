//! Checks whether the directories that a command may write to are writable.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::{Errno, write};

/// The variable that sets the directory of temporary files.
const VARIABLE: &str = "TMPDIR";
/// That directory if the variable is not set.
const DEFAULT: &str = "/tmp";

/// Returns the directory of temporary files of a command with this environment.
pub(crate) fn temporary(environment: &[(OsString, OsString)]) -> &OsStr {
    // Later ones replace earlier ones.
    let named = environment.iter().rev().find(|(name, _)| name == VARIABLE);
    named
        .map(|(_, path)| path.as_os_str())
        .filter(|path| !path.is_empty())
        .unwrap_or(DEFAULT.as_ref())
}

/// Writes a byte to an unnamed file, which is deleted at once.
///
/// # Errors
/// If the disk or the user's quota is full. A directory may be missing or read-only on purpose: not every command needs
/// it.
pub(super) fn check_room(directory: &Path) -> Result<(), Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let written =
        open(directory, flags, Mode::RUSR | Mode::WUSR).and_then(|file| write(file, b"x"));
    match written {
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Checks whether a directory that was writable still is.
///
/// # Errors
/// If its file system has become read-only, or this user may no longer write to it. A missing directory is not an error
/// here: the start of the command fails on it.
pub(super) fn check_writable(directory: &Path) -> Result<(), Errno> {
    match access(directory, Access::WRITE_OK) {
        Err(error @ (Errno::ROFS | Errno::ACCESS)) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_the_last_that_is_named() {
        let named = |values: &[&str]| {
            let variables = values.iter().map(|value| (VARIABLE.into(), value.into()));
            temporary(&variables.collect::<Vec<_>>()).to_owned()
        };
        assert_eq!(named(&[]), DEFAULT);
        assert_eq!(named(&["/a", "/b"]), "/b");
        assert_eq!(named(&["/a", ""]), DEFAULT);
    }

    #[test]
    fn a_directory_with_room_passes_and_leaves_no_file_and_so_does_a_missing_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check_room(folder.path()), Ok(()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(check_room(Path::new("/nowhere")), Ok(()));
    }
}
