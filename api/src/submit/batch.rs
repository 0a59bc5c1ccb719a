//! Many submissions in one request: independent of each other, in order, never all-or-nothing.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use actix_web::web::Bytes;
use crunch_common::broker::{Error, Idempotency, NewJob};
use crunch_common::job::TraceContext;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::given::rejected;
use super::{
    Accepted, Envelope, Results, accepted, check_fit, check_webhook, may_succeed_later, no_answer,
    undeclared_item,
};
use crate::auth::Caller;
use crate::document::{Items, JobDocument};
use crate::json::Members;
use crate::problem::{INVALID_SUBMISSION, Problem, ProblemDocument, Violation};
use crate::state::App;

/// The largest batch, in bytes.
pub(crate) const MAX_BATCH_BYTES: u64 = 16 * 1024 * 1024;
/// The largest batch, in jobs.
const MAX_BATCH_JOBS: usize = 1000;

/// The outcome of one item.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = BatchItem)]
pub(crate) enum ItemDocument {
    /// It was accepted.
    Accepted {
        /// 202
        status: u16,
        /// Whether no job was created, because this one holds the lock of the item.
        existing: bool,
        job: Box<JobDocument>,
    },
    /// It was rejected.
    Rejected {
        /// The status that a separate request would have been answered with.
        status: u16,
        problem: ProblemDocument,
    },
}

/// One item, parsed as far as possible without its task.
#[derive(Debug)]
pub(crate) struct Item {
    envelope: Result<Envelope, Vec<Violation>>,
    idempotency: Option<Idempotency>,
}

impl Item {
    /// Parses `json`, which was checked and is a part of `body`. It is hashed if it has an idempotency key, for a
    /// caller with this `idempotency_scope`.
    pub(super) fn read(body: &Bytes, json: &str, base: &str, idempotency_scope: &str) -> Self {
        let envelope = Envelope::read(body, json, base);
        let key = envelope.as_ref().ok().and_then(|it| it.submission.options.key.as_ref());
        let idempotency = key.map(|key| key.for_item(idempotency_scope, json.as_bytes()));
        Self { envelope, idempotency }
    }
}

/// Parses a batch whose JSON was checked.
pub(crate) fn read_batch(
    body: &Bytes,
    json: &str,
    idempotency_scope: &str,
) -> Result<Vec<Item>, Violation> {
    let items = items(json)?.into_iter().enumerate();
    Ok(items
        .map(|(at, raw)| Item::read(body, raw.get(), &format!("/jobs/{at}"), idempotency_scope))
        .collect())
}

/// Submits all items of a batch; problems of items have `path` as their instance.
pub(crate) async fn submit_batch(
    sender: &Sender<'_>,
    items: Vec<Item>,
    path: &str,
) -> Result<HttpResponse, Problem> {
    let app = sender.app;
    let prepared = prepare_all(sender, items).await;
    let mut jobs: Vec<_> = prepared.iter().filter_map(|item| item.as_ref().ok().cloned()).collect();
    let permit = app.budgets.turn(jobs.iter().map(|job| job.payload.len()).sum()).await?;
    let mut answers = super::enqueue_traced(app, &mut jobs).await.into_iter();
    drop(permit);
    let mut documents = Vec::with_capacity(prepared.len());
    for item in prepared {
        let outcome = match item {
            Ok(_) => {
                let answer = answers.next().unwrap_or_else(|| Err(no_answer()));
                // Any number of them may be the same job: its result is not read and sent again and again.
                accepted(app, answer, Results::Omitted).await
            }
            Err(problem) => Err(problem),
        };
        documents.push(ItemDocument::new(outcome, sender.caller, path));
    }
    Ok(answer(documents))
}

/// Returns the items, each as the client wrote it.
fn items(json: &str) -> Result<Vec<&RawValue>, Violation> {
    let expected = |pointer: &str| Violation::new(pointer, "expected {\"jobs\": [\u{2026}]}");
    let members = Members::of(json).ok_or_else(|| expected(""))?;
    if let Some((name, _)) = members.all.iter().find(|(name, _)| name != "jobs") {
        let detail = format!("there is no member {name:?} here, only \"jobs\"");
        return Err(rejected(detail).into_violation("", name));
    }
    let [(_, jobs)] = members.all[..] else { return Err(expected("")) };
    let items: Vec<&RawValue> = serde_json::from_str(jobs.get()).map_err(|_| expected("/jobs"))?;
    if items.is_empty() || items.len() > MAX_BATCH_JOBS {
        let detail = format!("expected 1 to {MAX_BATCH_JOBS} jobs, got {}", items.len());
        return Err(Violation::new("/jobs", detail));
    }
    Ok(items)
}

/// Checks all items. Once Redis was found unavailable it is not called again: the client waits for the whole batch.
async fn prepare_all(sender: &Sender<'_>, items: Vec<Item>) -> Vec<Result<NewJob, Problem>> {
    let mut unavailable = None;
    let mut prepared = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        prepared.push(prepare(sender, item, &format!("/jobs/{at}"), &mut unavailable).await);
        // Checking a thousand payloads against schemas takes up to a second: other requests are served in between.
        tokio::task::yield_now().await;
    }
    prepared
}

/// The sender of many submissions in one request.
pub(crate) struct Sender<'a> {
    pub(crate) app: &'a App,
    pub(crate) caller: &'a Caller,
    /// The trace that all of them belong to.
    pub(crate) trace: Option<TraceContext>,
}

/// Checks one item; `unavailable` is the error if Redis was found unavailable.
pub(super) async fn prepare(
    sender: &Sender<'_>,
    item: Item,
    base: &str,
    unavailable: &mut Option<Error>,
) -> Result<NewJob, Problem> {
    let Sender { app, caller, trace } = sender;
    let Envelope { task, mut submission } = item.envelope.map_err(Problem::violations)?;
    submission.options.trace = trace.clone();
    let found = match unavailable.clone() {
        Some(error) => Err(error),
        None => app.catalog.find(&task).await,
    };
    let found = found.inspect_err(|error| *unavailable = Some(error.clone()))?;
    let declared = found.ok_or_else(|| undeclared_item(&task, base))?;
    check_fit(&declared, &submission, base).await?;
    check_webhook(app, &submission.options, base)?;
    let base = format!("{base}/payload");
    submission.into_job((app, caller), (&declared.task, &base), item.idempotency).await
}

/// 202 if any item was accepted; else 503 if a retry may succeed; else 422.
fn answer(items: Vec<ItemDocument>) -> HttpResponse {
    let status = if items.iter().any(|item| item.status() == StatusCode::ACCEPTED) {
        StatusCode::ACCEPTED
    } else if items.iter().any(|item| may_succeed_later(item.status())) {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        INVALID_SUBMISSION.status
    };
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((header::RETRY_AFTER, "1"));
    }
    response.json(Items { items })
}

impl ItemDocument {
    fn new(outcome: Result<Accepted, Problem>, caller: &Caller, path: &str) -> Self {
        match outcome {
            Ok(accepted) => {
                let existing = matches!(accepted, Accepted::Existing(_));
                let document = accepted.document_for(caller);
                let job = Box::new(document(accepted.job()).without_result("list"));
                Self::Accepted { status: 202, existing, job }
            }
            Err(problem) => Self::Rejected {
                status: problem.kind.status.as_u16(),
                problem: problem.document(path),
            },
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Accepted { status, .. } | Self::Rejected { status, .. } => *status,
        }
    }
}
