//! Which file a command's first word names, and the environment the command will see.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::process::variable;

/// What the address of Redis stands in. It carries a password, and a command has no business there.
const BROKER: &str = "CRUNCH_REDIS_URL";

/// What is kept of the worker's environment without being asked for, beside `LC_*`.
const KEPT: [&str; 6] = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"];

/// Whether a variable is kept of the worker's environment.
pub(super) fn is_kept(name: &OsStr) -> bool {
    KEPT.iter().any(|kept| name == *kept) || name.as_encoded_bytes().starts_with(b"LC_")
}

/// Refuses variables that cannot be set, or not by a file.
pub(super) fn check_variable(name: &str) -> Result<(), String> {
    match name {
        BROKER => Err(format!("{BROKER} is never given to a command: it lets in whoever knows it")),
        ours if variable::ALL.contains(&ours) => {
            Err(format!("{ours} is set by the worker, for each job"))
        }
        "" => Err("a variable needs a name".to_owned()),
        odd if odd.contains(['=', '\0']) => {
            Err(format!("{odd:?} cannot be the name of a variable"))
        }
        _ => Ok(()),
    }
}

/// What to start for a command's first word: with a slash a path from the file's folder, without one a name in `PATH`.
///
/// # Errors
/// What is wrong, and what to do.
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
            "no program {word:?} in PATH; for the one beside this file write \"./{word}\""
        ));
    }
    // One that is there and may not be run explains more than none at all.
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
        Ok(metadata) if !metadata.is_file() => Err(format!("{shown} is no file")),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Err(format!(
            "{shown} may not be executed; run chmod +x on it, or name its interpreter first"
        )),
        Ok(_) => Ok(()),
    }
}
