//! What a process asks of the system it runs on: not to be read by its neighbours.

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
