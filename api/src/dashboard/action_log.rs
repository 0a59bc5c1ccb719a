//! What operators did, the newest first.

use actix_web::web;
use askama::Template;

use super::jobs::Filters;
use super::page::{Page, Section};
use super::text;
use super::viewer::Viewer;
use crate::action_log::Action;
use crate::document::words::OPERATOR_ACTIONS;
use crate::problem::Problem;
use crate::routes::action_log as routes;
use crate::state::App;

/// How many actions a page has.
const LIMIT: usize = 100;

#[derive(Template)]
#[template(path = "dashboard/action_log.html")]
struct ActionLog {
    filters: Filters,
    actions: Vec<Action>,
    next: Option<String>,
}

impl ActionLog {
    /// The filter of an action without the kind of error, which is shown in words.
    fn other_filters(action: &Action) -> String {
        let filter = action.filter.as_deref().unwrap_or_default();
        let Some(error) = &action.error else { return filter.to_owned() };
        let words = filter.split(' ').filter(|word| *word != format!("error={}", error.id));
        words.collect::<Vec<_>>().join(" ")
    }
}

pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let known: Vec<_> = routes::FILTERS.into_iter().chain(["after"]).collect();
    let filters = Filters::of(query, &known)?;
    let after = filters.parsed("after", "a number")?;
    let pairs = filters.pairs();
    let given = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let wanted = routes::Wanted::read(given)?;
    let (actions, next) = routes::page(app, &viewer.caller, &wanted, (after, LIMIT)).await?;
    let next = next.map(|place| filters.and([("after", place.to_string().as_str())]));
    Page::new("Actions", Section::Actions, &ActionLog { filters, actions, next })
}
