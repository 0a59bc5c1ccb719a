//! Many submissions in one request: each for itself, order kept, never all-or-nothing.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use crunch_common::broker::NewJob;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Envelope, Taken, check_size, taken};
use crate::document::JobDocument;
use crate::problem::{INTERNAL, INVALID_SUBMISSION, Problem, Violation};
use crate::state::App;

/// At most this many bytes make a batch.
pub(crate) const MAX_BATCH_BYTES: u64 = 16 * 1024 * 1024;
/// At most this many jobs make a batch.
const MAX_BATCH_JOBS: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    jobs: Vec<Box<RawValue>>,
}

/// Submits every item of a batch whose JSON was checked.
pub(crate) async fn submit_batch(app: &App, json: &[u8]) -> Result<HttpResponse, Problem> {
    let batch: Batch = serde_json::from_slice(json).map_err(|error| {
        Problem::violations(vec![Violation::new(
            "",
            format!("expected {{\"jobs\": […]}}: {error}"),
        )])
    })?;
    if batch.jobs.is_empty() || batch.jobs.len() > MAX_BATCH_JOBS {
        let detail = format!("expected 1 to {MAX_BATCH_JOBS} jobs, got {}", batch.jobs.len());
        return Err(Problem::violations(vec![Violation::new("/jobs", detail)]));
    }
    let mut jobs = Vec::new();
    let mut items = Vec::new();
    for (at, raw) in batch.jobs.iter().enumerate() {
        let job = prepare(app, raw.get(), &format!("/jobs/{at}")).await;
        items.push(job.map(|job| jobs.push(job)));
    }
    let mut answers = app.broker.enqueue(&jobs).await.into_iter();
    let mut documents = Vec::with_capacity(items.len());
    for item in items {
        let outcome = match item {
            Ok(()) => match answers.next() {
                Some(answer) => taken(app, answer).await,
                None => Err(Problem::new(INTERNAL, "no answer for this item")),
            },
            Err(problem) => Err(problem),
        };
        documents.push(item_document(outcome));
    }
    let accepted = documents.iter().any(|item| item["status"] == json!(202));
    let status = if accepted { StatusCode::ACCEPTED } else { INVALID_SUBMISSION.status };
    Ok(HttpResponse::build(status)
        .insert_header(("Cache-Control", "no-store"))
        .json(json!({ "items": documents })))
}

async fn prepare(app: &App, json: &str, base: &str) -> Result<NewJob, Problem> {
    let Envelope { task, submission } = Envelope::read(json, base).map_err(Problem::violations)?;
    let declared = app.catalog.find(&task).await?.ok_or_else(|| {
        let detail = format!("no worker ever declared a task {:?}", task.as_str());
        Problem::violations(vec![Violation::new(format!("{base}/task"), detail)])
    })?;
    check_size(&declared, &submission.payload)?;
    let key = submission.options.key.clone();
    let idempotency = key.map(|key| key.for_item(json.as_bytes()));
    Ok(submission.into_job(&app.broker, &declared, idempotency))
}

fn item_document(outcome: Result<Taken, Problem>) -> Value {
    match outcome {
        Ok(taken) => json!({ "status": 202, "job": JobDocument::new(taken.job()) }),
        Err(problem) => {
            json!({ "status": problem.kind.status.as_u16(), "problem": problem.document() })
        }
    }
}
