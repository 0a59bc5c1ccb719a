//! Who is to blame for a command that could not be started: the machine, or the job.

use crunch_common::job::ErrorCode;
use rustix::io::Errno;

use crate::TaskError;

/// Why a command never ran. `code` is the number of the system's error, if it was the system that refused.
pub(super) fn not_started(why: String, code: Option<i32>) -> TaskError {
    match code {
        Some(code) if is_of_machine(code) => TaskError::machine(why),
        _ => TaskError::retryable(why).with_code(ErrorCode::command_failed()),
    }
}

/// Program, arguments and working directory are those of the task, and descriptors, processes and memory those of the machine.
/// Only a part of the environment comes from the job, and the only thing that can be wrong with it is its size.
fn is_of_machine(code: i32) -> bool {
    Errno::from_raw_os_error(code) != Errno::TOOBIG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_system_refuses_is_the_machines_fault_but_a_start_that_is_too_large() {
        let of_machine = [
            Errno::MFILE,
            Errno::NFILE,
            Errno::AGAIN,
            Errno::NOMEM,
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::ROFS,
            Errno::NOENT,
            Errno::ACCESS,
            Errno::PERM,
            Errno::NOEXEC,
            Errno::NOTDIR,
            Errno::TXTBSY,
            Errno::IO,
        ];
        for error in of_machine {
            let error_of = not_started("why".to_owned(), Some(error.raw_os_error()));
            assert_eq!(error_of, TaskError::machine("why"), "{error}");
        }
        let of_job = TaskError::retryable("why").with_code(ErrorCode::command_failed());
        assert_eq!(not_started("why".to_owned(), Some(Errno::TOOBIG.raw_os_error())), of_job);
        assert_eq!(not_started("why".to_owned(), None), of_job);
    }
}
