//! Durations in configuration files: `"500ms"`, `"30s"`, `"10m"`, `"24h"`, `"7d"`.

use std::time::Duration;

use crunch_common::job::MAX_DURATION;

use super::problem::Mistake;
use super::table::{Value, mistake};

/// Each unit in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A duration from `min` to a year.
pub(super) fn at_least(min: Duration, value: &Value<'_>) -> Result<Duration, Mistake> {
    let duration = value.get_ref().as_str().and_then(parse).ok_or_else(|| {
        mistake(value, "expected a whole number and a unit, such as \"500ms\", \"30s\", \"10m\", \"24h\" or \"7d\"")
    })?;
    match duration {
        short if short < min => Err(mistake(value, format!("expected at least {min:?}"))),
        long if long > MAX_DURATION => Err(mistake(value, "expected at most a year (366d)")),
        valid => Ok(valid),
    }
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_lowercase());
    let (_, in_ms) = UNITS.into_iter().find(|&(unit, _)| unit == &text[digits.len()..])?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_plain.then(|| digits.parse().ok())??;
    number.checked_mul(in_ms).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        let cases = [
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("0s", 0),
        ];
        for (text, ms) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "+1s",
            "1 s",
            "1S",
            "1min",
            "1h30m",
            "99999999999999999999s",
            "999999999999999999d",
            "１s",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
