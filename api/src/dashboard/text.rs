//! How values are written on pages.

use std::fmt;
use std::time::Duration;

use askama::Template;
use crunch_common::broker::JobRecord;
use crunch_common::job::{JobId, Status};
use crunch_common::time::{Timestamp, whole_ms};

use super::page::TokenField;
use crate::query;

/// A value, or a reference to one: templates pass references to fields, and references to those.
pub(super) trait Given<T> {
    fn value(self) -> T;
}

macro_rules! given {
    ($($type:ty),*) => {
        $(given!(@ $type, $type, &$type, &&$type);)*
    };
    (@ $type:ty, $($from:ty),*) => {
        $(impl Given<$type> for $from {
            fn value(self) -> $type {
                <$type>::clone(&self)
            }
        })*
    };
}

given!(Timestamp, Option<Timestamp>, Duration, Status, JobId, u64, f64);

/// A point in time, in UTC. The script writes it in the viewer's time zone, as an age.
pub(super) struct Moment(Timestamp);

pub(super) fn moment(at: impl Given<Timestamp>) -> Moment {
    Moment(at.value())
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let (day, time) = text.split_once('T').unwrap_or((&text, ""));
        let time = time.get(..8).unwrap_or(time);
        write!(f, "<time datetime=\"{text}\">{day} {time}</time>")
    }
}

impl askama::filters::HtmlSafe for Moment {}

/// The query of the list of jobs with a label.
pub(super) fn label_query(name: &str, value: &str) -> String {
    query::encoded([(format!("metadata.{name}").as_str(), value)].into_iter())
}

/// A duration in two units at most: `0.25 s`, `7.5 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
pub(super) fn span(duration: impl Given<Duration>) -> String {
    let ms = whole_ms(duration.value());
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}\u{202f}ms"),
        1..60 => format!("{}.{}\u{202f}s", seconds, ms % 1000 / 100),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}\u{202f}{large_unit}"),
        _ => format!("{large}\u{202f}{large_unit} {small}\u{202f}{small_unit}"),
    }
}

/// How long something took, or has taken until now.
pub(super) fn since(start: impl Given<Timestamp>, end: impl Given<Option<Timestamp>>) -> Since {
    Since { start: start.value(), end: end.value() }
}

pub(super) struct Since {
    start: Timestamp,
    end: Option<Timestamp>,
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end } = self;
        match end {
            Some(end) => f.write_str(&span(start.until(*end))),
            // The script counts on from here.
            None => {
                let seconds = Duration::from_secs(start.until(Timestamp::now()).as_secs());
                let text = span(seconds);
                write!(f, "<time class=\"elapsed\" datetime=\"{start}\">{text}</time>")
            }
        }
    }
}

impl askama::filters::HtmlSafe for Since {}

/// When the last attempt of a job started, if it runs or has ended. A waiting job may have been claimed by a worker that
/// could not run it.
pub(super) fn run_of(job: &JobRecord) -> Option<Timestamp> {
    let has_run = job.status == Status::Running || job.status.is_terminal();
    job.started_at.filter(|_| has_run)
}

/// A whole number with its digits in groups of three.
pub(super) fn count(number: impl fmt::Display) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// As [`count`], in which a zero does not stand out: for tables.
pub(super) fn quiet(number: impl fmt::Display) -> Quiet {
    Quiet(count(number))
}

pub(super) struct Quiet(String);

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_str() {
            "0" => f.write_str("<span class=\"none\">0</span>"),
            number => f.write_str(number),
        }
    }
}

impl askama::filters::HtmlSafe for Quiet {}

/// A size: `17 B`, `3.2 KiB`, `1.5 GiB`.
pub(super) fn bytes(number: impl Given<u64>) -> String {
    let number = number.value();
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut size, mut unit) = (number as f64, "B");
    for larger in units {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    if unit == "B" { format!("{number}\u{202f}B") } else { format!("{size:.1}\u{202f}{unit}") }
}

/// A fraction as a whole percentage.
pub(super) fn percent(fraction: impl Given<f64>) -> String {
    format!("{:.0}\u{202f}%", fraction.value() * 100.0)
}

/// The status of a job, coloured.
pub(super) struct Badge(Status);

pub(super) fn badge(status: impl Given<Status>) -> Badge {
    Badge(status.value())
}

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span class=\"badge {0}\">{0}</span>", self.0)
    }
}

impl askama::filters::HtmlSafe for Badge {}

/// A link to a job, by the beginning and the end of its id.
pub(super) struct JobLink(JobId);

pub(super) fn job(id: impl Given<JobId>) -> JobLink {
    JobLink(id.value())
}

impl fmt::Display for JobLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.to_string();
        let short = format!("{}…{}", &id[..8], &id[id.len() - 6..]);
        write!(f, "<a class=\"id\" href=\"/dashboard/jobs/{id}\" title=\"{id}\">{short}</a>")
    }
}

impl askama::filters::HtmlSafe for JobLink {}

/// A button that sends a verb.
#[derive(Template)]
#[template(
    source = "<form method=\"post\" action=\"{{ action }}\">{{ token }}<button class=\"{{ class }}\">{{ label }}</button></form>",
    ext = "html"
)]
pub(super) struct Verb<'a> {
    action: String,
    label: &'a str,
    class: &'static str,
    token: TokenField,
}

pub(super) fn verb<'a>(action: impl Into<String>, label: &'a str) -> Verb<'a> {
    Verb { action: action.into(), label, class: "", token: TokenField }
}

pub(super) fn danger<'a>(action: impl Into<String>, label: &'a str) -> Verb<'a> {
    Verb { class: "danger", ..verb(action, label) }
}

impl askama::filters::HtmlSafe for Verb<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_exact() {
        let plain = |text: String| text.replace('\u{202f}', " ");
        let ms = |ms| plain(span(Duration::from_millis(ms)));
        assert_eq!([ms(0), ms(250), ms(7_590), ms(59_999)], ["0 ms", "250 ms", "7.5 s", "59.9 s"]);
        assert_eq!([ms(200_000), ms(7_200_000)], ["3 min 20 s", "2 h"]);
        assert_eq!(ms(356_400_000), "4 d 3 h");
        assert_eq!(
            [0, 999, 1000, 1_234_567_u64].map(|it| plain(count(it))),
            ["0", "999", "1 000", "1 234 567"]
        );
        assert_eq!(
            [17, 3277, 1_610_612_736].map(|it| plain(bytes(it))),
            ["17 B", "3.2 KiB", "1.5 GiB"]
        );
        assert_eq!(plain(percent(0.256)), "26 %");
    }

    #[test]
    fn a_time_keeps_its_milliseconds_for_the_script() {
        let at = Timestamp::from_unix_ms(1_795_354_854_426);
        let html = "<time datetime=\"2026-11-22T13:40:54.426Z\">2026-11-22 13:40:54</time>";
        assert_eq!(moment(at).to_string(), html);
    }
}
