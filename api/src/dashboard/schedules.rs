//! The schedules, one schedule, and its verbs.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use askama::Template;
use crunch_common::broker::ScheduleRecord;
use crunch_common::schedule::{MissedPolicy, Rule, ScheduleName, Timing};
use crunch_common::time::Timestamp;

use super::jobs::Filters;
use super::page::{Page, Section};
use super::viewer::{Rights, Viewer};
use super::{Call, pretty, see_other, text};
use crate::auth::Scope;
use crate::document::schedule::{NEXT_RUNS, next_runs, reason, status_of};
use crate::problem::{NOT_FOUND, Problem};
use crate::query;
use crate::routes::schedules as routes;
use crate::state::App;

/// How many schedules a page has.
const LIMIT: usize = 100;

#[derive(Template)]
#[template(path = "dashboard/schedules.html")]
struct Schedules {
    schedules: Vec<ScheduleRecord>,
    next: Option<String>,
    rights: Rights,
}

impl Schedules {
    fn next_run(schedule: &ScheduleRecord) -> Option<Timestamp> {
        next_runs(schedule, 1).pop()
    }
}

/// Lists schedules by name, a page at a time.
pub(super) async fn list(
    app: &web::Data<App>,
    viewer: &Viewer,
    query: &str,
) -> Result<Page, Problem> {
    let after = Filters::of(query, &["after"])?.parsed::<ScheduleName>("after", "a schedule")?;
    let queues = viewer.caller.queues();
    let mut schedules = app.broker.schedules(after.as_ref(), queues, LIMIT + 1).await?;
    let more = schedules.len() > LIMIT;
    schedules.truncate(LIMIT);
    let last = schedules.last().filter(|_| more);
    let next = last.map(|last| query::encoded([("after", last.name.as_str())].into_iter()));
    let template = Schedules { schedules, next, rights: viewer.rights() };
    Page::new("Schedules", Section::Schedules, &template)
}

#[derive(Template)]
#[template(path = "dashboard/schedule.html")]
struct Schedule {
    schedule: ScheduleRecord,
    next_runs: Vec<Timestamp>,
    payload: String,
    options: String,
    may_change: bool,
}

/// Shows a schedule.
pub(super) async fn one(
    app: &web::Data<App>,
    viewer: &Viewer,
    name: &str,
) -> Result<Page, Problem> {
    let schedule = routes::find(app, &viewer.caller, name).await?;
    let is_own = routes::may_change(&viewer.caller, &schedule).is_ok();
    let template = Schedule {
        next_runs: next_runs(&schedule, NEXT_RUNS),
        payload: pretty::json(&String::from_utf8_lossy(&schedule.payload)),
        options: pretty::json(&schedule.spec.job),
        may_change: is_own && viewer.may(Scope::Submit),
        schedule,
    };
    Page::new(format!("Schedule {name}"), Section::Schedules, &template)
}

/// Pauses, resumes, runs or removes a schedule.
pub(super) async fn act(
    call: &Call,
    viewer: &Viewer,
    name: &str,
    verb: &str,
) -> Result<HttpResponse, Problem> {
    let (app, caller) = (&call.app, &viewer.caller);
    let known = routes::find(app, caller, name).await?;
    match verb {
        "pause" => routes::pause_known(app, caller, &known).await?,
        "resume" => routes::resume_known(app, caller, &known).await?,
        "run" => {
            let job = Box::pin(routes::run_known(app, caller, &known)).await?.job();
            return Ok(see_other(&format!("/dashboard/jobs/{}", job.id)));
        }
        "remove" => {
            routes::delete_known(app, caller, (&known, None)).await?;
            return Ok(see_other("/dashboard/schedules"));
        }
        _ => return Err(Problem::new(NOT_FOUND, "there is no such form")),
    }
    Ok(see_other(&format!("/dashboard/schedules/{}", known.name)))
}

/// When the ticks of a schedule are: its line of cron with its time zone, or its interval in words.
fn when(timing: &Timing) -> String {
    match &timing.rule {
        Rule::Cron(line) => format!("{line}, {}", timing.time_zone),
        Rule::Every(interval) => every(*interval),
    }
}

fn every(interval: Duration) -> String {
    let seconds = interval.as_secs();
    if interval.subsec_nanos() != 0 {
        return format!("every {}", text::span(interval));
    }
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let unit = units.into_iter().find(|(length, _)| seconds.is_multiple_of(*length));
    let (length, unit) = unit.unwrap_or((1, "second"));
    match seconds / length {
        1 => format!("every {unit}"),
        many => format!("every {many} {unit}s"),
    }
}

/// What becomes of missed ticks, in words.
fn missed(schedule: &ScheduleRecord) -> String {
    let missed = &schedule.spec.missed;
    match missed.policy {
        MissedPolicy::All => format!(
            "all are made up for: the newest {} of at most {} ago",
            text::count(missed.at_most),
            text::span(missed.within)
        ),
        MissedPolicy::Once => "one job for all that were missed".to_owned(),
        MissedPolicy::Skip => "none is made up for".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_written_in_its_largest_whole_unit() {
        let words = |ms| every(Duration::from_millis(ms)).replace('\u{202f}', " ");
        assert_eq!(words(600_000), "every 10 minutes");
        assert_eq!(words(3_600_000), "every hour");
        assert_eq!(words(5_400_000), "every 90 minutes");
        assert_eq!(words(172_800_000), "every 2 days");
        assert_eq!(words(1000), "every second");
        assert_eq!(words(1500), "every 1.5 s");
    }
}
