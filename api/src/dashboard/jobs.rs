//! The list of jobs, with its filters in the URL.

use std::str::FromStr;

use actix_web::web;
use askama::Template;
use crunch_common::broker::{BulkAction, JobRecord, ListQuery};
use crunch_common::job::Status;

use super::page::{Page, Section};
use super::text;
use super::viewer::{Rights, Viewer};
use crate::problem::Problem;
use crate::query;
use crate::routes::job_access::known_queue;
use crate::routes::jobs::{cursor_text, read_list};
use crate::state::App;

const DEFAULT_LIMIT: usize = 50;

#[derive(Template)]
#[template(path = "dashboard/jobs.html")]
struct Jobs {
    filters: Filters,
    jobs: Vec<JobRecord>,
    /// The query of the next page.
    next: Option<String>,
    /// Why the filters are not valid.
    invalid: Option<String>,
    /// What can be done with all jobs that the filters find, and the query of the page that asks.
    actions: Vec<(BulkAction, String)>,
    /// The tasks and queues that the filters propose.
    tasks: Vec<String>,
    rights: Rights,
}

/// The filters as they were given.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(String, String)>);

impl Filters {
    /// Reads a query; empty fields of the form are no filters.
    pub(super) fn read(query: &str) -> Result<Self, Problem> {
        let mut pairs = query::pairs(query)?;
        // Otherwise one could be shown and another one used.
        if let Some(name) = query::repeated(pairs.iter().map(|(name, _)| name.as_str())) {
            return Err(query::invalid(name, "is given twice"));
        }
        pairs.retain(|(_, value)| !value.trim().is_empty());
        pairs.iter_mut().for_each(|(_, value)| *value = value.trim().to_owned());
        Ok(Self(pairs))
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

    /// The names of the given filters.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        self.0.clone()
    }

    /// All but one, as a query.
    pub(super) fn without(&self, name: &str) -> String {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        query::encoded(all.filter(|(given, _)| *given != name))
    }

    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }

    /// The filters without the position, as a query, with further parameters.
    pub(super) fn and<'a>(&'a self, more: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        query::encoded(all.filter(|(name, _)| !["cursor", "limit"].contains(name)).chain(more))
    }

    fn list(&self, viewer: &Viewer) -> Result<ListQuery, Problem> {
        let mut list = read_list(self.0.clone())?;
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
        let query = |action: BulkAction| (action, self.and([("action", action.as_str())]));
        BulkAction::ALL.into_iter().filter(fits).map(query).collect()
    }
}

pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let filters = Filters::read(query)?;
    let (mut jobs, mut next, mut invalid, mut actions) = (Vec::new(), None, None, Vec::new());
    match filters.list(viewer) {
        Ok(list) => {
            let page = app.broker.list(&list).await?;
            if let (Some(queue), true) = (&list.queue, page.items.is_empty()) {
                known_queue(app, &viewer.caller, queue).await?;
            }
            next = page.next.map(|cursor| filters.and([("cursor", cursor_text(&cursor).as_str())]));
            (jobs, actions) = (page.items, filters.actions(&list));
        }
        Err(problem) => invalid = Some(problem.detail().to_owned()),
    }
    let tasks = app.catalog.read().await?;
    let tasks = tasks.iter().map(|declared| declared.task.name.to_string()).collect();
    let template = Jobs { filters, jobs, next, invalid, actions, tasks, rights: viewer.rights() };
    Page::new("Jobs", Section::Jobs, &template)
}
