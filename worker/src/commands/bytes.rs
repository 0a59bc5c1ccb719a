//! Sizes in configuration files: a number of bytes, or `"512MiB"`, `"2GiB"`.

use super::problem::Mistake;
use super::table::{Value, mistake};

/// Each unit in bytes.
const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A size of at least `min` bytes.
pub(super) fn at_least(min: u64, value: &Value<'_>) -> Result<u64, Mistake> {
    let number = value.get_ref().as_integer();
    let number =
        number.and_then(|digits| u64::from_str_radix(digits.as_str(), digits.radix()).ok());
    let size = number.or_else(|| value.get_ref().as_str().and_then(parse)).ok_or_else(|| {
        mistake(value, "expected a number of bytes, or a size such as \"512MiB\" or \"2GiB\"")
    })?;
    match size < min {
        true => Err(mistake(value, format!("expected at least {min} bytes"))),
        false => Ok(size),
    }
}

fn parse(text: &str) -> Option<u64> {
    let (digits, in_bytes) =
        UNITS.into_iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))?;
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse().ok())?.and_then(|number: u64| number.checked_mul(in_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_whole_number_and_a_unit() {
        assert_eq!(parse("512MiB"), Some(512 << 20));
        assert_eq!(parse("2GiB"), Some(2 << 30));
        for text in ["", "MiB", "2", "2GB", "2 GiB", "-2GiB", "1.5GiB", "99999999999GiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
