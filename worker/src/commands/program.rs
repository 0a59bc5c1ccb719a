//! Finds the program that a command's first word names, and decides which variables the command may get.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::process::variable;

/// The address of Redis. It contains a password, and a command must have no access to Redis.
const BROKER: &str = "CRUNCH_REDIS_URL";

/// Variables of the worker's environment that are passed on by default, in addition to `LC_*`.
const KEPT: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

/// Whether a variable of the worker's environment is passed on by default.
pub(super) fn is_kept(name: &OsStr) -> bool {
    KEPT.iter().any(|kept| name == *kept) || name.as_encoded_bytes().starts_with(b"LC_")
}

/// Rejects variables that cannot be set, or not by a file.
pub(super) fn check_variable(name: &str) -> Result<(), String> {
    match name {
        BROKER => {
            Err(format!("{BROKER} is never given to a command: it gives full access to Redis"))
        }
        ours if variable::ALL.contains(&ours) => Err(format!("{ours} is set by the worker")),
        "" => Err("a variable needs a name".to_owned()),
        invalid if invalid.contains(['=', '\0']) => {
            Err(format!("{invalid:?} cannot be the name of a variable"))
        }
        _ => Ok(()),
    }
}

/// Finds the program for a command's first word: with a slash a path relative to the file's directory, without one a
/// name in `PATH`.
///
/// # Errors
/// What is wrong, and how to fix it.
pub(super) fn find(word: &str, folder: &Path, path: Option<&OsStr>) -> Result<OsString, String> {
    if word.is_empty() {
        return Err("the first word names the program; it is empty".to_owned());
    }
    if word.contains('/') {
        let program = folder.join(word);
        return check(&program).map(|()| program.into());
    }
    let folders = path.map(std::env::split_paths).into_iter().flatten();
    let candidates: Vec<PathBuf> = folders.map(|folder| folder.join(word)).collect();
    if candidates.iter().any(|candidate| check(candidate).is_ok()) {
        return Ok(word.into());
    }
    if check(&folder.join(word)).is_ok() {
        return Err(format!(
            "no program {word:?} in PATH; to run the one next to this file, write \"./{word}\""
        ));
    }
    // A file that exists but is not executable explains more than a missing program.
    let found = candidates.iter().find(|candidate| candidate.is_file());
    Err(found.and_then(|found| check(found).err()).unwrap_or_else(|| {
        let path = path.unwrap_or_default().display();
        format!("no program {word:?} in PATH ({path}); install it, or write its path")
    }))
}

fn check(program: &Path) -> Result<(), String> {
    let shown = program.display();
    match program.metadata() {
        Err(error) => Err(format!("no program {shown}: {error}")),
        Ok(metadata) if !metadata.is_file() => Err(format!("{shown} is not a file")),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Err(format!(
            "{shown} is not executable; run chmod +x on it, or put its interpreter first"
        )),
        Ok(_) => Ok(()),
    }
}
