//! The log of operators' actions.

use std::fmt;
use std::str::FromStr;

use actix_web::{HttpRequest, web};

use super::Answer;
use super::paging::Paging;
use super::shared_parameters::PageQuery;
use crate::action_log::Action;
use crate::auth::Caller;
use crate::document::Page;
use crate::problem::Problem;
use crate::state::App;

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

/// Lists what operators did, a page at a time.
#[utoipa::path(get, path = "/actions", tag = "actions", operation_id = "listActions",
    params(PageQuery),
    responses((status = 200, description = "The newest first; the last 10 000 are kept. A page may be short, only a null `next_cursor` ends the list", body = Page<Action>)))]
pub(crate) async fn list(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let paging = Paging::<Place>::of(&request)?;
    let (items, next) = page(&app, &caller, paging.after, paging.limit).await?;
    Ok(paging.page(&request, items, next))
}

/// Returns the actions of a page that the caller may see: with a key for some queues, those on its queues. And where the
/// next page begins, if there is one.
pub(crate) async fn page(
    app: &App,
    caller: &Caller,
    after: Option<Place>,
    limit: usize,
) -> Result<(Vec<Action>, Option<Place>), Problem> {
    let skip = after.map_or(0, |place| place.0);
    let logged = app.broker.logged_actions(skip, limit).await?;
    let next = (logged.len() == limit).then_some(Place(skip + limit));
    let is_visible = |action: &Action| {
        let queue = action.queue.as_ref().and_then(|queue| queue.parse().ok());
        caller.queues().is_none() || queue.is_some_and(|queue| caller.may_use(&queue))
    };
    let actions = logged.iter().filter_map(Action::read).filter(is_visible);
    Ok((actions.collect(), next))
}
