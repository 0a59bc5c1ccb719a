//! Very many submissions in one request: one JSON envelope a line, taken as they arrive, in constant memory.
//!
//! Lines are enqueued in groups while the body is still being read, one group under way while the next is read: so the client
//! is slowed down to what Redis takes, and what was taken stays taken if the body breaks off.

use actix_web::http::{StatusCode, header};
use actix_web::rt::task::JoinHandle;
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse, rt};
use crunch_common::broker::{Enqueued, Error, NewJob};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::batch::{Item, Sender, prepare};
use super::{ENVELOPE_BYTES, conflict, no_answer};
use crate::body::{Arriving, Gathered};
use crate::budget::overloaded;
use crate::metrics::Sum;
use crate::problem::{INVALID_SUBMISSION, MALFORMED_JSON, Problem, ProblemDocument, UNAVAILABLE};
use crate::state::App;
use crate::{body, checks};

/// How many lines are enqueued together: two calls of the broker.
const GROUP_JOBS: usize = 100;
/// And no more bytes than that, so that memory stays what one call needs.
const GROUP_BYTES: usize = 1024 * 1024;
/// How many problems are told; the counts tell of all.
const MAX_ERRORS: usize = 100;

/// What became of a body of lines.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Lines)]
pub(crate) struct LinesDocument {
    /// How many were taken, now or by an earlier request with the same key.
    accepted: u64,
    /// How many were not.
    refused: u64,
    /// The first hundred that were not.
    errors: Vec<LineError>,
}

/// A line that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LineError {
    /// From 1, blank lines counted.
    line: u64,
    /// What a request of its own would have been answered.
    problem: ProblemDocument,
}

/// Takes every line of a body.
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
            // The rest would be cut off without a word.
            () = sender.app.watchers.closing() => break Err(Problem::new(UNAVAILABLE, "this instance stops")),
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
    intake.depart().await;
    intake.arrive().await;
    let LinesDocument { accepted, refused, .. } = intake.document;
    ended.map_err(|problem| {
        problem.with("accepted", json!(accepted)).with("refused", json!(refused))
    })?;
    intake.answer()
}

/// Lines by their number, in their order; of those that are refused already why.
type Group = Vec<(u64, Result<NewJob, Problem>)>;

/// What became of a line.
type Outcome = Result<(), Refused>;

/// Why a line was not taken, and whether that is because Redis is away.
struct Refused {
    problem: Problem,
    away: Option<Error>,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, away: None }
    }
}

/// Enqueues a group; nothing is sent if Redis was found `away` before.
async fn enqueue(app: App, group: Group, away: Option<Error>) -> Vec<(u64, Outcome)> {
    let jobs: Vec<_> = group.iter().filter_map(|(_, job)| job.as_ref().ok().cloned()).collect();
    let answers = match away {
        // They were never sent: nothing is in doubt.
        Some(error) => jobs.iter().map(|_| Err(Problem::from(error.clone()).into())).collect(),
        None => send(&app, &jobs).await,
    };
    let mut answers = answers.into_iter();
    let mut answer = || answers.next().unwrap_or_else(|| Err(Problem::from(no_answer()).into()));
    group
        .into_iter()
        .map(|(number, job)| (number, job.map_err(Refused::from).and_then(|_| answer())))
        .collect()
}

/// Sends jobs to Redis when it is their turn.
async fn send(app: &App, jobs: &[NewJob]) -> Vec<Outcome> {
    let bytes = jobs.iter().map(|job| job.payload.len()).sum();
    match app.budgets.turn(bytes).await {
        Ok(_turn) => app.broker.enqueue(jobs).await.into_iter().map(outcome).collect(),
        Err(_) => jobs.iter().map(|_| Err(overloaded(Sum::Bodies).into())).collect(),
    }
}

fn outcome(answer: Result<Enqueued, Error>) -> Outcome {
    match answer {
        Ok(Enqueued::Created(_) | Enqueued::Known(_) | Enqueued::Replayed(_)) => Ok(()),
        Ok(Enqueued::Conflict) => Err(conflict().into()),
        Err(error) => {
            let away = matches!(error, Error::Unavailable { .. } | Error::Rejected { .. });
            let away = away.then(|| error.clone());
            Err(Refused { problem: Problem::in_doubt(error), away })
        }
    }
}

/// Lines on their way into Redis.
struct Intake<'a> {
    sender: &'a Sender<'a>,
    path: &'a str,
    /// The longest line that any task takes.
    longest: u64,
    line: Gathered,
    /// Why the current line is not taken: its rest is passed over.
    refused: Option<Problem>,
    number: u64,
    group: Group,
    group_bytes: usize,
    /// The group before, on its way into Redis while this one is read.
    under_way: Option<JoinHandle<Vec<(u64, Outcome)>>>,
    /// Once Redis was found away, nobody asks it again: the whole body has one client who waits.
    away: Option<Error>,
    may_be_taken_later: bool,
    document: LinesDocument,
}

impl<'a> Intake<'a> {
    fn new(sender: &'a Sender<'a>, path: &'a str) -> Self {
        Self {
            sender,
            path,
            longest: sender.app.catalog.largest_json_payload() + ENVELOPE_BYTES,
            line: Gathered::new(&sender.app.budgets.requests, u64::MAX),
            refused: None,
            number: 1,
            group: Vec::new(),
            group_bytes: 0,
            under_way: None,
            away: None,
            may_be_taken_later: false,
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
        if self.refused.is_some() {
            return;
        }
        let long = (self.line.len() + part.len()) as u64 > self.longest;
        let added = if long { Err(body::too_large(self.longest)) } else { self.line.add(part) };
        if let Err(problem) = added {
            self.refused = Some(problem);
            self.next_line();
        }
    }

    /// The bytes of the current line; the next one begins.
    fn next_line(&mut self) -> Bytes {
        let next = Gathered::new(&self.sender.app.budgets.requests, u64::MAX);
        std::mem::replace(&mut self.line, next).whole()
    }

    /// The line is whole: it joins the group.
    async fn end_line(&mut self) {
        let line = self.next_line();
        let job = if let Some(problem) = self.refused.take() {
            Err(problem)
        } else if line.trim_ascii().is_empty() {
            return;
        } else {
            self.prepare(&line).await
        };
        self.group_bytes += job.as_ref().map_or(0, |job| job.payload.len());
        self.group.push((self.number, job));
        if self.group.len() == GROUP_JOBS || self.group_bytes >= GROUP_BYTES {
            self.depart().await;
        }
    }

    async fn prepare(&mut self, line: &Bytes) -> Result<NewJob, Problem> {
        if let Some(error) = &self.away {
            return Err(error.clone().into());
        }
        let idempotency_scope = self.sender.caller.idempotency_scope();
        let read =
            move |line: &Bytes, text: &str| Item::read(line, text.trim(), "", &idempotency_scope);
        let item = checks::read(line, read).await?;
        prepare(self.sender, item, "", &mut self.away).await
    }

    /// Sends the group on its way, once the one before has arrived.
    async fn depart(&mut self) {
        self.arrive().await;
        self.group_bytes = 0;
        let (group, away) = (std::mem::take(&mut self.group), self.away.clone());
        let app = self.sender.app.clone();
        self.under_way = Some(rt::spawn(enqueue(app, group, away)));
        // Lets it depart before this thread goes on with the next lines.
        tokio::task::yield_now().await;
    }

    /// Waits for the group that is under way, and counts what became of it.
    async fn arrive(&mut self) {
        let Some(under_way) = self.under_way.take() else { return };
        // It ends with this thread only, and then nobody hears of it.
        for (number, outcome) in under_way.await.unwrap_or_default() {
            match outcome {
                Ok(()) => self.document.accepted += 1,
                Err(Refused { problem, away }) => {
                    self.away = away.or(self.away.take());
                    self.refuse(number, &problem);
                }
            }
        }
    }

    fn refuse(&mut self, line: u64, problem: &Problem) {
        self.may_be_taken_later |= problem.kind.status == StatusCode::SERVICE_UNAVAILABLE;
        self.document.refused += 1;
        if self.document.errors.len() < MAX_ERRORS {
            let problem = problem.document(self.path);
            self.document.errors.push(LineError { line, problem });
        }
    }

    /// 202 if anything was taken; else 503 if another try may help; else 422.
    fn answer(self) -> Result<HttpResponse, Problem> {
        let LinesDocument { accepted, refused, .. } = self.document;
        if accepted + refused == 0 {
            return Err(Problem::new(MALFORMED_JSON, "there is no line in the body"));
        }
        let status = match (accepted, self.may_be_taken_later) {
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
