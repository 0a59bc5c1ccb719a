//! Builds the message of a webhook: `{"type", "timestamp", "data"}`, small enough for all receivers.

use crunch_common::broker::{DeliveryOrder, JobRecord};
use crunch_common::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::document::JobDocument;
use crate::webhook::event;

/// A message is smaller than this, in bytes. Standard Webhooks recommends it; queues into which receivers put messages
/// accept no more.
const MAX_BYTES: usize = 20_000;
/// How many characters of an error's message are sent if the whole would make the webhook's message too large.
const ERROR_CHARS: usize = 500;

#[derive(Serialize)]
struct Message<'a, T> {
    r#type: &'a str,
    timestamp: Timestamp,
    data: &'a T,
}

/// Builds the message. If it would be too large, the result is omitted (follow `links.result`); if it still is,
/// metadata and the message of progress are omitted too, and the error's message is shortened. If the job was deleted
/// or runs again, the message contains only what the order does.
pub(super) fn build(order: &DeliveryOrder, job: Option<JobRecord>) -> Vec<u8> {
    let Some(job) = job.filter(|job| order.is_end_of(job)) else {
        return body(order, &known_data(order));
    };
    let whole = body(order, &JobDocument::new(job.clone()));
    if whole.len() < MAX_BYTES {
        return whole;
    }
    let document = JobDocument::new(job).without_result("message_size");
    let without_result = body(order, &document);
    if without_result.len() < MAX_BYTES {
        return without_result;
    }
    body(order, &shortened(&document))
}

fn body<T: Serialize>(order: &DeliveryOrder, data: &T) -> Vec<u8> {
    let message = Message { r#type: &event(order.status), timestamp: order.at(), data };
    serde_json::to_vec(&message).expect("a document is JSON")
}

fn known_data(order: &DeliveryOrder) -> Value {
    json!({
        "id": order.job, "token": order.job, "status": order.status, "finished_at": order.at(),
    })
}

fn shortened(document: &JobDocument) -> Value {
    let mut document = serde_json::to_value(document).expect("a document is JSON");
    document["metadata"] = Value::Null;
    document["progress_message"] = Value::Null;
    if let Some(message) = document["error"]["message"].as_str() {
        // The end of a message contains the cause.
        let skip = message.chars().count().saturating_sub(ERROR_CHARS);
        document["error"]["message"] = message.chars().skip(skip).collect::<String>().into();
    }
    document
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crunch_common::broker::{NewJob, ResultSummary};
    use crunch_common::job::{
        ContentType, ErrorCode, JobError, JobId, Metadata, Partition, Status,
    };

    use super::*;

    fn ended(status: Status) -> (DeliveryOrder, JobRecord) {
        let id = JobId::generate(Partition::default());
        // Padded with spaces, as the function in Redis does.
        let order =
            format!(r#"{{"job":"{id}","status":"{status}","at":1000,"url":"https://a.b/"}}  "#);
        let task = crunch_common::task::TaskDescriptor::new("t".parse().unwrap());
        let mut new = NewJob::of(&task, id, "{}");
        new.options.max_attempts = 3;
        new.options.timeout = Duration::from_millis(1);
        let job = JobRecord {
            status,
            version: 3,
            attempt: 1,
            finished_at: Some(Timestamp::from_unix_ms(1000)),
            ..new.record(Timestamp::from_unix_ms(1), None)
        };
        (serde_json::from_str(&order).unwrap(), job)
    }

    fn parsed_message(order: &DeliveryOrder, job: Option<JobRecord>) -> Value {
        let body = build(order, job);
        assert!(body.len() < MAX_BYTES, "{} bytes", body.len());
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_message_has_type_time_and_the_job() {
        let (order, mut job) = ended(Status::Succeeded);
        let inline = Some("1234567890123456789012".into());
        job.result = Some(ResultSummary { inline, size: 22, content_type: ContentType::json() });
        let text = String::from_utf8(build(&order, Some(job))).unwrap();
        let start =
            r#"{"type":"job.succeeded","timestamp":"1970-01-01T00:00:01.000Z","data":{"id":""#;
        assert!(text.starts_with(start), "{text}");
        // A number keeps every digit.
        assert!(text.contains(r#""result":1234567890123456789012,"result_size":22"#), "{text}");
    }

    #[test]
    fn what_does_not_fit_is_left_out_the_largest_first() {
        let (order, mut job) = ended(Status::Failed);
        let inline = Some(format!("\"{}\"", "x".repeat(30_000)).into());
        job.result =
            Some(ResultSummary { inline, size: 30_002, content_type: ContentType::json() });
        job.options.metadata.insert("k".into(), "v".into()).unwrap();
        let data = parsed_message(&order, Some(job.clone()))["data"].clone();
        assert_eq!((&data["result"], &data["result_size"]), (&Value::Null, &json!(30_002)));
        assert_eq!(data["metadata"], json!({ "k": "v" }));

        let mut metadata = Metadata::default();
        for at in 0..10 {
            metadata.insert(format!("k{at}"), "\u{1}".repeat(1024)).unwrap();
        }
        job.options.metadata = metadata;
        let message = "\u{1}".repeat(4000) + "the end";
        job.error = Some(JobError::permanent(ErrorCode::task_failed(), message));
        job.progress_message = Some("\u{1}".repeat(1024));
        let data = parsed_message(&order, Some(job))["data"].clone();
        assert_eq!(data["metadata"], Value::Null);
        assert!(data["error"]["message"].as_str().unwrap().ends_with("the end"));
    }

    #[test]
    fn a_job_that_was_deleted_or_runs_again_is_reported_as_its_order_has_it() {
        let (order, mut job) = ended(Status::Canceled);
        let known = json!({
            "id": job.id, "token": job.id, "status": "canceled", "finished_at": "1970-01-01T00:00:01.000Z",
        });
        assert_eq!(parsed_message(&order, None)["data"], known);
        job.finished_at = Some(Timestamp::from_unix_ms(2000));
        assert_eq!(parsed_message(&order, Some(job.clone()))["data"], known);
        job.status = Status::Running;
        assert_eq!(parsed_message(&order, Some(job))["data"], known);
    }
}
