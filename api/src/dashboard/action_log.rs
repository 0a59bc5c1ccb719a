//! What operators did, the newest first.

use actix_web::web;
use askama::Template;

use super::jobs::Filters;
use super::page::{Page, Section};
use super::text;
use super::viewer::Viewer;
use crate::action_log::Action;
use crate::problem::Problem;
use crate::query;
use crate::routes::action_log as routes;
use crate::state::App;

/// How many actions a page has.
const LIMIT: usize = 100;

#[derive(Template)]
#[template(path = "dashboard/action_log.html")]
struct ActionLog {
    actions: Vec<Action>,
    next: Option<String>,
}

pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let after = Filters::of(query, &["after"])?.parsed("after", "a number")?;
    let (actions, next) = routes::page(app, &viewer.caller, after, LIMIT).await?;
    let next =
        next.map(|place| query::encoded([("after", place.to_string().as_str())].into_iter()));
    Page::new("Actions", Section::Actions, &ActionLog { actions, next })
}
