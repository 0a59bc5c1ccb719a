//! Checks a payload like `POST /tasks/{task}/jobs`: its content type, its size, its syntax and its schema, in that order.
//! JSON syntax and schemas are checked by the API's own code.

use crunch_common::job::{ContentType, Payload};
use crunch_common::json;
use crunch_common::schema::Violation;
use crunch_common::task::TaskDescriptor;

/// Returns why the API would reject the payload.
pub(super) fn check(task: &TaskDescriptor, payload: &Payload) -> Result<(), String> {
    if !task.accepts.contains(&payload.content_type) {
        let accepted: Vec<_> = task.accepts.iter().map(ContentType::as_str).collect();
        return Err(format!("{} accepts {}", task.name, accepted.join(", ")));
    }
    let (size, max) = (payload.bytes.len() as u64, task.max_payload);
    if size > max {
        return Err(format!("the payload has more than {max} bytes, the limit of {}", task.name));
    }
    if !payload.content_type.is_json() {
        return Ok(());
    }
    json::check(&payload.bytes).map_err(|error| error.to_string())?;
    // A schema that cannot be compiled checks nothing in the API either.
    let schema = task.payload_schema.as_ref().and_then(|schema| schema.compile().ok());
    schema
        .map_or(Ok(()), |schema| schema.check(&payload.bytes))
        .map_err(|found| found.iter().map(in_words).collect::<Vec<_>>().join("\n"))
}

/// As in the detail of a problem: `/text: the value is not of type "string"`.
fn in_words(violation: &Violation) -> String {
    let Violation { pointer, detail } = violation;
    let colon = if pointer.is_empty() { "" } else { ": " };
    format!("{pointer}{colon}{detail}")
}
