//! The deliveries of webhooks: they are jobs of a queue of their own.

use actix_web::web;
use askama::Template;
use crunch_common::broker::{Cursor, DeliveryOrder, JobRecord, ListQuery, Lookup};
use crunch_common::job::Status;
use crunch_common::task::TaskName;
use futures_util::future::try_join_all;

use super::jobs::Filters;
use super::page::{Page, Section};
use super::text;
use super::viewer::Viewer;
use crate::problem::Problem;
use crate::routes::jobs::{cursor_text, read_list};
use crate::state::App;

const LIMIT: usize = 50;
const PARAMETERS: [&str; 2] = ["status", "cursor"];

#[derive(Template)]
#[template(path = "dashboard/deliveries.html")]
struct Deliveries {
    filters: Filters,
    rows: Vec<Row>,
    next: Option<String>,
    /// Whether the viewer's key is for some queues, which never include that of deliveries.
    limited: bool,
}

/// A delivery, and what it is to send; `None` if that was deleted to free memory.
struct Row {
    job: JobRecord,
    order: Option<DeliveryOrder>,
}

impl Row {
    async fn read(app: &App, job: JobRecord) -> Result<Self, Problem> {
        let payload = match app.broker.payload(job.id).await? {
            Lookup::Found(payload) => payload,
            Lookup::Gone(_) | Lookup::Unknown => None,
        };
        let order = payload.and_then(|payload| serde_json::from_slice(&payload.bytes).ok());
        Ok(Self { job, order })
    }
}

pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let filters = Filters::of(query, &PARAMETERS)?;
    let list = ListQuery {
        queue: Some(TaskName::webhooks().default_queue()),
        among: viewer.caller.queues().cloned(),
        limit: LIMIT,
        ..read_list(filters.pairs(), &|_, _| false)?
    };
    let page = app.broker.list(&list).await?;
    let next = |cursor: Cursor| filters.and([("cursor", cursor_text(&cursor).as_str())]);
    let rows = page.items.into_iter().map(|job| Row::read(app, job));
    let template = Deliveries {
        next: page.next.map(next),
        rows: try_join_all(rows).await?,
        limited: list.among.is_some(),
        filters,
    };
    Page::new("Deliveries", Section::Deliveries, &template)
}
