//! The envelope of `POST /jobs` and of a batch's items: `task`, `payload`, and the options.

use actix_web::web::Bytes;
use crunch_common::job::ContentType;
use crunch_common::task::TaskName;

use super::given::{Given, rejected};
use super::{Options, Submission};
use crate::json::Members;
use crate::problem::Violation;

/// How many violations are reported: a body with more is not an envelope, and repeating all of it would cost memory.
const MAX_VIOLATIONS: usize = 20;

/// A submission that names its task.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) task: TaskName,
    pub(crate) submission: Submission,
}

impl Envelope {
    /// Parses an envelope whose JSON was checked; on failure returns all violations, each with a pointer below `base`.
    /// `json` is a part of `body`, and so is the payload.
    pub(crate) fn read(body: &Bytes, json: &str, base: &str) -> Result<Self, Vec<Violation>> {
        let Some(members) = Members::of(json) else {
            return Err(vec![Violation::new(base, "expected an object")]);
        };
        if let Some(name) = members.repeated() {
            return Err(vec![rejected("is given twice").into_violation(base, name)]);
        }
        let (mut task, mut options, mut violations) = (None, Options::default(), Vec::new());
        // A missing payload is null. A given one is stored byte by byte: big numbers and the order of members are
        // preserved.
        let mut payload = Bytes::from_static(b"null");
        for (name, raw) in &members.all {
            let outcome = match name.as_str() {
                "task" => Given::Json(raw).parsed(TASK_NAME).map(|name| task = Some(name)),
                "payload" => {
                    payload = body.slice_ref(raw.get().as_bytes());
                    Ok(())
                }
                name => options.set(name, Given::Json(raw)),
            };
            violations.extend(outcome.err().map(|rejection| rejection.into_violation(base, name)));
            if violations.len() == MAX_VIOLATIONS {
                break;
            }
        }
        if !members.cut && members.all.iter().all(|(name, _)| name != "task") {
            violations.insert(0, rejected("is missing").into_violation(base, "task"));
        }
        match task {
            Some(task) if violations.is_empty() => {
                let content_type = ContentType::json();
                Ok(Self { task, submission: Submission { payload, content_type, options } })
            }
            _ => Err(violations),
        }
    }
}

const TASK_NAME: &str = "a task name: 1 to 64 of a-z 0-9 _ . -";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Envelope, Vec<Violation>> {
        let body = Bytes::copy_from_slice(json.as_bytes());
        Envelope::read(&body, std::str::from_utf8(&body).unwrap(), "")
    }

    fn pointers(json: &str) -> Vec<String> {
        let violations = read(json).unwrap_err();
        violations.into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn a_payload_stays_as_it_was_written() {
        let envelope =
            read(r#"{"task":"t","payload": {"b":123456789012345678901234567890, "a":[]} }"#)
                .unwrap();
        assert_eq!(
            &envelope.submission.payload[..],
            br#"{"b":123456789012345678901234567890, "a":[]}"#
        );
        assert_eq!(&read(r#"{"task":"t"}"#).unwrap().submission.payload[..], b"null");
    }

    #[test]
    fn everything_that_is_wrong_is_reported_at_once() {
        assert_eq!(pointers("[]"), [""]);
        assert_eq!(pointers("{}"), ["/task"]);
        assert_eq!(
            pointers(r#"{"task":"T","delay_ms":"1","a/b":1,"webhook":{},"metadata":{"k":[]}}"#),
            ["/task", "/delay_ms", "/a~1b", "/webhook/url", "/metadata/k"]
        );
        assert_eq!(pointers(r#"{"task":"a","queue":"b","task":"c"}"#), ["/task"]);
        assert_eq!(pointers(r#"{"task":"a","metadata":{"~/":1,"~/":2}}"#), ["/metadata/~0~1"]);
        // Values that Rust's numbers and strings cannot represent are not treated as unset.
        assert_eq!(
            pointers(r#"{"task":"a","delay_ms":1e999,"queue":"\ud800"}"#),
            ["/delay_ms", "/queue"]
        );
    }

    #[test]
    fn reported_violations_are_bounded() {
        let members: Vec<_> = (0..10_000).map(|at| format!("\"m{at}\":1")).collect();
        assert_eq!(pointers(&format!("{{\"task\":\"t\",{}}}", members.join(","))).len(), 20);
    }

    /// Of very many members some are not kept; these are not reported as missing.
    #[test]
    fn a_task_behind_a_thousand_members_is_not_called_missing() {
        let members: Vec<_> = (0..2_000).map(|at| format!("\"m{at}\":1")).collect();
        let found = pointers(&format!("{{{},\"task\":\"t\"}}", members.join(",")));
        assert_eq!((found.len(), &found[0][..]), (20, "/m0"));
    }

    #[test]
    fn labels_keep_numbers_to_the_digit() {
        let json =
            r#"{"task":"t","metadata":{"a":123456789012345678901234567890,"b":1.50,"c":true}}"#;
        let metadata = read(json).unwrap().submission.options.metadata;
        let labels: Vec<_> = metadata.iter().collect();
        assert_eq!(labels, [("a", "123456789012345678901234567890"), ("b", "1.50"), ("c", "true")]);
    }

    #[test]
    fn null_leaves_an_option_unsaid() {
        let envelope = read(r#"{"task":"t","queue":null,"metadata":null,"webhook":null}"#).unwrap();
        assert!(envelope.submission.options.queue.is_none());
    }
}
