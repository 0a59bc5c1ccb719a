//! Reads a schedule from a body. It replaces the one before: a member that is missing has its default.

use std::time::Duration;

use actix_web::web::Bytes;
use crunch_common::broker::MAX_SCHEDULE_PAYLOAD;
use crunch_common::job::ContentType;
use crunch_common::schedule::{CronLine, EXCLUDED_OPTIONS, Missed, Overlap, Rule, Timing, Zone};
use crunch_common::task::TaskName;
use crunch_common::time::{Timestamp, whole_ms};
use serde_json::value::RawValue;

use crate::json::{Members, pointer_segment};
use crate::nearest::nearest_stem;
use crate::problem::Violation;
use crate::submit::{Options, Submission};

/// The members besides the options of a submission.
const OWN: [&str; 13] = [
    "task",
    "payload",
    "cron",
    "every_ms",
    "time_zone",
    "jitter_ms",
    "start_at",
    "end_at",
    "missed",
    "missed_at_most",
    "missed_within_ms",
    "overlap",
    "job",
];
/// A schedule as it was requested.
#[derive(Debug)]
pub(crate) struct ScheduleRequest {
    pub(crate) task: TaskName,
    pub(crate) submission: Submission,
    /// The options of the submission, as they were written.
    pub(crate) job: String,
    pub(crate) timing: Timing,
    pub(crate) missed: Missed,
    pub(crate) overlap: Overlap,
}

impl ScheduleRequest {
    /// Parses a schedule whose JSON was checked; on failure returns everything that is wrong with it.
    pub(crate) fn read(body: &Bytes, json: &str) -> Result<Self, Vec<Violation>> {
        let Some(members) = Members::of(json) else {
            return Err(vec![Violation::new("", "expected an object")]);
        };
        if let Some(name) = members.repeated() {
            return Err(vec![Violation::new(pointer_segment(name), "is given twice")]);
        }
        let mut reader = Reader::default();
        let mut payload = Bytes::from_static(b"null");
        let mut job = "{}".to_owned();
        for (name, raw) in &members.all {
            match name.as_str() {
                "payload" => payload = body.slice_ref(raw.get().as_bytes()),
                "job" => job = raw.get().to_owned(),
                name if OWN.contains(&name) => reader.own(name, raw),
                name => reader.unknown(name),
            }
        }
        reader.check_payload(&payload);
        let options = reader.options(&job);
        let timing = reader.timing();
        if reader.task.is_none() && !reader.has("/task") {
            reader.reject("/task", "is missing");
        }
        match (reader.task, timing, options) {
            (Some(task), Some(timing), Some(options)) if reader.violations.is_empty() => {
                let content_type = ContentType::json();
                let submission = Submission { payload, content_type, options };
                let (missed, overlap) = (reader.missed, reader.overlap);
                Ok(Self { task, submission, job, timing, missed, overlap })
            }
            _ => Err(reader.violations),
        }
    }
}

/// Reads the options of jobs from the JSON object of a schedule.
pub(super) fn read_options(json: &str) -> Result<Options, Vec<Violation>> {
    let mut reader = Reader::default();
    let options = reader.options(json);
    options.filter(|_| reader.violations.is_empty()).ok_or(reader.violations)
}

/// Collects what was read, and what is wrong.
#[derive(Default)]
struct Reader {
    task: Option<TaskName>,
    cron: Option<CronLine>,
    every: Option<Duration>,
    time_zone: Option<Zone>,
    jitter: Duration,
    start_at: Option<Timestamp>,
    end_at: Option<Timestamp>,
    missed: Missed,
    overlap: Overlap,
    violations: Vec<Violation>,
}

impl Reader {
    fn reject(&mut self, pointer: &str, detail: impl Into<String>) {
        self.violations.push(Violation::new(pointer, detail));
    }

    fn has(&self, pointer: &str) -> bool {
        self.violations.iter().any(|violation| violation.pointer == pointer)
    }

    fn unknown(&mut self, name: &str) {
        let mut detail = format!("there is no member {name:?} here");
        if Options::is_option(name) {
            detail += "; options of the jobs are members of job";
        } else if let Some(nearest) = nearest_stem(name, OWN) {
            detail += &format!("; did you mean {nearest}?");
        }
        self.reject(&pointer_segment(name), detail);
    }

    fn own(&mut self, name: &str, raw: &RawValue) {
        if raw.get() == "null" {
            return;
        }
        match name {
            "task" => {
                let expected = "a task name: 1 to 64 of a-z 0-9 _ . -";
                self.task = self.parsed(name, raw, |_| expected.to_owned());
            }
            "cron" => self.cron = self.parsed(name, raw, |error| error),
            "time_zone" => self.time_zone = self.parsed(name, raw, |error| error),
            "every_ms" => {
                let range = (Timing::MIN_INTERVAL, Timing::MAX_INTERVAL);
                self.every = self.duration(name, raw, range);
            }
            "jitter_ms" => {
                let range = (Duration::ZERO, Timing::MAX_JITTER);
                self.jitter = self.duration(name, raw, range).unwrap_or_default();
            }
            "start_at" => self.start_at = self.parsed(name, raw, |error| error),
            "end_at" => self.end_at = self.parsed(name, raw, |error| error),
            "missed" => {
                let expected = "skip, once or all";
                let policy = self.parsed(name, raw, |_| expected.to_owned());
                self.missed.policy = policy.unwrap_or_default();
            }
            "missed_at_most" => {
                let most = u64::from(Missed::MAX_TICKS);
                let number = self.whole(name, raw, (1, most)).and_then(|it| u32::try_from(it).ok());
                self.missed.at_most = number.unwrap_or(Missed::DEFAULT_TICKS);
            }
            "missed_within_ms" => {
                let range = (Missed::MIN_WITHIN, Missed::MAX_WITHIN);
                let within = self.duration(name, raw, range);
                self.missed.within = within.unwrap_or(Missed::DEFAULT_WITHIN);
            }
            _ => {
                let expected = "skip, buffer_one, cancel_previous or allow";
                let overlap = self.parsed(name, raw, |_| expected.to_owned());
                self.overlap = overlap.unwrap_or_default();
            }
        }
    }

    /// Parses a text; what is wrong is described by the error, or by what is expected.
    fn parsed<T>(
        &mut self,
        name: &str,
        raw: &RawValue,
        describe: impl Fn(String) -> String,
    ) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let Ok(text) = serde_json::from_str::<String>(raw.get()) else {
            self.reject(&pointer_segment(name), describe("expected text".to_owned()));
            return None;
        };
        let parsed = text.parse().map_err(|error: T::Err| error.to_string());
        parsed.map_err(|error| self.reject(&pointer_segment(name), describe(error))).ok()
    }

    fn whole(&mut self, name: &str, raw: &RawValue, (min, max): (u64, u64)) -> Option<u64> {
        let digits = raw.get().bytes().all(|byte| byte.is_ascii_digit());
        let number = raw.get().parse().ok().filter(|number| digits && (min..=max).contains(number));
        if number.is_none() {
            let detail = format!("expected a whole number from {min} to {max}");
            self.reject(&pointer_segment(name), detail);
        }
        number
    }

    fn duration(
        &mut self,
        name: &str,
        raw: &RawValue,
        (min, max): (Duration, Duration),
    ) -> Option<Duration> {
        self.whole(name, raw, (whole_ms(min), whole_ms(max))).map(Duration::from_millis)
    }

    fn check_payload(&mut self, payload: &Bytes) {
        if payload.len() > MAX_SCHEDULE_PAYLOAD {
            let detail = format!("expected at most {MAX_SCHEDULE_PAYLOAD} bytes");
            self.reject("/payload", detail);
        }
    }

    fn options(&mut self, json: &str) -> Option<Options> {
        let mut options = Options::default();
        let Some(members) = Members::of(json) else {
            if json == "null" {
                return Some(options);
            }
            self.reject("/job", "expected an object with options of the jobs");
            return None;
        };
        if let Some(name) = members.repeated() {
            self.reject(&format!("/job{}", pointer_segment(name)), "is given twice");
            return None;
        }
        let before = self.violations.len();
        for (name, raw) in &members.all {
            if EXCLUDED_OPTIONS.contains(&name.as_str()) {
                let detail = "a schedule decides when its jobs start, and that each is one";
                self.reject(&format!("/job{}", pointer_segment(name)), detail);
            } else if let Err(violation) = options.set_member(name, raw, "/job") {
                self.violations.push(violation);
            }
        }
        (self.violations.len() == before).then_some(options)
    }

    fn timing(&mut self) -> Option<Timing> {
        if self.has("/cron") || self.has("/every_ms") {
            return None;
        }
        let rule = match (self.cron.take(), self.every) {
            (Some(line), None) => Rule::Cron(line),
            (None, Some(interval)) => Rule::Every(interval),
            (Some(_), Some(_)) => {
                self.reject("/every_ms", "only one of cron and every_ms may be given");
                return None;
            }
            (None, None) => {
                self.reject("/cron", "is missing: a schedule has a line of cron, or every_ms");
                return None;
            }
        };
        if matches!(rule, Rule::Every(_)) && self.time_zone.is_some() {
            self.reject("/time_zone", "an interval has no time zone");
        }
        if let (Some(start), Some(end)) = (self.start_at, self.end_at)
            && end < start
        {
            self.reject("/end_at", "is before start_at");
        }
        Some(Timing {
            rule,
            time_zone: self.time_zone.take().unwrap_or_default(),
            jitter: self.jitter,
            start_at: self.start_at,
            end_at: self.end_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ScheduleRequest, Vec<Violation>> {
        let body = Bytes::copy_from_slice(json.as_bytes());
        ScheduleRequest::read(&body, std::str::from_utf8(&body).unwrap())
    }

    fn wrong(json: &str) -> Vec<String> {
        let violations = read(json).expect_err(json);
        violations.into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn what_is_missing_or_null_has_its_default() {
        let read = read(r#"{"task":"t","cron":"0 2 * * *","overlap":null,"job":null}"#).unwrap();
        assert_eq!(read.timing, Timing::of(Rule::Cron("0 2 * * *".parse().unwrap())));
        assert_eq!((read.missed, read.overlap), (Missed::default(), Overlap::Skip));
        assert_eq!(&read.submission.payload[..], b"null");
        assert!(read.submission.options.start.is_none());
    }

    #[test]
    fn everything_that_is_wrong_is_named_by_its_place() {
        for (json, expected) in [
            ("[]", &[""][..]),
            ("{}", &["/cron", "/task"]),
            (r#"{"task":"T","cron":"* * *"}"#, &["/task", "/cron"]),
            (r#"{"task":"t","cron":"0 0 * * *","every_ms":1000}"#, &["/every_ms"]),
            (r#"{"task":"t","every_ms":999}"#, &["/every_ms"]),
            (r#"{"task":"t","every_ms":1000,"time_zone":"UTC"}"#, &["/time_zone"]),
            (r#"{"task":"t","cron":"0 0 * * *","time_zone":"Berlin"}"#, &["/time_zone"]),
            (r#"{"task":"t","cron":"0 0 * * *","jitter_ms":86400001}"#, &["/jitter_ms"]),
            (r#"{"task":"t","cron":"0 0 * * *","start_at":"soon"}"#, &["/start_at"]),
            (
                r#"{"task":"t","every_ms":1000,"start_at":"2027-01-02T00:00:00Z","end_at":"2027-01-01T00:00:00Z"}"#,
                &["/end_at"],
            ),
            (r#"{"task":"t","every_ms":1000,"missed":"some"}"#, &["/missed"]),
            (r#"{"task":"t","every_ms":1000,"missed_at_most":0}"#, &["/missed_at_most"]),
            (r#"{"task":"t","every_ms":1000,"overlap":"queue"}"#, &["/overlap"]),
            (r#"{"task":"t","every_ms":1000,"queue":"q"}"#, &["/queue"]),
            (r#"{"task":"t","every_ms":1000,"corn":1}"#, &["/corn"]),
            (r#"{"task":"t","every_ms":1000,"job":[]}"#, &["/job"]),
            (r#"{"task":"t","every_ms":1000,"job":{"delay_ms":1}}"#, &["/job/delay_ms"]),
            (r#"{"task":"t","every_ms":1000,"job":{"priority":1}}"#, &["/job/priority"]),
            (r#"{"task":"t","every_ms":1000,"job":{"a":1}}"#, &["/job/a"]),
            (r#"{"task":"t","task":"t"}"#, &["/task"]),
        ] {
            assert_eq!(wrong(json), expected, "{json}");
        }
        let large = format!(r#"{{"task":"t","every_ms":1000,"payload":"{}"}}"#, "x".repeat(65_536));
        assert_eq!(wrong(&large), ["/payload"]);
    }

    #[test]
    fn a_wrong_line_or_zone_is_answered_with_what_is_accepted() {
        let detail = |json: &str| read(json).unwrap_err().remove(0).detail;
        let line = detail(r#"{"task":"t","cron":"0 25 * * *"}"#);
        assert!(line.starts_with("the hour \"25\" is wrong: expected 0 to 23"), "{line}");
        let zone = detail(r#"{"task":"t","cron":"0 2 * * *","time_zone":"Europe/Berln"}"#);
        assert!(zone.ends_with("did you mean Europe/Berlin?"), "{zone}");
    }
}
