//! Whether a payload fits its task: its size, its type, and the schema that workers declared.

use actix_web::web::{self, Bytes};
use crunch_common::job::ContentType;
use crunch_common::schema;

use super::Submission;
use crate::body;
use crate::catalog::Declared;
use crate::problem::{INTERNAL, Problem, Violation};

/// A larger payload, in bytes, is checked on a thread that serves nobody else meanwhile: reading and checking takes 20 to
/// 60 microseconds a kilobyte, and a millisecond is as long as others should wait.
const CHECKED_IN_PLACE: usize = 16 * 1024;

/// Refuses a payload in an envelope that its task does not take: too large, of another type, or not as its schema says.
pub(crate) async fn check_fit(
    declared: &Declared,
    submission: &Submission,
    base: &str,
) -> Result<(), Problem> {
    let task = &declared.task;
    if submission.payload.len() as u64 > task.max_payload {
        return Err(body::too_large(task.max_payload));
    }
    if !task.accepts.contains(&submission.content_type) {
        let types: Vec<_> = task.accepts.iter().map(ContentType::as_str).collect();
        let (types, name) = (types.join(", "), &task.name);
        let detail = format!("{name} takes {types}: send it to /tasks/{name}/jobs");
        return Err(Problem::violations(vec![Violation::new(format!("{base}/payload"), detail)]));
    }
    check_schema(declared, &submission.payload, &format!("{base}/payload")).await
}

/// Refuses a JSON payload that is not as the task's schema says; pointers lead below `base`.
pub(crate) async fn check_schema(
    declared: &Declared,
    payload: &Bytes,
    base: &str,
) -> Result<(), Problem> {
    let Some(schema) = declared.payload() else { return Ok(()) };
    let checked = if payload.len() <= CHECKED_IN_PLACE {
        schema.check(payload)
    } else {
        let (schema, payload) = (schema.clone(), payload.clone());
        let checked = web::block(move || schema.check(&payload)).await;
        checked.map_err(|error| {
            tracing::error!(%error, "a payload could not be checked");
            Problem::new(INTERNAL, "the payload could not be checked")
        })?
    };
    checked.map_err(|found| {
        let at = |it: schema::Violation| Violation::new(format!("{base}{}", it.pointer), it.detail);
        Problem::violations(found.into_iter().map(at).collect())
    })
}
