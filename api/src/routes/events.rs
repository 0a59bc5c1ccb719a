//! The events of a job as they occur, and its log.

use actix_web::http::header::{self, HeaderName};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use crunch_common::job::JobId;
use utoipa::ToSchema;

use super::Answer;
use super::job_access::{found_or_problem, visible_id};
use super::shared_parameters::JobPath;
use crate::auth::Caller;
use crate::document::words::EventWord;
use crate::document::{LogDocument, LogPage};
use crate::problem::Problem;
use crate::query;
use crate::state::App;
use crate::stream::{Position, Reader};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Prevents nginx from buffering events.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The largest page: as many lines as are kept.
const MAX_LINES: usize = 256;
const DEFAULT_LINES: usize = 100;

/// One event of a stream, as clients of server-sent events represent it.
#[derive(ToSchema)]
#[schema(as = Event)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct EventSchema {
    #[schema(value_type = EventWord)]
    event: String,
    /// For `Last-Event-ID`.
    id: String,
    /// JSON; with `done` it is the job's document.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// Streams a job's events as they occur.
#[utoipa::path(get, path = "/jobs/{id}/events", tag = "jobs", operation_id = "streamEvents",
    params(
        JobPath,
        ("ticket" = Option<String>, Query, description = "Instead of a key: a ticket from `POST /stream-tickets` for this job"),
        ("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event that was received: the stream continues after it"),
    ),
    responses(
        (status = 200, description = "Server-sent events `status`, `progress`, `log`, and at the end `done` with the job's document", content_type = "text/event-stream", body = EventSchema),
        (status = 204, description = "The job has ended and all events were sent: do not reconnect"),
        (status = 404, description = "There is no such job"),
        (status = 410, description = "It was deleted"),
        (status = 429, description = "This caller has too many open streams; `Retry-After` is the time to wait"),
    ))]
pub(crate) async fn stream(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
) -> Answer {
    let id = visible_id(&app, &caller, &id).await?;
    let last = request.headers().get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let known: Option<Position> = last.and_then(|id| id.parse().ok());
    let place = app.places.take(caller.identity())?;
    let mut reader = Reader::new(app, id, known, place);
    let first = found_or_problem(reader.look().await?)?;
    if reader.is_over() && first.is_empty() {
        return Ok(HttpResponse::NoContent().finish());
    }
    let mut response = open();
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    Ok(response.streaming(reader.stream(first)))
}

fn open() -> HttpResponseBuilder {
    let mut response = HttpResponse::build(StatusCode::OK);
    response
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((ACCEL_BUFFERING, "no"));
    response
}

/// Returns a job's log, a page at a time: the newest 256 lines, at most 64 KiB, are kept.
#[utoipa::path(get, path = "/jobs/{id}/logs", tag = "jobs", operation_id = "getLogs",
    params(
        JobPath,
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 256, description = "The size of a page; default 100"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the previous page"),
    ),
    responses((status = 200, description = "A page; it may be empty while the job runs, only a null `next_cursor` ends the log", body = LogPage)))]
pub(crate) async fn log(
    app: web::Data<App>,
    caller: Caller,
    id: web::Path<String>,
    request: HttpRequest,
) -> Answer {
    let (id, (known, limit)) =
        (visible_id(&app, &caller, &id).await?, read_query(request.query_string())?);
    let (job, mut lines) = found_or_problem(app.broker.log(id, known).await?)?;
    let more = lines.len() > limit;
    lines.truncate(limit);
    let last = lines.last().map_or(known, |line| line.number);
    let next = (more || !job.status.is_terminal()).then(|| last.to_string());
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    if let Some(cursor) = &next {
        response.insert_header((header::LINK, link(id, cursor, limit)));
    }
    let items = lines.into_iter().map(LogDocument::from).collect();
    Ok(response.json(LogPage { items, next_cursor: next }))
}

fn link(id: JobId, cursor: &str, limit: usize) -> String {
    format!("</jobs/{id}/logs?cursor={cursor}&limit={limit}>; rel=\"next\"")
}

/// Returns the last line that the client has, and the size of a page.
fn read_query(query: &str) -> Result<(u64, usize), Problem> {
    let (mut known, mut limit) = (0, DEFAULT_LINES);
    for (name, text) in query::pairs(query)? {
        match name.as_str() {
            "cursor" => {
                let cursor =
                    text.parse().map_err(|_| "expected the next_cursor of a page of this log");
                known = cursor.map_err(|detail| query::invalid(&name, detail))?;
            }
            "limit" => {
                let given = text.parse().ok().filter(|limit| (1..=MAX_LINES).contains(limit));
                let expected = || query::invalid(&name, "expected a whole number from 1 to 256");
                limit = given.ok_or_else(expected)?;
            }
            _ => return Err(query::unknown(&name, ["limit", "cursor"].into_iter())),
        }
    }
    Ok((known, limit))
}
