//! The log of operators' actions.

use std::fmt;
use std::str::FromStr;

use actix_web::{HttpRequest, web};
use crunch_common::broker::ErrorGroupId;
use crunch_common::queue::QueueName;
use crunch_common::time::Timestamp;

use super::Answer;
use super::paging::Paging;
use super::shared_parameters::PageQuery;
use crate::action_log::Action;
use crate::auth::Caller;
use crate::document::Page;
use crate::document::words::{OPERATOR_ACTIONS, OperatorActionWord};
use crate::problem::Problem;
use crate::query;
use crate::state::App;

/// How many actions a page looks at: all of them are some megabytes.
const LOOKS: usize = 2000;
/// How many are read in one round trip.
const READ: usize = 500;

/// The place after this many actions. One that is recorded meanwhile moves the others: then a page repeats some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<u16>().map(|place| Self(place.into()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The query parameters that filter actions.
pub(crate) const FILTERS: [&str; 8] =
    ["from", "to", "by", "action", "queue", "job", "worker", "error"];

/// Which actions.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    by: Option<String>,
    action: Option<String>,
    queue: Option<String>,
    job: Option<String>,
    worker: Option<String>,
    error: Option<String>,
}

impl Wanted {
    /// Reads the filters; the others among the parameters are not filters.
    ///
    /// # Errors
    /// If a filter is invalid.
    pub(crate) fn read<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Problem> {
        let mut wanted = Self::default();
        for (name, text) in pairs {
            let invalid = |accepted: &str| query::invalid(name, format!("expected {accepted}"));
            let time = || text.parse().map_err(|error| query::invalid(name, error));
            let value = Some(text.to_owned());
            match name {
                "from" => wanted.from = Some(time()?),
                "to" => wanted.to = Some(time()?),
                "by" => wanted.by = value,
                "action" if OPERATOR_ACTIONS.contains(&text) => wanted.action = value,
                "action" => return Err(invalid(&OPERATOR_ACTIONS.join(", "))),
                "queue" if text.parse::<QueueName>().is_ok() => wanted.queue = value,
                "queue" => return Err(invalid("a queue name")),
                "job" => wanted.job = Some(text.to_ascii_lowercase()),
                "worker" => wanted.worker = Some(text.to_ascii_lowercase()),
                "error" if text.parse::<ErrorGroupId>().is_ok() => wanted.error = value,
                "error" => return Err(invalid("the id of an item of GET /errors")),
                _ => {}
            }
        }
        Ok(wanted)
    }

    fn is_all(&self) -> bool {
        let texts = [&self.by, &self.action, &self.queue, &self.job, &self.worker, &self.error];
        texts.iter().all(|text| text.is_none()) && self.from.is_none() && self.to.is_none()
    }

    fn matches(&self, action: &Action) -> bool {
        let is = |wanted: &Option<String>, text: Option<&String>| {
            wanted.is_none() || wanted.as_ref() == text
        };
        self.to.is_none_or(|to| action.at < to)
            && is(&self.by, action.key.as_ref().or(action.address.as_ref()))
            && is(&self.action, Some(&action.action))
            && is(&self.queue, action.queue.as_ref())
            && is(&self.job, action.job.as_ref())
            && is(&self.worker, action.worker.as_ref())
            && is(&self.error, action.error.as_ref().map(|error| &error.id))
    }
}

/// Lists what operators did, a page at a time.
#[utoipa::path(get, path = "/actions", tag = "actions", operation_id = "listActions",
    params(
        ("from" = Option<String>, Query, format = DateTime, description = "Only actions then or later: RFC 3339, inclusive"),
        ("to" = Option<String>, Query, format = DateTime, description = "Only actions before: RFC 3339, exclusive"),
        ("by" = Option<String>, Query, description = "Only those of this caller: the name of a key, or an address where no key is required"),
        ("action" = inline(Option<OperatorActionWord>), Query, description = "Only these"),
        ("queue" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$", description = "Only those on this queue or its jobs"),
        ("job" = Option<String>, Query, description = "Only those on this job alone"),
        ("worker" = Option<String>, Query, description = "Only those on this worker"),
        ("error" = Option<String>, Query, pattern = "^([0-9a-f]{16}|other)$", description = "Only those on jobs that failed with this kind of error: the `id` of an item of `GET /errors`"),
        PageQuery,
    ),
    responses((status = 200, description = "The newest first; the last 10 000 are kept. A page looks at 2000 of them at most, so it may be short; only a null `next_cursor` ends the list", body = Page<Action>)))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let paging = Paging::<Place>::filtered(&request, &FILTERS)?;
    let wanted = Wanted::read(paging.filters())?;
    let (items, next) = page(&app, &caller, &wanted, (paging.after, paging.limit)).await?;
    Ok(paging.page(&request, items, next))
}

/// Returns the actions of a page that the caller may see: with a key for some queues, those on its queues. And where the
/// next page begins, if there is one.
pub(crate) async fn page(
    app: &App,
    caller: &Caller,
    wanted: &Wanted,
    (after, limit): (Option<Place>, usize),
) -> Result<(Vec<Action>, Option<Place>), Problem> {
    let is_visible = |action: &Action| {
        let queue = action.queue.as_ref().and_then(|queue| queue.parse().ok());
        caller.queues().is_none() || queue.is_some_and(|queue| caller.may_use(&queue))
    };
    let begin = after.map_or(0, |place| place.0);
    let (mut place, mut found) = (begin, Vec::new());
    while place < begin + LOOKS {
        let read = if wanted.is_all() { limit - found.len() } else { READ };
        let logged = app.broker.logged_actions(place, read.min(READ)).await?;
        for logged in &logged {
            // The newest are first.
            if wanted.from.is_some_and(|from| logged.at < from) {
                return Ok((found, None));
            }
            place += 1;
            found.extend(Action::read(logged).filter(|it| is_visible(it) && wanted.matches(it)));
            if found.len() == limit {
                return Ok((found, Some(Place(place))));
            }
        }
        if logged.len() < read.min(READ) {
            return Ok((found, None));
        }
    }
    Ok((found, Some(Place(place))))
}
