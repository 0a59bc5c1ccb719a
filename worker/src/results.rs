//! Whether a result is what its task promised: its size, its type, its schema. A large one is checked on a thread that runs
//! nothing else meanwhile, a bounded number at a time.

use std::sync::Arc;

use bytes::Bytes;
use crunch_common::job::{ErrorCode, JobError, Payload};
use crunch_common::schema::{Validator, Violation};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use crate::Task;
use crate::quote::beginning;

/// Where the largest result is set.
pub(crate) const SETTING: &str = "max_result of the task, or else CRUNCH_WORKER_MAX_RESULT";
/// The syntax of a larger result, in bytes, is checked elsewhere: it takes 1 to 1.7 milliseconds a megabyte.
const SYNTAX_IN_PLACE: usize = 256 * 1024;
/// So many are checked elsewhere at once. Each keeps a core busy and is held as values, up to 16 times as large. More wait,
/// in the slots of their jobs.
static ELSEWHERE: Semaphore = Semaphore::const_new(2);

/// A result as the task promised it.
///
/// # Errors
/// If the runtime ends meanwhile.
pub(crate) async fn check(
    task: &Task,
    result: Payload,
) -> Result<Result<Payload, JobError>, JoinError> {
    let size = result.bytes.len();
    let most = task.descriptor.max_result.unwrap_or(u64::MAX);
    if size as u64 > most {
        let start = beginning(&result.bytes);
        let message =
            format!("{size} bytes; at most {most} are kept ({SETTING}); the result begins {start}");
        return Ok(Err(JobError::permanent(ErrorCode::result_too_large(), message)));
    }
    let result = Payload { content_type: task.descriptor.content_type.clone(), ..result };
    if !result.content_type.is_json() {
        return Ok(Ok(result));
    }
    let fits = fits(task.result.as_ref(), &result.bytes).await?;
    Ok(fits.map(|()| result))
}

async fn fits(
    schema: Option<&Arc<Validator>>,
    json: &Bytes,
) -> Result<Result<(), JobError>, JoinError> {
    if let Some(found) = briefly(schema, json) {
        return Ok(found);
    }
    let (schema, json) = (schema.cloned(), json.clone());
    elsewhere(move || {
        is_json(&json)?;
        schema.map_or(Ok(()), |schema| schema.check(&json).map_err(|found| unlike(&found)))
    })
    .await
}

/// Reads a result of this many bytes; a large one elsewhere.
///
/// # Errors
/// If the runtime ends meanwhile.
pub(crate) async fn read<T: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if bytes <= SYNTAX_IN_PLACE {
        return Ok(read());
    }
    elsewhere(read).await
}

async fn elsewhere<T: Send + 'static>(
    check: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let permit = ELSEWHERE.acquire().await;
    spawn_blocking(move || {
        // Belongs to the check: it goes on if the job is given up.
        let _permit = permit;
        check()
    })
    .await
}

/// `None` if it may take longer than a millisecond.
fn briefly(schema: Option<&Arc<Validator>>, json: &[u8]) -> Option<Result<(), JobError>> {
    if json.len() > SYNTAX_IN_PLACE {
        return None;
    }
    if let Err(error) = is_json(json) {
        return Some(Err(error));
    }
    let Some(schema) = schema else { return Some(Ok(())) };
    schema.check_briefly(json).map(|found| found.map_err(|found| unlike(&found)))
}

fn is_json(bytes: &[u8]) -> Result<(), JobError> {
    serde_json::from_slice::<&RawValue>(bytes).map(|_| ()).map_err(|error| {
        invalid(format!("not JSON: {error}; the result begins {}", beginning(bytes)))
    })
}

/// Every place, on one line each.
fn unlike(found: &[Violation]) -> JobError {
    let places = found.iter().map(|it| format!("\n{}: {}", it.pointer, it.detail));
    invalid(format!("not what the task's result_schema says{}", places.collect::<String>()))
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
