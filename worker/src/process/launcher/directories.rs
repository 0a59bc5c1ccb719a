//! Whether the directories that a command may write to can be written to.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::{Errno, write};

/// Names the directory of temporary files.
const VARIABLE: &str = "TMPDIR";
/// Where they are if nothing else is named.
const DEFAULT: &str = "/tmp";

/// The directory of temporary files of a command with that environment.
pub(super) fn temporary(environment: &[(OsString, OsString)]) -> &OsStr {
    // Later ones replace earlier ones.
    let named = environment.iter().rev().find(|(name, _)| name == VARIABLE);
    named
        .map(|(_, path)| path.as_os_str())
        .filter(|path| !path.is_empty())
        .unwrap_or(DEFAULT.as_ref())
}

/// Writes a byte to a file without a name, which is gone at once.
///
/// # Errors
/// If the disk or the user's part of it is full. A directory that is missing or read-only may be so on purpose: not every
/// command needs it.
pub(super) fn check_room(directory: &Path) -> Result<(), Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let written =
        open(directory, flags, Mode::RUSR | Mode::WUSR).and_then(|file| write(file, b"x"));
    match written {
        Err(full @ (Errno::NOSPC | Errno::DQUOT)) => Err(full),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Looks whether a directory that could be written to once still can be.
///
/// # Errors
/// If it belongs to a file system that has become read-only, or to somebody else now. That it is gone is not for here: nothing
/// starts in it.
pub(super) fn check_writable(directory: &Path) -> Result<(), Errno> {
    match access(directory, Access::WRITE_OK) {
        Err(refused @ (Errno::ROFS | Errno::ACCESS)) => Err(refused),
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
