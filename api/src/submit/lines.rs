//! Very many submissions in one request: one JSON envelope per line, enqueued as they arrive, in constant memory.
//!
//! Lines are enqueued in groups while the body is still being read, one group in flight while the next is read: so the
//! client is slowed down to the throughput of Redis, and what was accepted stays accepted if the body is incomplete.

use actix_web::http::{StatusCode, header};
use actix_web::rt::task::JoinHandle;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse, rt};
use crunch_common::broker::{Enqueued, Error, NewJob};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::batch::{Item, Sender, prepare};
use super::{ENVELOPE_BYTES, conflict, enqueue_traced, locked, may_succeed_later, no_answer};
use crate::body::{Arriving, Gathered};
use crate::budget::overloaded;
use crate::metrics::Sum;
use crate::problem::{INVALID_SUBMISSION, MALFORMED_JSON, Problem, ProblemDocument, UNAVAILABLE};
use crate::state::App;
use crate::{body, checks};

/// How many lines are enqueued together: two calls of the broker.
const GROUP_JOBS: usize = 100;
/// And no more bytes than this, so that memory is bounded by what one call needs.
const GROUP_BYTES: usize = 1024 * 1024;
/// How many problems are listed; the counts include all.
const MAX_ERRORS: usize = 100;

/// The outcome of a body of lines.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Lines)]
pub(crate) struct LinesDocument {
    /// How many were accepted, now or by an earlier request with the same key.
    accepted: u64,
    /// For how many another job stands that holds their lock.
    existing: u64,
    /// How many were not accepted.
    refused: u64,
    /// The first hundred of those that were not.
    errors: Vec<LineError>,
}

/// A line that was rejected.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineError {
    /// From 1, blank lines counted.
    line: u64,
    /// The problem that a separate request would have been answered with.
    problem: ProblemDocument,
}

/// Submits every line of a body.
pub(crate) async fn submit_lines(
    sender: &Sender<'_>,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let mut intake = Intake::new(sender, request.path());
    let mut body = Arriving::new(payload);
    let ended = loop {
        let next = tokio::select! {
            next = body.next() => next,
            // The rest would be cut off without an error.
            () = sender.app.watchers.closing() => break Err(Problem::new(UNAVAILABLE, "this instance is shutting down")),
        };
        match next {
            Ok(Some(chunk)) => intake.read(chunk).await,
            Ok(None) => break Ok(()),
            Err(problem) => break Err(problem),
        }
    };
    if ended.is_ok() {
        intake.end_line().await;
    }
    intake.send_group().await;
    intake.finish_group().await;
    let LinesDocument { accepted, existing, refused, .. } = intake.document;
    ended.map_err(|problem| {
        let counts = [("accepted", accepted), ("existing", existing), ("refused", refused)];
        counts.into_iter().fold(problem, |problem, (name, count)| problem.with(name, json!(count)))
    })?;
    intake.answer()
}

/// Lines with their numbers, in order; for those already rejected, the reason.
type Group = Vec<(u64, Result<NewJob, Problem>)>;

/// The outcome of a line.
type Outcome = Result<Line, Rejected>;

/// A line that was not refused.
enum Line {
    Accepted,
    Existing,
}

/// Why a line was not accepted, and whether that is because Redis is unavailable.
struct Rejected {
    problem: Problem,
    unavailable: Option<Error>,
}

impl From<Problem> for Rejected {
    fn from(problem: Problem) -> Self {
        Self { problem, unavailable: None }
    }
}

/// Enqueues a group; nothing is sent if Redis was found `unavailable` before.
async fn enqueue(app: App, group: Group, unavailable: Option<Error>) -> Vec<(u64, Outcome)> {
    let mut jobs: Vec<_> = group.iter().filter_map(|(_, job)| job.as_ref().ok().cloned()).collect();
    let answers = match unavailable {
        // They were never sent: nothing is in doubt.
        Some(error) => jobs.iter().map(|_| Err(Problem::from(error.clone()).into())).collect(),
        None => send(&app, &mut jobs).await,
    };
    let mut answers = answers.into_iter();
    let mut answer = || answers.next().unwrap_or_else(|| Err(Problem::from(no_answer()).into()));
    group
        .into_iter()
        .map(|(number, job)| (number, job.map_err(Rejected::from).and_then(|_| answer())))
        .collect()
}

/// Sends jobs to Redis when it is their turn.
async fn send(app: &App, jobs: &mut [NewJob]) -> Vec<Outcome> {
    let bytes = jobs.iter().map(|job| job.payload.len()).sum();
    match app.budgets.turn(bytes).await {
        Ok(_permit) => enqueue_traced(app, jobs).await.into_iter().map(outcome).collect(),
        Err(_) => jobs.iter().map(|_| Err(overloaded(Sum::Bodies).into())).collect(),
    }
}

fn outcome(answer: Result<Enqueued, Error>) -> Outcome {
    match answer {
        Ok(Enqueued::Created(_) | Enqueued::AlreadyCreated(_) | Enqueued::Replayed(_)) => {
            Ok(Line::Accepted)
        }
        Ok(Enqueued::Existing(_) | Enqueued::Replaced(_)) => Ok(Line::Existing),
        Ok(Enqueued::Conflict) => Err(conflict().into()),
        Ok(Enqueued::Locked(holder)) => Err(locked(holder).into()),
        Err(error) => {
            let unavailable = matches!(error, Error::Unavailable { .. } | Error::Rejected { .. });
            let unavailable = unavailable.then(|| error.clone());
            Err(Rejected { problem: Problem::in_doubt(error), unavailable })
        }
    }
}

/// The state of a body of lines.
struct Intake<'a> {
    sender: &'a Sender<'a>,
    path: &'a str,
    /// The longest line that any task accepts.
    longest: u64,
    line: Gathered,
    /// Why the current line is rejected: its rest is skipped.
    rejected: Option<Problem>,
    number: u64,
    group: Group,
    group_bytes: usize,
    /// The previous group, being enqueued while this one is read.
    in_flight: Option<JoinHandle<Vec<(u64, Outcome)>>>,
    /// Once Redis was found unavailable it is not called again: the client waits for the whole body.
    unavailable: Option<Error>,
    retry_may_succeed: bool,
    document: LinesDocument,
}

impl<'a> Intake<'a> {
    fn new(sender: &'a Sender<'a>, path: &'a str) -> Self {
        Self {
            sender,
            path,
            longest: sender.app.catalog.largest_json_payload() + ENVELOPE_BYTES,
            line: Gathered::new(&sender.app.budgets.requests, u64::MAX),
            rejected: None,
            number: 1,
            group: Vec::new(),
            group_bytes: 0,
            in_flight: None,
            unavailable: None,
            retry_may_succeed: false,
            document: LinesDocument::default(),
        }
    }

    async fn read(&mut self, mut chunk: Bytes) {
        while let Some(end) = chunk.iter().position(|&byte| byte == b'\n') {
            let line = chunk.split_to(end + 1);
            self.extend(&line[..end]);
            self.end_line().await;
            self.number += 1;
        }
        self.extend(&chunk);
    }

    fn extend(&mut self, part: &[u8]) {
        if self.rejected.is_some() {
            return;
        }
        let long = (self.line.len() + part.len()) as u64 > self.longest;
        let added = if long { Err(body::too_large(self.longest)) } else { self.line.add(part) };
        if let Err(problem) = added {
            self.rejected = Some(problem);
            self.next_line();
        }
    }

    /// Returns the bytes of the current line, and starts the next one.
    fn next_line(&mut self) -> Bytes {
        let next = Gathered::new(&self.sender.app.budgets.requests, u64::MAX);
        std::mem::replace(&mut self.line, next).whole()
    }

    /// Adds the complete line to the group.
    async fn end_line(&mut self) {
        let line = self.next_line();
        let job = if let Some(problem) = self.rejected.take() {
            Err(problem)
        } else if line.trim_ascii().is_empty() {
            return;
        } else {
            self.prepare(&line).await
        };
        self.group_bytes += job.as_ref().map_or(0, |job| job.payload.len());
        self.group.push((self.number, job));
        if self.group.len() == GROUP_JOBS || self.group_bytes >= GROUP_BYTES {
            self.send_group().await;
        }
    }

    async fn prepare(&mut self, line: &Bytes) -> Result<NewJob, Problem> {
        if let Some(error) = &self.unavailable {
            return Err(error.clone().into());
        }
        let idempotency_scope = self.sender.caller.idempotency_scope();
        let read =
            move |line: &Bytes, text: &str| Item::read(line, text.trim(), "", &idempotency_scope);
        let item = checks::read(line, read).await?;
        prepare(self.sender, item, "", &mut self.unavailable).await
    }

    /// Starts to enqueue the group, once the previous one was enqueued.
    async fn send_group(&mut self) {
        self.finish_group().await;
        self.group_bytes = 0;
        let (group, unavailable) = (std::mem::take(&mut self.group), self.unavailable.clone());
        let app = self.sender.app.clone();
        self.in_flight = Some(rt::spawn(enqueue(app, group, unavailable)));
        // Lets it start before this thread continues with the next lines.
        tokio::task::yield_now().await;
    }

    /// Waits for the group in flight, and counts its outcomes.
    async fn finish_group(&mut self) {
        let Some(in_flight) = self.in_flight.take() else { return };
        // It is aborted only when this thread ends, and then there is no client left to answer.
        for (number, outcome) in in_flight.await.unwrap_or_default() {
            match outcome {
                Ok(Line::Accepted) => self.document.accepted += 1,
                Ok(Line::Existing) => self.document.existing += 1,
                Err(Rejected { problem, unavailable }) => {
                    self.unavailable = unavailable.or(self.unavailable.take());
                    self.reject(number, &problem);
                }
            }
        }
    }

    fn reject(&mut self, line: u64, problem: &Problem) {
        self.retry_may_succeed |= may_succeed_later(problem.kind.status.as_u16());
        self.document.refused += 1;
        if self.document.errors.len() < MAX_ERRORS {
            let problem = problem.document(self.path);
            self.document.errors.push(LineError { line, problem });
        }
    }

    /// 202 if any line was accepted or has another job; else 503 if a retry may succeed; else 422.
    fn answer(self) -> Result<HttpResponse, Problem> {
        let LinesDocument { accepted, existing, refused, .. } = self.document;
        if accepted + existing + refused == 0 {
            return Err(Problem::new(MALFORMED_JSON, "the body contains no lines"));
        }
        let status = match (accepted + existing, self.retry_may_succeed) {
            (0, true) => StatusCode::SERVICE_UNAVAILABLE,
            (0, false) => INVALID_SUBMISSION.status,
            _ => StatusCode::ACCEPTED,
        };
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, "1"));
        }
        Ok(response.json(self.document))
    }
}
