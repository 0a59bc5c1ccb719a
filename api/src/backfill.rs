//! Reads which ticks of the past are to be made up for.

use crunch_common::broker::Backfill;
use crunch_common::schedule::Timing;
use crunch_common::time::Timestamp;
use utoipa::ToSchema;

use crate::json::{Members, pointer_segment};
use crate::problem::Violation;

/// How many ticks may be made up for at once: one job after the other, so more would take days.
pub(crate) const MAX_TICKS: u64 = 1000;

/// A time of the past whose ticks are made up for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its description is used")]
pub(crate) struct BackfillRequest {
    /// The first tick is not earlier (RFC 3339).
    #[schema(value_type = String, format = DateTime)]
    from: String,
    /// The last tick is not later (RFC 3339). Default: now.
    #[schema(value_type = Option<String>, format = DateTime)]
    to: Option<String>,
}

/// The time that was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Period {
    from: Timestamp,
    to: Option<Timestamp>,
}

/// Parses a request whose JSON was checked.
pub(crate) fn read(json: &str) -> Result<Period, Vec<Violation>> {
    let Some(members) = Members::of(json) else {
        return Err(vec![Violation::new("", "expected an object")]);
    };
    if let Some(name) = members.repeated() {
        return Err(vec![Violation::new(pointer_segment(name), "is given twice")]);
    }
    let (mut from, mut to, mut violations) = (None, None, Vec::new());
    for (name, raw) in &members.all {
        let place = match name.as_str() {
            "from" => &mut from,
            "to" if raw.get() == "null" => continue,
            "to" => &mut to,
            _ => {
                let detail = format!("there is no member {name:?} here; expected from and to");
                violations.push(Violation::new(pointer_segment(name), detail));
                continue;
            }
        };
        let text = serde_json::from_str::<String>(raw.get()).unwrap_or_default();
        match text.parse::<Timestamp>() {
            Ok(time) => *place = Some(time),
            Err(error) => violations.push(Violation::new(pointer_segment(name), error.to_string())),
        }
    }
    match from {
        Some(from) if violations.is_empty() => Ok(Period { from, to }),
        None if violations.is_empty() => Err(vec![Violation::new("/from", "is missing")]),
        _ => Err(violations),
    }
}

impl Period {
    /// Returns the ticks of a schedule in this time, up to now.
    pub(crate) fn of(self, timing: &Timing, now: Timestamp) -> Result<Backfill, Vec<Violation>> {
        let wrong = |pointer: &str, detail: String| vec![Violation::new(pointer, detail)];
        let to = self.to.unwrap_or(now).min(now);
        let before = Timestamp::from_unix_ms(self.from.unix_ms().saturating_sub(1));
        let next = |tick| -> Result<Option<Timestamp>, Vec<Violation>> {
            let next = timing.next_after(tick).map_err(|error| wrong("", error.to_string()))?;
            Ok(next.filter(|next| *next <= to))
        };
        let none = || wrong("/from", "there is no tick of the schedule in that time".to_owned());
        let first = next(before)?.ok_or_else(none)?;
        let (mut last, mut left) = (first, 1);
        while let Some(tick) = next(last)? {
            (last, left) = (tick, left + 1);
            if left > MAX_TICKS {
                let detail = format!("there are more than {MAX_TICKS} ticks in that time");
                return Err(wrong("/from", detail));
            }
        }
        Ok(Backfill { next: first, last, left })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crunch_common::schedule::Rule;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_ticks_of_a_time_are_counted_up_to_now() {
        let hourly = Timing::of(Rule::Every(Duration::from_secs(3600)));
        let now = at("2026-01-01T12:30:00Z");
        let of = |json: &str| read(json).unwrap().of(&hourly, now);
        let backfill =
            of(r#"{"from":"2026-01-01T10:00:00Z","to":"2026-01-02T00:00:00Z"}"#).unwrap();
        assert_eq!(backfill.next, at("2026-01-01T10:00:00Z"));
        assert_eq!((backfill.last, backfill.left), (at("2026-01-01T12:00:00Z"), 3));
        assert!(of(r#"{"from":"2026-01-01T12:10:00Z"}"#).is_err());
        assert!(of(r#"{"from":"2025-01-01T00:00:00Z","to":null}"#).is_err());
    }

    #[test]
    fn other_requests_are_refused() {
        for json in ["[]", "{}", r#"{"from":1}"#, r#"{"from":"2026-01-01T00:00:00Z","until":1}"#] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
