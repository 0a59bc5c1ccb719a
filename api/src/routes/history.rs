//! The history: how attempts ended and how deep queues were.

use actix_web::{HttpRequest, web};
use crunch_common::broker::{HistoryQuery, Unit};
use crunch_common::time::Timestamp;

use super::Answer;
use super::job_access::known_queue;
use crate::auth::Caller;
use crate::document::{HistoryDocument, ok};
use crate::problem::Problem;
use crate::query;
use crate::state::App;

/// How many minutes or hours one answer has by default, and at most: with a hundred series that is about a megabyte.
const POINTS: u64 = 60;
const MAX_POINTS: u64 = 360;

/// Returns how attempts ended and how deep queues were, in each minute or hour.
#[utoipa::path(get, path = "/history", tag = "history", operation_id = "getHistory",
    params(
        ("step" = Option<String>, Query, pattern = "^(minute|hour)$", description = "`minute`, kept for 72 hours; or `hour`, kept for 90 days. Default `minute`"),
        ("from" = Option<String>, Query, format = DateTime, description = "RFC 3339; default 60 steps before `to`"),
        ("to" = Option<String>, Query, format = DateTime, description = "RFC 3339, exclusive; default now, the step that is not over included. At most 360 steps after `from`"),
        ("queue" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$", description = "Only this queue"),
        ("task" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$", description = "Only attempts of this task, and no queues"),
    ),
    responses(
        (status = 200, description = "The history", body = HistoryDocument),
        (status = 404, description = "There is no such queue"),
    ))]
pub(crate) async fn show(app: web::Data<App>, caller: Caller, request: HttpRequest) -> Answer {
    let mut wanted = read(request.query_string(), Timestamp::now())?;
    wanted.among = caller.queues().cloned();
    let history = HistoryDocument::new(&wanted, app.broker.history(&wanted).await?);
    if let (Some(queue), true) = (&wanted.queue, history.is_empty()) {
        known_queue(&app, &caller, queue).await?;
    }
    Ok(ok(&history))
}

fn read(query: &str, now: Timestamp) -> Result<HistoryQuery, Problem> {
    let (mut unit, mut from, mut to, mut queue, mut task) = (Unit::Minute, None, None, None, None);
    for (name, text) in &query::pairs(query)? {
        let invalid = |accepted| query::invalid(name, format!("expected {accepted}"));
        let time =
            || text.parse::<Timestamp>().map_err(|error| query::invalid(name, error)).map(Some);
        match name.as_str() {
            "step" => unit = Unit::named(text).ok_or_else(|| invalid("minute or hour"))?,
            "from" => from = time()?,
            "to" => to = time()?,
            "queue" => queue = Some(text.parse().map_err(|_| invalid("a queue name"))?),
            // The router accepts no other.
            _ => task = Some(text.parse().map_err(|_| invalid("a task name"))?),
        }
    }
    // The step that contains the end is included, unless it begins there.
    let end = to.map_or_else(
        || unit.number(now) + 1,
        |to| unit.number(to) + u64::from(unit.start(unit.number(to)) < to),
    );
    let first = from.map_or_else(|| end.saturating_sub(POINTS), |from| unit.number(from));
    let points = end.saturating_sub(first);
    if points == 0 {
        return Err(query::invalid("from", "must be before to"));
    }
    if points > MAX_POINTS {
        let detail = format!(
            "there are {points} {unit}s between from and to, at most {MAX_POINTS} are answered"
        );
        return Err(query::invalid("from", detail));
    }
    Ok(HistoryQuery { unit, first, points: points as usize, among: None, queue, task })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first step and the end of the last one.
    fn span(query: &str) -> Option<(String, String)> {
        let now = "2026-11-30T09:41:12.345Z".parse().unwrap();
        let read = read(query, now).ok()?;
        let time = |number| read.unit.start(number).to_string()[5..16].to_owned();
        Some((time(read.first), time(read.first + read.points as u64)))
    }

    #[test]
    fn whole_steps_are_read_up_to_now_or_to_the_end() {
        let expected = [
            ("", "11-30T08:42", "11-30T09:42"),
            ("step=hour", "11-27T22:00", "11-30T10:00"),
            ("from=2026-11-30T09:00:30Z", "11-30T09:00", "11-30T09:42"),
            ("to=2026-11-30T09:00:00Z", "11-30T08:00", "11-30T09:00"),
            ("to=2026-11-30T09:00:00.001Z", "11-30T08:01", "11-30T09:01"),
            ("from=2026-11-30T09:00:00Z&to=2026-11-30T09:00:01Z", "11-30T09:00", "11-30T09:01"),
        ];
        for (query, from, to) in expected {
            assert_eq!(span(query), Some((from.to_owned(), to.to_owned())), "{query}");
        }
    }

    #[test]
    fn what_is_not_a_span_of_a_bounded_length_is_refused() {
        for query in [
            "step=day",
            "from=today",
            "queue=A",
            "from=2026-11-30T09:00:00Z&to=2026-11-30T09:00:00Z",
            "from=2026-11-30T10:00:00Z",
            "from=2026-11-30T03:00:00Z",
            "from=1970-01-01T00:00:00Z&step=hour",
            "from=1970-01-01T00:00:00Z&to=9999-12-30T22:00:00Z",
        ] {
            assert_eq!(span(query), None, "{query}");
        }
    }
}
