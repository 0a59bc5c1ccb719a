//! Decides whether a command that could not be started is the machine's fault or the job's.

use crunch_common::job::ErrorCode;
use rustix::io::Errno;

use crate::TaskError;

/// The error for a command that never ran. `code` is the error number, if a system call failed.
pub(crate) fn not_started(why: String, code: Option<i32>) -> TaskError {
    match code {
        Some(code) if is_machine_fault(code) => TaskError::machine(why),
        _ => TaskError::retryable(why).with_code(ErrorCode::command_failed()),
    }
}

/// Program, arguments and working directory belong to the task; descriptors, processes and memory to the machine. Only
/// a part of the environment comes from the job, and the only possible fault of that is its size.
fn is_machine_fault(code: i32) -> bool {
    Errno::from_raw_os_error(code) != Errno::TOOBIG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_system_refuses_is_the_machines_fault_but_a_start_that_is_too_large() {
        let machine_faults = [
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
        for error in machine_faults {
            let task_error = not_started("why".to_owned(), Some(error.raw_os_error()));
            assert_eq!(task_error, TaskError::machine("why"), "{error}");
        }
        let job_fault = TaskError::retryable("why").with_code(ErrorCode::command_failed());
        assert_eq!(not_started("why".to_owned(), Some(Errno::TOOBIG.raw_os_error())), job_fault);
        assert_eq!(not_started("why".to_owned(), None), job_fault);
    }
}
