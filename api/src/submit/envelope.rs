//! The envelope of `POST /jobs` and of a batch's items: `task`, `payload`, and the options.

use std::collections::BTreeMap;

use actix_web::web::Bytes;
use crunch_common::job::ContentType;
use crunch_common::task::TaskName;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Options, Submission};
use crate::problem::Violation;

/// A submission that names its task.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) task: TaskName,
    pub(crate) submission: Submission,
}

impl Envelope {
    /// Reads an envelope whose JSON was checked; on failure everything that is wrong, each with a pointer below `base`.
    pub(crate) fn read(json: &str, base: &str) -> Result<Self, Vec<Violation>> {
        let Ok(mut members) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(json) else {
            return Err(vec![Violation::new(base, "expected an object")]);
        };
        let mut violations = Vec::new();
        let task = read_task(members.remove("task").as_deref());
        let task = task.map_err(|detail| violations.push(Violation::new("/task", detail))).ok();
        // The payload is kept byte by byte: big numbers and the order of members are the client's.
        let payload =
            members.remove("payload").map_or_else(|| "null".into(), |raw| raw.get().to_owned());
        let mut options = Options::default();
        for (name, raw) in &members {
            let value = serde_json::from_str(raw.get()).unwrap_or(Value::Null);
            if let Err(refusal) = options.set(name, &value) {
                violations.push(refusal.into_violation(name));
            }
        }
        match task {
            Some(task) if violations.is_empty() => {
                let (payload, content_type) = (Bytes::from(payload), ContentType::json());
                Ok(Self { task, submission: Submission { payload, content_type, options } })
            }
            _ => {
                violations.iter_mut().for_each(|violation| violation.pointer.insert_str(0, base));
                Err(violations)
            }
        }
    }
}

fn read_task(raw: Option<&RawValue>) -> Result<TaskName, String> {
    let raw = raw.ok_or("task is missing")?;
    let text: Option<String> = serde_json::from_str(raw.get()).ok();
    let name = text.and_then(|text| text.parse().ok());
    name.ok_or_else(|| "expected a task name: 1 to 64 of a-z 0-9 _ . -".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(json: &str) -> Vec<String> {
        let violations = Envelope::read(json, "").unwrap_err();
        violations.into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn a_payload_stays_as_it_was_written() {
        let envelope = Envelope::read(
            r#"{"task":"t","payload": {"b":123456789012345678901234567890, "a":[]} }"#,
            "",
        )
        .unwrap();
        assert_eq!(
            &envelope.submission.payload[..],
            br#"{"b":123456789012345678901234567890, "a":[]}"#
        );
        assert_eq!(&Envelope::read(r#"{"task":"t"}"#, "").unwrap().submission.payload[..], b"null");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        assert_eq!(pointers("[]"), [""]);
        assert_eq!(pointers("{}"), ["/task"]);
        assert_eq!(
            pointers(r#"{"task":"T","delay_ms":"1","a/b":1,"webhook":{},"metadata":{"k":[]}}"#),
            ["/task", "/a~1b", "/delay_ms", "/metadata/k", "/webhook"]
        );
    }

    #[test]
    fn null_leaves_an_option_unsaid() {
        let envelope =
            Envelope::read(r#"{"task":"t","queue":null,"metadata":null,"webhook":null}"#, "")
                .unwrap();
        assert!(envelope.submission.options.queue.is_none());
    }
}
