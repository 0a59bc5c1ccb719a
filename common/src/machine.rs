//! What a process asks of the system it runs on: as many open files as there may be, and not to be read by its neighbours.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit on open files as this process found it; nothing if there was none.
static FOUND: OnceLock<Option<u64>> = OnceLock::new();

/// Raises this process's limit on open files as far as the system allows. Returns the limit that then holds; nothing if there is
/// none.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    FOUND.get_or_init(|| limit.current);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// The soft limit before it was raised: for programs that are started by this process. One that uses `select` fails with
/// descriptors above 1023, so none should get a raised limit without asking for it.
#[must_use]
pub fn open_files_before() -> Option<u64> {
    FOUND.get().copied().unwrap_or_else(|| getrlimit(Resource::Nofile).current)
}

/// Sets the soft limit on open files back to what it was.
///
/// # Errors
/// If it is above the hard limit.
pub fn limit_open_files(most: Option<u64>) -> std::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: most, ..limit })?)
}

/// Keeps other processes of the same user from reading this one: its memory, and through `/proc` its environment and open
/// files. It then leaves no core dump, and a debugger needs the rights of root.
///
/// The environment holds the address of Redis with its password, and commands run as the worker's user. A process that is
/// started by this one can be read again until it calls this itself.
pub fn forbid_inspection() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // The call has no reason to fail but an unknown value; a process that can be read works all the same.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}
