//! Requests of a process to its operating system: the highest limit on open files, and protection from inspection by
//! other processes.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit on open files before this process raised it; `None` if unlimited.
static ORIGINAL: OnceLock<Option<u64>> = OnceLock::new();

/// Raises this process's limit on open files as far as the system allows. Returns the limit in effect afterwards;
/// `None` if unlimited.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    ORIGINAL.get_or_init(|| limit.current);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// The soft limit before it was raised: for programs that this process starts. A program that uses `select` fails with
/// descriptors above 1023, so none should get a raised limit that it did not request.
#[must_use]
pub fn open_files_before() -> Option<u64> {
    ORIGINAL.get().copied().unwrap_or_else(|| getrlimit(Resource::Nofile).current)
}

/// Sets the soft limit on open files, such as back to [`open_files_before`].
///
/// # Errors
/// If the limit is above the hard limit.
pub fn limit_open_files(max: Option<u64>) -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: max, ..limit })?)
}

/// Prevents other processes of the same user from reading this one: its memory, and through `/proc` its environment and
/// open files. The process then leaves no core dump, and a debugger needs root privileges.
///
/// The environment contains the address of Redis with its password, and commands run as the worker's user. A child
/// process is readable until it calls this itself.
pub fn forbid_inspection() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // The call fails only for an unknown value; a readable process still works.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}
