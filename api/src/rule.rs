//! Reads the rule of a group, or a limit, from a body. It replaces the one before: a member that is missing has its default.

use std::ops::RangeInclusive;
use std::time::Duration;

use crunch_common::broker::{GroupRule, Limit, QueueLimit, Rate, Weight};
use crunch_common::queue::LimitName;
use crunch_common::time::whole_ms;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::json::{Members, pointer_segment};
use crate::nearest::nearest_stem;
use crate::problem::Violation;

/// The members of a rule, of the limit of a queue, of a limit that queues share, and of a rate.
const RULE: [&str; 4] = ["weight", "concurrency", "rate", "max_queued"];
const LIMIT: [&str; 3] = ["concurrency", "rate", "limits"];
const SHARED: [&str; 2] = ["concurrency", "rate"];
const RATE: [&str; 3] = ["starts", "per_ms", "burst"];

/// A rule of a group; a member that is missing or null has its default.
#[derive(ToSchema)]
#[schema(as = GroupRuleRequest)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct RuleRequest {
    /// Its share of the turns, relative to the other groups. Default 1.
    #[schema(minimum = 0.001, maximum = 1000.0)]
    weight: Option<f64>,
    /// How many of its jobs may run at the same time. Default: any number.
    #[schema(minimum = 1, maximum = 1_000_000)]
    concurrency: Option<u32>,
    /// How many of its jobs may start in a time. Default: any number.
    rate: Option<RateRequest>,
    /// How many of its jobs may wait: others are rejected with 429. Default: as many as the queue allows.
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_queued: Option<u32>,
}

/// A limit of a queue; a member that is missing or null does not limit.
#[derive(ToSchema)]
#[schema(as = QueueLimitRequest)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct LimitRequest {
    /// How many of its jobs may run at the same time.
    #[schema(minimum = 1, maximum = 1_000_000)]
    concurrency: Option<u32>,
    /// How many of its jobs may start in a time.
    rate: Option<RateRequest>,
    /// The limits that it shares with other queues, by their names.
    #[schema(max_items = 2, pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$")]
    limits: Option<Vec<String>>,
}

/// A limit that queues may share; a member that is missing or null does not limit.
#[derive(ToSchema)]
#[schema(as = SharedLimitRequest)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct SharedLimitRequest {
    /// How many jobs of its queues may run at the same time.
    #[schema(minimum = 1, maximum = 1_000_000)]
    concurrency: Option<u32>,
    /// How many jobs of its queues may start in a time.
    rate: Option<RateRequest>,
}

/// How many jobs may start in a time.
#[derive(ToSchema)]
#[schema(as = RateRequest)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct RateRequest {
    #[schema(minimum = 1, maximum = 1_000_000)]
    starts: u32,
    /// In which time, in milliseconds.
    #[schema(minimum = 1, maximum = 86_400_000)]
    per_ms: u64,
    /// How many may start at once after a pause. Otherwise each start is `per_ms / starts` after the last one. Default: as many
    /// as the rate allows in 100 ms, at least one.
    #[schema(minimum = 1, maximum = 1_000_000)]
    burst: Option<u32>,
}

/// Parses a rule whose JSON was checked; on failure returns everything that is wrong with it.
pub(crate) fn read(json: &str) -> Result<GroupRule, Vec<Violation>> {
    let (mut rule, mut reader) = (GroupRule::default(), Reader::default());
    let counts = 1..=u64::from(GroupRule::MAX_JOBS);
    for (name, raw) in reader.members(json, "", &RULE) {
        match name.as_str() {
            "weight" => rule.weight = reader.weight(raw).unwrap_or_default(),
            "concurrency" => rule.concurrency = reader.count("/concurrency", raw, &counts),
            "rate" => rule.rate = reader.rate(raw),
            _ => rule.max_queued = reader.count("/max_queued", raw, &counts),
        }
    }
    if reader.violations.is_empty() { Ok(rule) } else { Err(reader.violations) }
}

/// Parses the limit of a queue whose JSON was checked; on failure returns everything that is wrong with it.
pub(crate) fn read_limit(json: &str) -> Result<QueueLimit, Vec<Violation>> {
    limit_with(json, &LIMIT)
}

/// Parses a limit that queues may share, in the same way.
pub(crate) fn read_shared(json: &str) -> Result<Limit, Vec<Violation>> {
    limit_with(json, &SHARED).map(|limit| limit.own)
}

fn limit_with(json: &str, known: &[&str]) -> Result<QueueLimit, Vec<Violation>> {
    let (mut limit, mut reader) = (QueueLimit::default(), Reader::default());
    let counts = 1..=u64::from(GroupRule::MAX_JOBS);
    for (name, raw) in reader.members(json, "", known) {
        match name.as_str() {
            "concurrency" => limit.own.concurrency = reader.count("/concurrency", raw, &counts),
            "rate" => limit.own.rate = reader.rate(raw),
            _ => limit.shared = reader.limits(raw),
        }
    }
    if reader.violations.is_empty() { Ok(limit) } else { Err(reader.violations) }
}

/// Reads values, and keeps what is wrong with them.
#[derive(Default)]
struct Reader {
    violations: Vec<Violation>,
}

impl Reader {
    fn reject(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.violations.push(Violation::new(pointer, detail));
    }

    /// Returns the members of an object that it may have and that are not null.
    fn members<'a>(
        &mut self,
        json: &'a str,
        base: &str,
        known: &[&str],
    ) -> Vec<(String, &'a RawValue)> {
        let Some(members) = Members::of(json) else {
            self.reject(base, "expected an object");
            return Vec::new();
        };
        if let Some(name) = members.repeated() {
            self.reject(format!("{base}{}", pointer_segment(name)), "is given twice");
            return Vec::new();
        }
        let is_known = |name: &str| known.contains(&name);
        // One of them is enough: a body may have hundreds.
        if let Some((name, _)) = members.all.iter().find(|(name, _)| !is_known(name)) {
            let mut detail = format!("there is no member {name:?} here");
            if let Some(nearest) = nearest_stem(name, known.iter().copied()) {
                detail += &format!("; did you mean {nearest}?");
            }
            self.reject(format!("{base}{}", pointer_segment(name)), detail);
        }
        let has_value = |(name, raw): &(String, &RawValue)| is_known(name) && raw.get() != "null";
        members.all.into_iter().filter(has_value).collect()
    }

    fn weight(&mut self, raw: &RawValue) -> Option<Weight> {
        // Only a number has the form of one.
        let weight = raw.get().parse().ok();
        if weight.is_none() {
            self.reject("/weight", "expected a number from 0.001 to 1000");
        }
        weight
    }

    fn count(
        &mut self,
        pointer: &str,
        raw: &RawValue,
        accepted: &RangeInclusive<u64>,
    ) -> Option<u32> {
        self.whole(pointer, raw, accepted).and_then(|number| u32::try_from(number).ok())
    }

    fn whole(
        &mut self,
        pointer: &str,
        raw: &RawValue,
        accepted: &RangeInclusive<u64>,
    ) -> Option<u64> {
        let number = whole(raw.get()).filter(|number| accepted.contains(number));
        if number.is_none() {
            let (min, max) = (accepted.start(), accepted.end());
            self.reject(pointer, format!("expected a whole number from {min} to {max}"));
        }
        number
    }

    fn limits(&mut self, raw: &RawValue) -> Vec<LimitName> {
        let most = QueueLimit::MAX_SHARED;
        let names = serde_json::from_str::<Vec<String>>(raw.get()).ok();
        let Some(names) = names.filter(|names| names.len() <= most) else {
            self.reject("/limits", format!("expected an array of at most {most} names of limits"));
            return Vec::new();
        };
        let mut limits = Vec::new();
        for (at, name) in names.iter().enumerate() {
            match name.parse::<LimitName>() {
                Ok(name) if limits.contains(&name) => {
                    self.reject(format!("/limits/{at}"), "is given twice");
                }
                Ok(name) => limits.push(name),
                Err(error) => self.reject(format!("/limits/{at}"), error.to_string()),
            }
        }
        limits
    }

    fn rate(&mut self, raw: &RawValue) -> Option<Rate> {
        let counts = 1..=u64::from(Rate::MAX_STARTS);
        let times = 1..=whole_ms(Rate::MAX_TIME);
        let (before, mut starts, mut per, mut burst) = (self.violations.len(), None, None, None);
        for (name, raw) in self.members(raw.get(), "/rate", &RATE) {
            match name.as_str() {
                "starts" => starts = self.count("/rate/starts", raw, &counts),
                "per_ms" => per = self.whole("/rate/per_ms", raw, &times),
                _ => burst = self.count("/rate/burst", raw, &counts),
            }
        }
        if self.violations.len() == before {
            let both = [("/rate/starts", starts.is_none()), ("/rate/per_ms", per.is_none())];
            for (pointer, _) in both.into_iter().filter(|(_, missing)| *missing) {
                self.reject(pointer, "is missing");
            }
        }
        let usual = Rate::usual(starts?, Duration::from_millis(per?));
        Some(Rate { burst: burst.unwrap_or(usual.burst), ..usual })
    }
}

/// A whole number, also if it is written with a fraction of zero: in JSON both are the same number.
fn whole(text: &str) -> Option<u64> {
    let digits = text.split_once('.').map_or(text, |(digits, fraction)| {
        if !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0') { digits } else { "" }
    });
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(json: &str) -> Vec<String> {
        let violations = read(json).expect_err(json);
        violations.into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn what_is_missing_or_null_has_its_default() {
        for json in [
            "{}",
            r#"{"weight":null,"concurrency":null,"rate":null,"max_queued":null}"#,
            r#"{"weight":1.0}"#,
        ] {
            assert_eq!(read(json), Ok(GroupRule::default()), "{json}");
        }
        let rule = read(
            r#"{"weight":2.5e0,"concurrency":3.0,"rate":{"starts":100,"per_ms":60000},"max_queued":1000000}"#,
        );
        let rate = Rate { starts: 100, per: Duration::from_secs(60), burst: 1 };
        let expected = GroupRule {
            weight: Weight::new(2.5).unwrap(),
            concurrency: Some(3),
            rate: Some(rate),
            max_queued: Some(1_000_000),
        };
        assert_eq!(rule, Ok(expected));
    }

    #[test]
    fn a_limit_has_what_it_says() {
        let own = Limit { concurrency: Some(3), rate: None };
        let limit = QueueLimit { own, shared: Vec::new() };
        assert_eq!(read_limit(r#"{"concurrency":3,"rate":null}"#), Ok(limit));
        assert_eq!(read_shared(r#"{"concurrency":3,"rate":null}"#), Ok(own));
        let shared = read_limit(r#"{"limits":["one","two"]}"#).unwrap().shared;
        assert_eq!(shared.iter().map(LimitName::as_str).collect::<Vec<_>>(), ["one", "two"]);
        for json in ["{}", r#"{"limits":[ ]}"#, r#"{"limits":null}"#] {
            assert_eq!(read_limit(json), Ok(QueueLimit::default()), "{json}");
        }
        assert_eq!(read_shared(r#"{"rate":null}"#), Ok(Limit::default()));
        for json in ["[]", "null", r#"{"weight":1}"#, r#"{"concurrency":0}"#] {
            assert_eq!(read_limit(json).expect_err(json).len(), 1, "{json}");
            assert_eq!(read_shared(json).expect_err(json).len(), 1, "{json}");
        }
        for (limits, pointer) in [
            (r#""one""#, "/limits"),
            ("[1]", "/limits"),
            (r#"["a","b","c"]"#, "/limits"),
            (r#"["a","a"]"#, "/limits/1"),
            (r#"["A"]"#, "/limits/0"),
        ] {
            let json = format!(r#"{{"concurrency":1,"limits":{limits}}}"#);
            let violations = read_limit(&json).expect_err(&json);
            assert_eq!(violations[0].pointer, pointer, "{json}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_named_by_its_place() {
        for (json, expected) in [
            ("[]", &[""][..]),
            ("null", &[""]),
            (r#"{"weight":0}"#, &["/weight"]),
            (r#"{"weight":1000.1}"#, &["/weight"]),
            (r#"{"weight":"1"}"#, &["/weight"]),
            (r#"{"weight":1e999}"#, &["/weight"]),
            (r#"{"concurrency":0,"max_queued":1.5}"#, &["/concurrency", "/max_queued"]),
            (r#"{"concurrency":1000001}"#, &["/concurrency"]),
            (r#"{"concurrency":"1"}"#, &["/concurrency"]),
            (r#"{"rate":{}}"#, &["/rate/starts", "/rate/per_ms"]),
            (r#"{"rate":{"starts":1}}"#, &["/rate/per_ms"]),
            (r#"{"rate":{"starts":1,"per_ms":86400001}}"#, &["/rate/per_ms"]),
            (r#"{"rate":{"starts":1,"per_ms":1,"burst":0}}"#, &["/rate/burst"]),
            (r#"{"rate":{"starts":1,"per_ms":1,"per":1}}"#, &["/rate/per"]),
            (r#"{"rate":{"starts":1,"starts":1}}"#, &["/rate/starts"]),
            (r#"{"rate":5}"#, &["/rate"]),
            (r#"{"wieght":1,"weight":2}"#, &["/wieght"]),
            (r#"{"a/b":1}"#, &["/a~1b"]),
            (r#"{"weight":1,"weight":1}"#, &["/weight"]),
        ] {
            assert_eq!(pointers(json), expected, "{json}");
        }
    }
}
