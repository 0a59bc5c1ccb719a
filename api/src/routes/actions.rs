//! Actions on all jobs that a filter finds: counted first, and done in bounded steps.

use std::time::Duration;

use actix_web::{HttpRequest, rt, web};
use crunch_common::broker::{Acted, BulkAction, ErrorGroup, JobRecord, ListQuery, Page};
use crunch_common::job::Status;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::Answer;
use super::job_access::known_queue;
use super::jobs::{MAX_LIMIT, cursor_text, read_list};
use super::shared_parameters::JobFilters;
use crate::action_log::Action;
use crate::auth::Caller;
use crate::document::words::{ActionWord, StatusWord};
use crate::document::{FailureCount, FailureCounts, KindDocument, SearchDocument, ok};
use crate::metrics;
use crate::problem::{INTERNAL, Problem};
use crate::query;
use crate::search::{self, IsIndexed};
use crate::state::App;

/// How many jobs one request changes by default, and at most.
const DEFAULT_JOBS: u64 = 1000;
const MAX_JOBS: u64 = 100_000;
/// A request answers after this time, with a cursor if it is not done.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// What an action did.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ActionReport {
    /// How many jobs the filter found.
    pub(crate) matched: u64,
    /// How many of them were changed: canceled or asked to stop, queued again, or deleted. The others had changed
    /// meanwhile. 0 if nothing was to be changed.
    pub(crate) changed: u64,
    /// Pass it as `cursor` to go on; null at the end of the list.
    pub(crate) next_cursor: Option<String>,
    /// How jobs with labels were searched; null without `metadata.{name}`.
    pub(crate) search: Option<SearchDocument>,
    /// With which errors those that failed did: the five most frequent kinds.
    pub(crate) failures: Vec<FailureCount>,
}

/// Cancels, retries or deletes the jobs that a filter finds.
#[utoipa::path(post, path = "/jobs/actions", tag = "jobs", operation_id = "actOnJobs",
    params(
        ("action" = ActionWord, Query, description = "`cancel`: jobs that have not ended. `retry`: failed and canceled ones. `delete`: ended ones"),
        ("status" = Option<StatusWord>, Query, description = "Only jobs with this status, to which the action must apply; required unless there is an `error`"),
        JobFilters,
        ("dry_run" = Option<bool>, Query, description = "Only counts the jobs; default false"),
        ("limit" = Option<u64>, Query, minimum = 1, maximum = 100_000, description = "How many jobs at most; default 1000, for `dry_run` 100 000"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous answer"),
    ),
    responses(
        (status = 200, description = "What was done. A request ends after five seconds, or at an error: repeat it with `next_cursor` until that is null", body = ActionReport),
        (status = 404, description = "There is no such queue"),
    ))]
pub(crate) async fn act(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let is_indexed = |task: Option<&_>, label: &str| app.catalog.indexes(task, label);
    let wanted = Request::read(request.query_string(), &is_indexed)?;
    Ok(ok(&run(&app, &caller, wanted).await?))
}

/// Does what was requested, as far as the time allows.
///
/// # Errors
/// If nothing could be done.
pub(crate) async fn run(
    app: &web::Data<App>,
    caller: &Caller,
    request: Request,
) -> Result<ActionReport, Problem> {
    if request.dry_run {
        return run_to_the_end(app, caller, request).await;
    }
    // Also if the client closes the connection meanwhile: what was done is recorded.
    let (app, caller) = (app.clone(), caller.clone());
    let work = rt::spawn(async move { run_to_the_end(&app, &caller, request).await });
    let failed = |error: rt::task::JoinError| {
        tracing::error!(%error, "an action has failed");
        Err(Problem::new(INTERNAL, "internal error"))
    };
    work.await.unwrap_or_else(failed)
}

async fn run_to_the_end(
    app: &App,
    caller: &Caller,
    request: Request,
) -> Result<ActionReport, Problem> {
    let Request { action, dry_run, limit, filter, mut list } = request;
    list.among = caller.queues().cloned();
    let ends = Instant::now() + TIME_LIMIT;
    let (mut report, mut failures) = (ActionReport::default(), FailureCounts::default());
    loop {
        list.limit = MAX_LIMIT.min(usize::try_from(limit - report.matched).unwrap_or(usize::MAX));
        let step = act_on_page(app, &list, (!dry_run).then_some(action)).await;
        let (page, changed) = match step {
            Ok(step) => step,
            // The client learns what was done, and tries this page again.
            Err(problem) if report.matched > 0 => {
                tracing::debug!(?problem, "an action ends early");
                break;
            }
            Err(problem) => {
                if !dry_run {
                    // Some of the first page may have been changed.
                    Action::named(action.as_str()).on_jobs(filter).record(app, caller).await;
                }
                return Err(problem);
            }
        };
        report.add(&list, &page, changed);
        page.items.iter().for_each(|job| failures.add(job));
        list.cursor = page.next;
        if list.cursor.is_none() || report.matched >= limit || Instant::now() >= ends {
            break;
        }
    }
    if let (Some(queue), 0) = (&list.queue, report.matched) {
        known_queue(app, caller, queue).await?;
    }
    if !dry_run {
        let act = Action::named(action.as_str()).on_jobs(filter).changing(report.changed);
        described(app, act, &list).await.record(app, caller).await;
    }
    report.failures = failures.most();
    report.next_cursor = list.cursor.as_ref().map(cursor_text);
    Ok(report)
}

/// Adds the queue that the jobs have, if it is one, and what kind of error they have, if it is one: the kind may be
/// forgotten before the action is.
async fn described(app: &App, action: Action, list: &ListQuery) -> Action {
    let group = match &list.error {
        Some(id) => app.broker.error_group(id).await.unwrap_or_default(),
        None => None,
    };
    // With another queue no job was found, and a key for that queue must not learn of the error.
    let fits = |group: &ErrorGroup| list.queue.is_none() || list.queue == group.queue;
    let group = group.filter(fits);
    let of_group = group.as_ref().and_then(|group| group.queue.as_ref());
    let action = action.with_error(group.as_ref().map(KindDocument::of));
    match list.queue.as_ref().or(of_group) {
        Some(queue) => action.on_queue(queue),
        None => action,
    }
}

impl ActionReport {
    fn add(&mut self, list: &ListQuery, page: &Page, changed: u64) {
        self.matched += page.items.len() as u64;
        self.changed += changed;
        let before = self.search.take().map_or(0, |search| search.looked_at);
        self.search = search::document(list, page)
            .map(|search| SearchDocument { looked_at: before + search.looked_at, ..search });
    }
}

/// Acts on the jobs of a page. Returns the page, and how many jobs were changed.
async fn act_on_page(
    app: &App,
    list: &ListQuery,
    action: Option<BulkAction>,
) -> Result<(Page, u64), Problem> {
    let page = app.broker.list(list).await?;
    let mut changed = 0;
    if let Some(action) = action {
        let ids: Vec<_> = page.items.iter().map(|job| job.id).collect();
        let acted = app.broker.act_on(action, &ids).await.map_err(Problem::in_doubt)?;
        changed = acted.iter().filter(|acted| **acted != Acted::Left).count() as u64;
        count_canceled(action, &page.items, &acted);
    }
    Ok((page, changed))
}

/// Counts the jobs that were canceled before a worker ran them.
fn count_canceled(action: BulkAction, jobs: &[JobRecord], acted: &[Acted]) {
    if action == BulkAction::Cancel {
        let canceled = jobs.iter().zip(acted).filter(|(_, acted)| **acted == Acted::Done);
        for (job, _) in canceled {
            metrics::finished(job.task.as_str(), job.queue.as_str(), "canceled", 1);
        }
    }
}

/// What to do with which jobs.
#[derive(Debug)]
pub(crate) struct Request {
    action: BulkAction,
    dry_run: bool,
    limit: u64,
    /// Which jobs, in words.
    filter: String,
    list: ListQuery,
}

impl Request {
    pub(crate) const fn action(&self) -> BulkAction {
        self.action
    }

    /// Which jobs; without the restriction to those that the caller may see.
    pub(crate) const fn list(&self) -> &ListQuery {
        &self.list
    }

    /// Reads it from the query of a request.
    ///
    /// # Errors
    /// If a parameter is unknown, missing or invalid.
    pub(crate) fn read(query: &str, is_indexed: IsIndexed<'_>) -> Result<Self, Problem> {
        let (mut action, mut dry_run, mut limit) = (None::<BulkAction>, false, None);
        let (mut rest, pairs) = (Vec::new(), query::pairs(query)?);
        if let Some(name) = query::repeated(pairs.iter().map(|(name, _)| name.as_str())) {
            return Err(query::invalid(name, "is given twice"));
        }
        for (name, text) in pairs {
            let invalid = |accepted: &str| query::invalid(&name, format!("expected {accepted}"));
            match name.as_str() {
                "action" => {
                    action = Some(text.parse().map_err(|error| query::invalid(&name, error))?);
                }
                "dry_run" => dry_run = text.parse().map_err(|_| invalid("true or false"))?,
                "limit" => {
                    let number = text.parse().ok().filter(|number| (1..=MAX_JOBS).contains(number));
                    limit = Some(number.ok_or_else(|| invalid("a whole number from 1 to 100000"))?);
                }
                _ => rest.push((name, text)),
            }
        }
        let missing = |name, accepted: String| {
            query::invalid(name, format!("it is required, and one of: {accepted}"))
        };
        let action = action.ok_or_else(|| missing("action", words(&BulkAction::ALL)))?;
        let limit = limit.unwrap_or(if dry_run { MAX_JOBS } else { DEFAULT_JOBS });
        let named = rest.iter().filter(|(name, _)| name != "cursor");
        let filter =
            named.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let mut list = read_list(rest, is_indexed)?;
        let fits = |status: &Status| action.applies_to(*status);
        // Only failed jobs have a kind of error.
        list.status = list.status.or(list.error.as_ref().map(|_| Status::Failed));
        list.status.filter(fits).ok_or_else(|| {
            let statuses: Vec<_> = Status::ALL.into_iter().filter(fits).collect();
            missing("status", words(&statuses))
        })?;
        Ok(Self { action, dry_run, limit, filter, list })
    }
}

fn words<T: ToString>(all: &[T]) -> String {
    let words: Vec<_> = all.iter().map(ToString::to_string).collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_names_itself_and_a_status_to_which_it_applies() {
        let read = |query| {
            Request::read(query, &|_, _| false).map(|request| (request.action, request.limit))
        };
        let retry = read("action=retry&status=failed&task=t").unwrap();
        assert_eq!(retry, (BulkAction::Retry, 1000));
        let cancel = read("status=queued&action=cancel&limit=7&dry_run=true").unwrap();
        assert_eq!(cancel, (BulkAction::Cancel, 7));
        assert!(read("action=retry&error=other").is_ok());
        assert!(read("action=retry&status=failed&metadata.a=b&search=scan").is_ok());
        for wrong in [
            "",
            "status=failed",
            "action=retry",
            "action=retry&status=queued",
            "action=cancel&status=failed",
            "action=cancel&error=other",
            "action=delete&status=running",
            "action=drop&status=failed",
            "action=retry&status=failed&limit=0",
            "action=retry&status=failed&limit=100001",
            "action=retry&status=failed&dry_run=yes",
            "action=retry&status=failed&taks=t",
            "action=retry&action=delete&status=failed",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
