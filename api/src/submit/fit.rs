//! Checks that a payload fits its task: its size, its type, and the schema that workers declared.

use actix_web::web::Bytes;
use crunch_common::job::ContentType;
use crunch_common::schema;

use super::Submission;
use crate::catalog::DeclaredTask;
use crate::problem::{Problem, Violation};
use crate::{body, checks};

/// Rejects a payload in an envelope that its task does not accept: too large, of another type, or invalid by its
/// schema.
pub(crate) async fn check_fit(
    declared: &DeclaredTask,
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
        let detail = format!("{name} accepts {types}: send it to /tasks/{name}/jobs");
        return Err(Problem::violations(vec![Violation::new(format!("{base}/payload"), detail)]));
    }
    check_schema(declared, &submission.payload, &format!("{base}/payload")).await
}

/// Rejects a JSON payload that is invalid by the task's schema; pointers are relative to `base`.
pub(crate) async fn check_schema(
    declared: &DeclaredTask,
    payload: &Bytes,
    base: &str,
) -> Result<(), Problem> {
    let Some(schema) = declared.payload_validator() else { return Ok(()) };
    let checked = match schema.check_briefly(payload) {
        Some(checked) => checked,
        // How long the check takes is unknown, only that it is longer than other requests should be blocked.
        None => {
            let (schema, payload) = (schema.clone(), payload.clone());
            checks::elsewhere(move || schema.check(&payload)).await?
        }
    };
    checked.map_err(|violations| {
        let at = |it: schema::Violation| Violation::new(format!("{base}{}", it.pointer), it.detail);
        Problem::violations(violations.into_iter().map(at).collect())
    })
}
