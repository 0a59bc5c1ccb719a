//! One action on all jobs that a filter finds: asked first, with their number.

use actix_web::{HttpResponse, web};
use askama::Template;
use crunch_common::broker::{BulkAction, ErrorGroup, ErrorGroupQuery, ListQuery};
use crunch_common::job::Status;

use super::jobs::Filters;
use super::page::{self, Page, Section, TokenField};
use super::posted::Posted;
use super::queues::{TYPED_ABOVE, require_confirmation};
use super::viewer::Viewer;
use super::{Call, text};
use crate::auth::Scope;
use crate::document::{FailureCount, most_failed};
use crate::problem::Problem;
use crate::query;
use crate::routes::actions as routes;
use crate::state::App;

/// How many jobs one form changes at most; the next page offers to go on.
const MAX_JOBS: u64 = 100_000;
/// How many kinds of error of a queue are read to find the most frequent ones.
const MAX_KINDS: usize = 500;
/// The fields of the form that are no filters.
const NO_FILTERS: [&str; 4] = ["token", "count", "typed", "limit"];

#[derive(Template)]
#[template(path = "dashboard/confirm.html")]
struct Confirm {
    action: BulkAction,
    filters: Vec<(String, String)>,
    /// The kind of error that is a filter.
    error: Option<ErrorGroup>,
    count: u64,
    /// Whether there are more than were counted.
    more: bool,
    /// The most frequent kinds of error among them, if they failed with several.
    failures: Vec<FailureCount>,
    typed: bool,
    /// The list of these jobs.
    list: String,
    token: TokenField,
}

impl Confirm {
    /// How many jobs failed with other errors than those that are shown, or did not fail.
    fn others(&self) -> u64 {
        let shown: u64 = self.failures.iter().map(|failure| failure.jobs).sum();
        self.count.saturating_sub(shown)
    }
}

/// Shows how many jobs an action would change.
pub(super) async fn confirm(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    viewer.require(Scope::Admin)?;
    let filters = Filters::read(query)?;
    // What is counted here is what the form changes.
    if let Some(name) = filters.names().find(|name| ["limit", "cursor", "dry_run"].contains(name)) {
        return Err(query::invalid(name, "is no filter"));
    }
    let all: Vec<_> = filters.pairs();
    let asked = query::encoded(all.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let is_indexed = |task: Option<&_>, label: &str| app.catalog.indexes(task, label);
    let request = routes::Request::read(&format!("{asked}&dry_run=true"), &is_indexed)?;
    let action = request.action();
    let error = visible_error(app, viewer, request.list()).await?;
    let list = request.list().clone();
    let (count, more, mut failures) = match exact(app, viewer, &list, error.as_ref()).await? {
        Some(count) => (count, false, failures_of(app, viewer, &list).await?),
        None => {
            let report = routes::run(app, &viewer.caller, request).await?;
            (report.matched, report.next_cursor.is_some(), report.failures)
        }
    };
    // With one kind as the filter it is among the filters.
    failures.retain(|_| list.error.is_none());
    let list = filters.without("action");
    let title = format!("{} {} jobs", title(action), text::count(count));
    let template = Confirm {
        action,
        filters: all,
        error,
        count,
        more,
        failures,
        typed: count > TYPED_ABOVE,
        list,
        token: TokenField,
    };
    Page::new(title, Section::Jobs, &template)
}

/// Returns the kind of error that is a filter, if the viewer may see it.
async fn visible_error(
    app: &App,
    viewer: &Viewer,
    list: &ListQuery,
) -> Result<Option<ErrorGroup>, Problem> {
    let Some(id) = &list.error else { return Ok(None) };
    // The group of all other kinds is of no queue.
    let may_see = |group: &ErrorGroup| match &group.queue {
        Some(queue) => viewer.caller.may_use(queue),
        None => viewer.caller.queues().is_none(),
    };
    Ok(app.broker.error_group(id).await?.filter(may_see))
}

/// Returns the number of jobs where Redis has it, without reading them; `None` if they must be counted.
async fn exact(
    app: &App,
    viewer: &Viewer,
    list: &ListQuery,
    error: Option<&ErrorGroup>,
) -> Result<Option<u64>, Problem> {
    if list.is_choosy() {
        return Ok(None);
    }
    match (&list.error, &list.queue) {
        (Some(_), None) => Ok(Some(error.map_or(0, |group| group.failed_jobs))),
        (None, Some(queue)) if viewer.caller.may_use(queue) => {
            let queue = app.broker.queue(queue).await?;
            Ok(queue.and_then(|queue| match list.status {
                Some(Status::Failed) => Some(queue.failed),
                Some(Status::Queued) => Some(queue.queued),
                Some(Status::Running) => Some(queue.running),
                _ => None,
            }))
        }
        _ => Ok(None),
    }
}

/// Returns the most frequent kinds of error of the failed jobs of a queue, as Redis counts them.
async fn failures_of(
    app: &App,
    viewer: &Viewer,
    list: &ListQuery,
) -> Result<Vec<FailureCount>, Problem> {
    if list.status != Some(Status::Failed) || list.error.is_some() {
        return Ok(Vec::new());
    }
    let wanted = ErrorGroupQuery {
        among: viewer.caller.queues().cloned(),
        queue: list.queue.clone(),
        with_failed_jobs: true,
        limit: MAX_KINDS,
        ..ErrorGroupQuery::default()
    };
    Ok(most_failed(&app.broker.error_groups(&wanted).await?.items))
}

const fn title(action: BulkAction) -> &'static str {
    match action {
        BulkAction::Cancel => "Cancel",
        BulkAction::Retry => "Retry",
        BulkAction::Delete => "Delete",
    }
}

#[derive(Template)]
#[template(path = "dashboard/acted.html")]
struct ActedPage {
    action: BulkAction,
    changed: u64,
    /// Jobs that had changed meanwhile.
    left: u64,
    /// Whether more match than were confirmed; those are left.
    beyond: bool,
    /// What the next form sends, if there is more to do.
    next: Option<Vec<(String, String)>>,
    list: String,
    token: TokenField,
}

/// Does what was asked, for at most five seconds, and reports how many jobs it has changed: no more than were confirmed,
/// although more may match since.
pub(super) async fn act(
    call: &Call,
    viewer: &Viewer,
    posted: Posted,
) -> Result<HttpResponse, Problem> {
    require_confirmation(&posted)?;
    let is_filter = |(name, _): &(&str, &str)| !NO_FILTERS.contains(name);
    let fields: Vec<_> = posted.fields().filter(is_filter).collect();
    // None if they were too many to be counted.
    let confirmed = posted.get("limit").and_then(|text| text.parse::<u64>().ok());
    let limit = confirmed.unwrap_or(MAX_JOBS).min(MAX_JOBS).to_string();
    let asked = query::encoded(fields.iter().copied().chain([("limit", limit.as_str())]));
    let is_indexed = |task: Option<&_>, label: &str| call.app.catalog.indexes(task, label);
    let request = routes::Request::read(&asked, &is_indexed)?;
    let action = request.action();
    let report = routes::run(&call.app, &viewer.caller, request).await?;
    let others = fields.iter().filter(|(name, _)| *name != "cursor");
    let others = others.map(|&(name, value)| (name.to_owned(), value.to_owned()));
    let filters: Vec<_> = others.collect();
    let list = filters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let list = query::encoded(list.filter(|(name, _)| *name != "action"));
    let remaining = confirmed.map(|confirmed| confirmed.saturating_sub(report.matched));
    let beyond = report.next_cursor.is_some() && remaining == Some(0);
    let next = report.next_cursor.filter(|_| !beyond).map(|cursor| {
        let limit = remaining.map(|remaining| ("limit".to_owned(), remaining.to_string()));
        filters.into_iter().chain([("cursor".to_owned(), cursor)]).chain(limit).collect()
    });
    let template = ActedPage {
        action,
        changed: report.changed,
        left: report.matched - report.changed,
        beyond,
        next,
        list,
        token: TokenField,
    };
    let page = Page::new(title(action), Section::Jobs, &template)?;
    Ok(page::show_once(&page, viewer))
}
