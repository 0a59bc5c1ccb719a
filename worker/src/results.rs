//! Checks a result against its task's declaration: its size, its type, its schema. A large one is checked on a thread
//! that runs nothing else meanwhile, a bounded number at a time.

use std::sync::Arc;

use bytes::Bytes;
use crunch_common::job::{ErrorCode, JobError, Payload};
use crunch_common::schema::{Validator, Violation};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use crate::Task;
use crate::quote::beginning;

/// The settings of the largest result.
pub(crate) const SETTING: &str = "max_result of the task, or else CRUNCH_WORKER_MAX_RESULT";
/// The syntax of a larger result, in bytes, is checked on another thread: it takes 1 to 1.7 milliseconds per megabyte.
const SYNTAX_IN_PLACE: usize = 256 * 1024;
/// This many are checked on other threads at once. Each keeps a core busy and is held as values, up to 16 times as
/// large. More wait, in the slots of their jobs.
static LARGE_CHECKS: Semaphore = Semaphore::const_new(2);

/// Returns the result if it matches the task's declaration.
///
/// # Errors
/// If the runtime shuts down meanwhile.
pub(crate) async fn check(
    task: &Task,
    result: Payload,
) -> Result<Result<Payload, JobError>, JoinError> {
    let size = result.bytes.len();
    let max = task.descriptor.max_result.unwrap_or(u64::MAX);
    if size as u64 > max {
        let start = beginning(&result.bytes);
        let message =
            format!("{size} bytes; at most {max} are kept ({SETTING}); the result begins {start}");
        return Ok(Err(JobError::permanent(ErrorCode::result_too_large(), message)));
    }
    if !result.content_type.is_json() {
        return Ok(match &task.result {
            None => Ok(result),
            Some(_) => {
                let own = &result.content_type;
                Err(invalid(format!("{own}, and the task's result_schema is for JSON")))
            }
        });
    }
    let checked = check_json(task.result.as_ref(), &result.bytes).await?;
    Ok(checked.map(|()| result))
}

async fn check_json(
    schema: Option<&Arc<Validator>>,
    json: &Bytes,
) -> Result<Result<(), JobError>, JoinError> {
    if let Some(found) = check_in_place(schema, json) {
        return Ok(found);
    }
    let (schema, json) = (schema.cloned(), json.clone());
    on_other_thread(move || {
        is_json(&json)?;
        schema.map_or(Ok(()), |schema| schema.check(&json).map_err(|found| violation_error(&found)))
    })
    .await
}

/// Reads a result of this many bytes; a large one on another thread.
///
/// # Errors
/// If the runtime shuts down meanwhile.
pub(crate) async fn read<T: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if bytes <= SYNTAX_IN_PLACE {
        return Ok(read());
    }
    on_other_thread(read).await
}

async fn on_other_thread<T: Send + 'static>(
    check: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let permit = LARGE_CHECKS.acquire().await;
    spawn_blocking(move || {
        // Belongs to the check, which continues if the job is abandoned.
        let _permit = permit;
        check()
    })
    .await
}

/// Checks on this thread; `None` if that may take longer than a millisecond.
fn check_in_place(schema: Option<&Arc<Validator>>, json: &[u8]) -> Option<Result<(), JobError>> {
    if json.len() > SYNTAX_IN_PLACE {
        return None;
    }
    if let Err(error) = is_json(json) {
        return Some(Err(error));
    }
    let Some(schema) = schema else { return Some(Ok(())) };
    schema.check_briefly(json).map(|found| found.map_err(|found| violation_error(&found)))
}

fn is_json(bytes: &[u8]) -> Result<(), JobError> {
    serde_json::from_slice::<&RawValue>(bytes).map(|_| ()).map_err(|error| {
        invalid(format!("not JSON: {error}; the result begins {}", beginning(bytes)))
    })
}

/// Lists every violation, one per line.
fn violation_error(found: &[Violation]) -> JobError {
    let place = |it: &Violation| match it.pointer.as_str() {
        "" => format!("\n{}", it.detail),
        pointer => format!("\n{pointer}: {}", it.detail),
    };
    let places = found.iter().map(place);
    invalid(format!("does not match the task's result_schema:{}", places.collect::<String>()))
}

fn invalid(message: String) -> JobError {
    JobError::permanent(ErrorCode::result_invalid(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn large_results_are_read_on_other_threads() {
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_eq!(read(SYNTAX_IN_PLACE, thread).await.unwrap(), here);
        assert_ne!(read(SYNTAX_IN_PLACE + 1, thread).await.unwrap(), here);
    }
}
