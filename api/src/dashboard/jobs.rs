//! The list of jobs, with its filters in the URL.

use std::collections::BTreeSet;
use std::str::FromStr;

use actix_web::web;
use askama::Template;
use crunch_common::broker::{self, BulkAction, JobRecord, ListQuery};
use crunch_common::job::Status;

use super::page::{Page, Section};
use super::text;
use super::viewer::{Rights, Viewer};
use crate::document::{SearchDocument, SummaryDocument, ValueDocument};
use crate::problem::Problem;
use crate::query;
use crate::routes::job_access::known_queue;
use crate::routes::jobs::{cursor_text, read_list};
use crate::routes::summary as routes;
use crate::search;
use crate::state::App;

const DEFAULT_LIMIT: usize = 50;
/// The field of the form for a label, as `name=value`.
const METADATA: &str = "metadata";
/// How many jobs the pages before looked at.
const LOOKED_AT: &str = "looked_at";
/// The filters by time.
const TIMES: [&str; 6] =
    ["created_after", "created_before", "finished_after", "finished_before", "from", "to"];
/// The parameters that show a summary: by a label, and the jobs that ran longest.
const VIEW: [&str; 2] = ["by", "sort"];
/// The only order besides that of the list.
const BY_DURATION: &str = "duration";
/// The parameters that are no filters.
const POSITION: [&str; 4] = ["cursor", "after", "limit", LOOKED_AT];

#[derive(Template)]
#[template(path = "dashboard/jobs.html")]
struct Jobs {
    filters: Filters,
    jobs: Vec<JobRecord>,
    /// The query of the next page.
    next: Option<String>,
    /// How jobs with labels were searched, by this page and those before it.
    search: Option<SearchDocument>,
    /// What the first jobs have in common, if that is shown instead of a page.
    summary: Option<SummaryDocument>,
    /// Why the filters are not valid.
    invalid: Option<String>,
    /// What can be done with all jobs that the filters find, and the query of the page that asks.
    actions: Vec<(BulkAction, String)>,
    /// The tasks and queues that the filters propose.
    tasks: Vec<String>,
    /// The labels that tasks declare as indexed.
    labels: BTreeSet<String>,
    rights: Rights,
}

impl Jobs {
    /// The label by which jobs are counted, with a value.
    fn label_of<'a>(&'a self, value: Option<&'a str>) -> Option<(&'a str, &'a str)> {
        value.map(|value| (self.filters.get("by"), value))
    }
}

/// The filters as they were given.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(String, String)>);

impl Filters {
    /// Reads a query; empty fields of the form are no filters. Its field for a label has the name and the value.
    pub(super) fn read(query: &str) -> Result<Self, Problem> {
        let mut pairs = query::pairs(query)?;
        // Of a label every character counts.
        let is_label = |name: &str| search::label(name).is_some();
        pairs.retain(|(name, value)| is_label(name) || !value.trim().is_empty());
        pairs.iter_mut().filter(|(name, _)| name == METADATA).for_each(|(name, value)| {
            if let Some((label, of_label)) = value.split_once('=') {
                (*name, *value) =
                    (format!("{METADATA}.{}", label.trim_start()), of_label.to_owned());
            }
        });
        // Otherwise one could be shown and another one used.
        if let Some(name) = query::repeated(pairs.iter().map(|(name, _)| name.as_str())) {
            return Err(query::invalid(name, "is given twice"));
        }
        let others = pairs.iter_mut().filter(|(name, _)| !is_label(name));
        others.for_each(|(name, value)| *value = plain(name, value.trim()));
        Ok(Self(pairs))
    }

    /// Whether jobs are searched by their labels.
    pub(super) fn has_labels(&self) -> bool {
        self.names().any(|name| search::label(name).is_some())
    }

    /// Reads a query that has no other filters than these.
    pub(super) fn of(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let filters = Self::read(query)?;
        if let Some(name) = filters.names().find(|name| !known.contains(name)) {
            return Err(query::unknown(name, known.iter().copied()));
        }
        Ok(filters)
    }

    /// Returns the value of a filter, if it is given; `expected` says what it must be.
    pub(super) fn parsed<T: FromStr>(
        &self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, Problem> {
        let given = Some(self.get(name)).filter(|value| !value.is_empty());
        let value = given.map(str::parse).transpose();
        value.map_err(|_| query::invalid(name, format!("expected {expected}")))
    }

    pub(super) fn get(&self, name: &str) -> &str {
        let value = self.0.iter().find(|(given, _)| given == name);
        value.map_or("", |(_, value)| value.as_str())
    }

    /// The labels, as the fields of the form have them; one empty field if there is none.
    fn labels(&self) -> Vec<String> {
        let labels = self.0.iter().filter_map(|(name, value)| match search::label(name) {
            Some(label) => Some(format!("{label}={value}")),
            None => (name == METADATA).then(|| value.clone()),
        });
        let labels: Vec<_> = labels.collect();
        if labels.is_empty() { vec![String::new()] } else { labels }
    }

    /// The names of the given filters.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// Whether anything is filtered.
    pub(super) fn is_empty(&self) -> bool {
        self.names().all(|name| POSITION.contains(&name))
    }

    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        self.0.clone()
    }

    /// The jobs among these with a value of a label, as a query.
    fn with_label(&self, name: &str, value: &str) -> String {
        let label = format!("{METADATA}.{name}");
        let is_other =
            |name: &str| name != label && !POSITION.contains(&name) && !VIEW.contains(&name);
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        query::encoded(all.filter(|(name, _)| is_other(name)).chain([(label.as_str(), value)]))
    }

    /// The jobs among these with a kind of error, and with a value of a label if there is one, as a query.
    fn with_error(&self, error: &str, label: Option<(&str, &str)>) -> String {
        let narrowed = label.map(|(name, value)| self.with_label(name, value));
        let pairs = narrowed.and_then(|query| query::pairs(&query).ok());
        let pairs = pairs.unwrap_or_else(|| self.0.clone());
        let is_other =
            |name: &str| name != "error" && !POSITION.contains(&name) && !VIEW.contains(&name);
        let all = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        query::encoded(all.filter(|(name, _)| is_other(name)).chain([("error", error)]))
    }

    /// Whether a summary of the first jobs is shown instead of a page.
    pub(super) fn is_summary(&self) -> bool {
        self.names().any(|name| VIEW.contains(&name))
    }

    /// All but one, as a query.
    pub(super) fn without(&self, name: &str) -> String {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        query::encoded(all.filter(|(given, _)| *given != name))
    }

    pub(super) fn has_times(&self) -> bool {
        self.names().any(|name| TIMES.contains(&name))
    }

    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }

    /// The filters without the position, as a query, with further parameters.
    pub(super) fn and<'a>(&'a self, more: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        query::encoded(all.filter(|(name, _)| !POSITION.contains(name)).chain(more))
    }

    /// Describes the search of a page, with the jobs that the pages before it looked at.
    fn search(&self, list: &ListQuery, page: &broker::Page) -> Option<SearchDocument> {
        let before = self.get(LOOKED_AT).parse().unwrap_or(0_u64);
        let search = search::document(list, page)?;
        Some(SearchDocument { looked_at: before.saturating_add(search.looked_at), ..search })
    }

    /// The query of the next page.
    fn following(&self, cursor: &str, search: Option<&SearchDocument>) -> String {
        let looked_at = search.map(|search| search.looked_at.to_string());
        let looked_at = looked_at.as_deref().map(|number| (LOOKED_AT, number));
        self.and([("cursor", cursor)].into_iter().chain(looked_at))
    }

    fn list(&self, app: &App, viewer: &Viewer) -> Result<ListQuery, Problem> {
        let mut pairs = self.pairs();
        pairs.retain(|(name, _)| name != LOOKED_AT && !VIEW.contains(&name.as_str()));
        let mut list = read_list(pairs, &|task, label| app.catalog.indexes(task, label))?;
        if self.get("limit").is_empty() {
            list.limit = DEFAULT_LIMIT;
        }
        list.among = viewer.caller.queues().cloned();
        Ok(list)
    }

    /// What can be done with all jobs that these find.
    fn actions(&self, list: &ListQuery) -> Vec<(BulkAction, String)> {
        let status = list.status.or(list.error.as_ref().map(|_| Status::Failed));
        let fits = |action: &BulkAction| status.is_some_and(|status| action.applies_to(status));
        let all = || self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let filters = || all().filter(|(name, _)| !POSITION.contains(name) && !VIEW.contains(name));
        let query = |action: BulkAction| {
            (action, query::encoded(filters().chain([("action", action.as_str())])))
        };
        BulkAction::ALL.into_iter().filter(fits).map(query).collect()
    }
}

/// A filter as the routes have it: a time may be written as pages show it, in UTC.
fn plain(name: &str, value: &str) -> String {
    let is_time = TIMES.contains(&name);
    match value.split_once(' ').filter(|_| is_time) {
        Some((date, time)) if time.len() == 5 => format!("{date}T{time}:00Z"),
        Some((date, time)) => format!("{date}T{time}Z"),
        None => value.to_owned(),
    }
}

/// What a list shows.
#[derive(Default)]
struct Shown {
    jobs: Vec<JobRecord>,
    next: Option<String>,
    search: Option<SearchDocument>,
    summary: Option<SummaryDocument>,
    actions: Vec<(BulkAction, String)>,
}

pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let filters = Filters::read(query)?;
    let (shown, invalid) = match filters.list(app, viewer) {
        Ok(list) if filters.is_summary() => (summary(app, viewer, &filters, list).await?, None),
        Ok(list) => (page(app, viewer, &filters, &list).await?, None),
        Err(problem) => (Shown::default(), Some(problem.detail().to_owned())),
    };
    let declared = app.catalog.read().await?;
    let labels = declared.iter().flat_map(|declared| declared.task.indexes.iter());
    let Shown { jobs, next, search, summary, actions } = shown;
    let template = Jobs {
        labels: labels.map(ToOwned::to_owned).collect(),
        tasks: declared.iter().map(|declared| declared.task.name.to_string()).collect(),
        filters,
        jobs,
        next,
        search,
        summary,
        invalid,
        actions,
        rights: viewer.rights(),
    };
    Page::new("Jobs", Section::Jobs, &template)
}

async fn page(
    app: &App,
    viewer: &Viewer,
    filters: &Filters,
    list: &ListQuery,
) -> Result<Shown, Problem> {
    let page = app.broker.list(list).await?;
    if let (Some(queue), true) = (&list.queue, page.items.is_empty()) {
        known_queue(app, &viewer.caller, queue).await?;
    }
    let search = filters.search(list, &page);
    let next = page.next.map(|cursor| filters.following(&cursor_text(&cursor), search.as_ref()));
    let actions = filters.actions(list);
    Ok(Shown { jobs: page.items, next, search, summary: None, actions })
}

/// What the first jobs have in common: by a label, or those that ran longest.
async fn summary(
    app: &App,
    viewer: &Viewer,
    filters: &Filters,
    list: ListQuery,
) -> Result<Shown, Problem> {
    let by = Some(filters.get("by").to_owned()).filter(|by| !by.is_empty());
    let by = by.map(routes::label).transpose()?;
    if !["", BY_DURATION].contains(&filters.get("sort")) {
        return Err(query::invalid("sort", format!("expected {BY_DURATION}")));
    }
    let (actions, read) = (filters.actions(&list), (by, routes::DEFAULT_JOBS));
    let (summary, slowest) = routes::summarize(app, &viewer.caller, list, read).await?;
    let jobs = if filters.is("sort", BY_DURATION) { slowest } else { Vec::new() };
    Ok(Shown { jobs, summary: Some(summary), actions, ..Shown::default() })
}
