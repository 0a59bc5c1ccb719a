//! How durations, times and numbers are read and written.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;

/// The largest unit that leaves a number below a hundred or so: `42s`, `90m`, `47h`, `12d`.
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..=99 => format!("{seconds}s"),
        seconds @ 100..=5999 => format!("{}m", seconds / 60),
        seconds @ 6000..=172_799 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// How long something ran, in about three digits: `7ms`, `1.2s`, `95s`, `12m`.
pub(crate) fn run_time(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..=999 => format!("{ms}ms"),
        1000..=9999 => format!("{:.1}s", time.as_secs_f64()),
        _ => age(time),
    }
}

/// A time relative to now: `3m ago`, `in 20s`.
pub(crate) fn relative(time: Timestamp) -> String {
    if time > clock::now() {
        format!("in {}", age(clock::until(time)))
    } else {
        format!("{} ago", age(clock::since(time)))
    }
}

/// Exact and short: `1h30m`, `250ms`; a user can give it back.
pub(crate) fn short_duration(duration: Duration) -> String {
    let mut ms = duration.as_millis();
    let mut text = String::new();
    for (unit, length) in UNITS {
        let count = ms / length;
        ms %= length;
        if count > 0 {
            text = format!("{text}{count}{unit}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

const UNITS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A year, as the API allows for times of a job.
const LONGEST_MS: u128 = 366 * 86_400_000;

/// Reads `30s`, `1h30m`, `250ms`; a number without a unit is in seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 30s, 5m, 1h30m or 250ms".to_owned();
    let mut rest = text.trim();
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let count: u128 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let length = match &rest[..letters] {
            "" if total == 0 => 1000,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        rest = &rest[letters..];
        total = count.checked_mul(length).and_then(|ms| ms.checked_add(total)).ok_or_else(wrong)?;
    }
    if text.trim().is_empty() {
        return Err(wrong());
    }
    let ms = u64::try_from(total).ok().filter(|_| total <= LONGEST_MS);
    ms.map(Duration::from_millis).ok_or_else(|| "expected at most a year".to_owned())
}

/// Reads a time: RFC 3339, a date for its beginning in UTC, or a duration for as long ago.
pub(crate) fn parse_past(text: &str) -> Result<Timestamp, String> {
    match (parse_duration(text), text.parse::<jiff::civil::Date>()) {
        (Ok(ago), _) => Ok(clock::now() - ago),
        (Err(_), Ok(_)) if text.len() == DATE_LENGTH => parse_time(&format!("{text}T00:00:00Z")),
        _ => parse_time(text).map_err(|expected| {
            format!("{expected}, a date such as 2026-11-22, or a duration such as 1h")
        }),
    }
}

/// Reads a label and its value.
pub(crate) fn parse_label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// That of `2026-11-30`; what is longer has a time.
const DATE_LENGTH: usize = 10;

/// Reads an RFC 3339 time.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "expected an RFC 3339 time such as 2026-11-22T13:40:54Z".to_owned())
}

/// Whole mebibytes, or smaller units for less.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes} B"),
        10_000..=10_239_999 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

/// `one job`, `2 jobs`.
pub(crate) fn jobs(count: u64) -> String {
    format!("{count} {}", if count == 1 { "job" } else { "jobs" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for text in ["30s", "1h30m", "250ms", "7d", "1d2h3m4s5ms"] {
            assert_eq!(short_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(parse_duration("90").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration(" 5m ").unwrap(), Duration::from_secs(300));
        assert_eq!(short_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn what_is_no_duration_is_rejected() {
        for text in ["", "  ", "s", "5x", "-5s", "1.5h", "400d", "5m3", "99999999999999999999999d"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_date_is_its_beginning() {
        assert_eq!(parse_past("2026-11-30").unwrap().to_string(), "2026-11-30T00:00:00Z");
        let time = "2026-11-30T13:40:54Z";
        assert_eq!(parse_past(time).unwrap().to_string(), time);
        assert!(parse_past("1h").unwrap() < clock::now());
        for text in ["2026-13-30", "2026-11-30T25:00:00Z", "yesterday", "20261130T"] {
            assert!(parse_past(text).is_err(), "{text}");
        }
    }

    #[test]
    fn run_times_have_about_three_digits() {
        let times = [7, 999, 1250, 9_999, 95_000, 900_000].map(Duration::from_millis);
        assert_eq!(times.map(run_time), ["7ms", "999ms", "1.2s", "10.0s", "95s", "15m"]);
    }

    #[test]
    fn ages_have_one_unit() {
        let seconds = [0, 99, 100, 3599, 6000, 172_800].map(Duration::from_secs);
        assert_eq!(seconds.map(age), ["0s", "99s", "1m", "59m", "1h", "2d"]);
    }
}
