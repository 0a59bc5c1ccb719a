//! `history`: how attempts ended and how long they took, or how deep queues were, over the last hour or days.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::value::RawValue;

use super::Session;
use super::list::finish;
use crate::client::Request;
use crate::clock;
use crate::completion;
use crate::documents::{AttemptSeries, History, QueueSeries, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::{age, parse_duration, parse_past, run_time, short_duration};
use crate::output::{Cell, Style, Table, spark};

/// Which part of the history, and how it is shown.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this task
    #[arg(long, value_name = "TASK", conflicts_with = "depth",
        add = clap_complete::ArgValueCandidates::new(completion::tasks))]
    task: Option<String>,
    /// Only this queue
    #[arg(long, value_name = "QUEUE", add = clap_complete::ArgValueCandidates::new(completion::queues))]
    queue: Option<String>,
    /// How much of the past: up to 6h by the minute, up to 15d by the hour
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    over: Duration,
    /// The end of it: 1h (ago), a date, or an RFC 3339 time. Default: now
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    until: Option<Timestamp>,
    /// How deep queues were, instead of how attempts ended
    #[arg(long)]
    depth: bool,
    /// A row for each part, if the time is divided into this many: it shows when something began.
    #[arg(long, value_name = "N", conflicts_with = "depth",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_PARTS)))]
    parts: Option<u32>,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// How many steps the API answers at most.
const MOST_STEPS: u32 = 360;
/// How long the API keeps minutes.
const MINUTES_KEPT: Duration = Duration::from_secs(72 * 3600);
/// Each part is a request.
const MOST_PARTS: u32 = 48;
/// How many bars show a time.
const BARS: usize = 20;

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    if let Some(parts) = arguments.parts {
        return in_parts(session, arguments, parts);
    }
    let (document, history) = fetch(session, &span(arguments)?.request(arguments))?;
    if session.output.json {
        session.output.document(&document)?;
        return Ok(Exit::Done);
    }
    if arguments.depth {
        return depths(session, history);
    }
    let minutes = history.minutes();
    let mut series = history.attempts;
    series.sort_by_key(|series| std::cmp::Reverse(series.total()));
    let mut table = Table::new(&[&NAMES[..], &NUMBERS[..], &["OVER TIME"]].concat());
    for series in series {
        let trend = over_time(&series.ended().map(Some).collect::<Vec<_>>(), |a, b| a + b);
        table.row([names(&series), numbers(&series, minutes), vec![trend]].concat());
    }
    finish(session, &table, "nothing ended in this time")
}

const NAMES: [&str; 2] = ["TASK", "QUEUE"];
const NUMBERS: [&str; 8] =
    ["SUCCEEDED", "FAILED", "RETRIED", "CANCELED", "PER MIN", "P50", "P90", "P99"];
/// What has a name of its own only among the first hundred of an hour.
const OTHERS: &str = "(others)";

fn fetch(session: &Session<'_>, request: &Request) -> Result<(Box<RawValue>, History), Error> {
    let document: Box<RawValue> = session.client.read(request)?;
    let history = read(&document)?;
    Ok((document, history))
}

/// Whole steps of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    step: Duration,
    steps: u32,
    /// The end of the last step.
    end: Timestamp,
}

fn span(arguments: &Arguments) -> Result<Span, Error> {
    let Arguments { over, until, .. } = arguments;
    Span::new(*over, *until, clock::now()).ok_or_else(|| {
        Error::usage(
            format!("--over {} is no part of the history", short_duration(*over)),
            "give 1m to 15d; for an earlier part, its end: --until TIME",
        )
    })
}

impl Span {
    fn new(over: Duration, until: Option<Timestamp>, now: Timestamp) -> Option<Self> {
        let end = until.unwrap_or(now);
        let begins_ago = Duration::try_from(now.duration_since(end)).unwrap_or_default() + over;
        let has_minutes = over <= MINUTE * MOST_STEPS && begins_ago <= MINUTES_KEPT;
        let step = if has_minutes { MINUTE } else { HOUR };
        let steps = u32::try_from(over.as_secs().div_ceil(step.as_secs())).ok()?;
        // The step that contains the end is included.
        let seconds = i64::try_from(step.as_secs()).ok()?;
        let end = end.as_millisecond().div_euclid(seconds * 1000) * seconds
            + if end.as_millisecond().rem_euclid(seconds * 1000) > 0 { seconds } else { 0 };
        let end = Timestamp::from_second(end).ok()?;
        (1..=MOST_STEPS).contains(&steps).then_some(Self { step, steps, end })
    }

    /// This many parts, as equal as whole steps allow, the earliest first; fewer if there are fewer steps.
    fn parts(self, count: u32) -> Vec<Self> {
        let length = self.steps.div_ceil(count);
        let mut parts = Vec::new();
        let mut left = self;
        while left.steps > 0 {
            let steps = length.min(left.steps);
            parts.push(Self { steps, ..left });
            left = Self { steps: left.steps - steps, end: left.end - left.step * steps, ..left };
        }
        parts.reverse();
        parts
    }

    fn request(self, arguments: &Arguments) -> Request {
        Request::get(&["history"])
            .query("step", if self.step == HOUR { "hour" } else { "minute" })
            .query("from", &(self.end - self.step * self.steps))
            .query("to", &self.end)
            .query_if("task", arguments.task.as_ref())
            .query_if("queue", arguments.queue.as_ref())
    }
}

/// Quantiles cannot be derived from those of shorter times, so each part is a request of its own.
fn in_parts(session: &mut Session<'_>, arguments: &Arguments, count: u32) -> Result<Exit, Error> {
    let mut rows = Vec::new();
    for part in span(arguments)?.parts(count) {
        let (document, history) = fetch(session, &part.request(arguments))?;
        if session.output.json {
            session.output.document(&document)?;
            continue;
        }
        let minutes = history.minutes();
        rows.extend(history.attempts.into_iter().map(|series| {
            let row =
                [names(&series), vec![Cell::time(Some(history.from))], numbers(&series, minutes)];
            (series.name(), row.concat())
        }));
    }
    // By series, each from its first part to its last one.
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut table = Table::new(&[&NAMES[..], &["FROM"], &NUMBERS[..]].concat());
    rows.into_iter().for_each(|(_, row)| table.row(row));
    finish(session, &table, "nothing ended in this time")
}

fn names(series: &AttemptSeries) -> Vec<Cell> {
    [&series.task, &series.queue].map(name).to_vec()
}

fn name(name: &Option<String>) -> Cell {
    match name {
        Some(name) => Cell::text(name),
        None => Cell::shown_as(OTHERS, String::new()),
    }
}

fn numbers(series: &AttemptSeries, minutes: f64) -> Vec<Cell> {
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let failed = sum(&series.failed);
    let rate = format!("{:.1}", series.total() as f64 / minutes);
    let time = |ms: Option<u64>| {
        ms.map_or_else(
            || Cell::text(""),
            |ms| Cell::shown_as(run_time(Duration::from_millis(ms)), ms.to_string()),
        )
    };
    vec![
        Cell::number(sum(&series.succeeded)),
        Cell::number(failed).styled_if(failed > 0, Style::Bad),
        Cell::number(sum(&series.retried)),
        Cell::number(sum(&series.canceled)),
        Cell::text(rate),
        time(series.p50_ms),
        time(series.p90_ms),
        time(series.p99_ms),
    ]
}

/// Bars for a person; for a program each number, empty where it is unknown.
fn over_time(values: &[Option<u64>], merge: fn(u64, u64) -> u64) -> Cell {
    let exact = values.iter().map(|value| value.map_or_else(String::new, |it| it.to_string()));
    let bars = spark::line(&spark::merged(values, BARS, merge));
    Cell::shown_as(bars, exact.collect::<Vec<_>>().join(","))
}

fn depths(session: &mut Session<'_>, history: History) -> Result<Exit, Error> {
    let header = ["QUEUE", "QUEUED", "DELAYED", "RUNNING", "FAILED", "OLDEST", "QUEUED, OVER TIME"];
    let mut table = Table::new(&header);
    for QueueSeries { queue, queued, delayed, running, failed, oldest_age_ms } in history.queues {
        // What was sampled last.
        let last = |values: &[Option<u64>]| values.iter().flatten().last().copied();
        let number =
            |values: &[Option<u64>]| last(values).map_or_else(|| Cell::text(""), Cell::number);
        let oldest = oldest_age_ms.iter().flatten().max();
        table.row([
            name(&queue),
            number(&queued),
            number(&delayed),
            number(&running),
            number(&failed),
            oldest.map_or_else(
                || Cell::text(""),
                |ms| Cell::shown_as(age(Duration::from_millis(*ms)), ms.to_string()),
            ),
            over_time(&queued, u64::max),
        ]);
    }
    finish(session, &table, "no queue was looked at in this time")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(over: &str, until: Option<&str>) -> Option<String> {
        let time = |text: &str| format!("2026-11-30T{text}Z").parse::<Timestamp>().unwrap();
        let span = Span::new(parse_duration(over).unwrap(), until.map(time), time("09:41:12.345"))?;
        let step = if span.step == HOUR { "hours" } else { "minutes" };
        Some(format!("{} {step} to {}", span.steps, &span.end.to_string()[11..16]))
    }

    #[test]
    fn short_times_are_shown_by_the_minute_and_long_ones_by_the_hour() {
        assert_eq!(span("1h", None).unwrap(), "60 minutes to 09:42");
        assert_eq!(span("6h", None).unwrap(), "360 minutes to 09:42");
        assert_eq!(span("6h1m", None).unwrap(), "7 hours to 10:00");
        assert_eq!(span("15d", None).unwrap(), "360 hours to 10:00");
        assert_eq!(span("1h", Some("08:00:00")).unwrap(), "60 minutes to 08:00");
        assert_eq!((span("0s", None), span("16d", None)), (None, None));
        let old = "2026-11-20T09:00:00Z".parse().unwrap();
        let now = "2026-11-30T09:00:00Z".parse().unwrap();
        assert_eq!(Span::new(HOUR, Some(old), now).unwrap().step, HOUR, "no minutes are kept");
    }

    #[test]
    fn parts_are_whole_steps_without_gaps() {
        let end = "2026-11-30T09:42:00Z".parse().unwrap();
        let span = Span { step: MINUTE, steps: 60, end };
        for (count, lengths) in [(1, vec![60]), (6, vec![10; 6]), (7, vec![6, 9, 9, 9, 9, 9, 9])] {
            let parts = span.parts(count);
            assert_eq!(parts.iter().map(|part| part.steps).collect::<Vec<_>>(), lengths);
            for pair in parts.windows(2) {
                assert_eq!(pair[0].end, pair[1].end - MINUTE * pair[1].steps);
            }
            assert_eq!(parts.last().unwrap().end, end);
        }
        assert_eq!(Span { steps: 3, ..span }.parts(48).len(), 3);
    }
}
