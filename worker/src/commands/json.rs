//! Values of the file as JSON: what is passed on to others as it is.

use crunch_common::json::MAX_DEPTH;
use serde_json::{Number, Value as Json};
use toml::de::{DeInteger, DeValue};

use super::problem::Mistake;
use super::table::{Value, mistake};

/// A value as JSON of at most `max` bytes. A date becomes text.
pub(super) fn text(value: &Value<'_>, max: usize) -> Result<String, Mistake> {
    let text = json(value, 0)?.to_string();
    match text.len() > max {
        true => Err(mistake(value, format!("expected at most {max} bytes of JSON"))),
        false => Ok(text),
    }
}

fn json(value: &Value<'_>, depth: usize) -> Result<Json, Mistake> {
    if depth > MAX_DEPTH {
        return Err(mistake(value, format!("nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(match value.get_ref() {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Integer(digits) => Json::Number(integer(value, digits)?),
        DeValue::Float(digits) => {
            let number = digits.as_str().parse().ok().and_then(Number::from_f64);
            Json::Number(number.ok_or_else(|| mistake(value, "JSON has no such number"))?)
        }
        DeValue::Boolean(value) => Json::Bool(*value),
        DeValue::Datetime(time) => Json::String(time.to_string()),
        DeValue::Array(elements) => {
            let elements = elements.iter().map(|element| json(element, depth + 1));
            Json::Array(elements.collect::<Result<_, _>>()?)
        }
        DeValue::Table(entries) => {
            let member = |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, _)| {
                Ok((key.get_ref().to_string(), json(value, depth + 1)?))
            };
            Json::Object(entries.iter().map(member).collect::<Result<_, _>>()?)
        }
    })
}

fn integer(value: &Value<'_>, digits: &DeInteger<'_>) -> Result<Number, Mistake> {
    let (text, radix) = (digits.as_str(), digits.radix());
    let number = i64::from_str_radix(text, radix).map(Number::from);
    let number = number.or_else(|_| u64::from_str_radix(text, radix).map(Number::from));
    number.map_err(|_| mistake(value, "the number has more than 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(toml: &str) -> Result<String, String> {
        let value = DeValue::parse(toml).unwrap();
        text(&value, 1000).map_err(|mistake| mistake.what)
    }

    #[test]
    fn every_value_of_toml_has_its_json() {
        for (toml, json) in [
            (
                "{ b = [1, -2, 0x1f], a = { 'x y' = \"\\u00e4\\n\" } }",
                r#"{"a":{"x y":"ä\n"},"b":[1,-2,31]}"#,
            ),
            ("[1.5, 1e3, true, []]", "[1.5,1000.0,true,[]]"),
            ("2026-01-01T00:00:00Z", "\"2026-01-01T00:00:00Z\""),
            ("2026-01-01", "\"2026-01-01\""),
        ] {
            assert_eq!(of(toml).as_deref(), Ok(json));
        }
        for number in ["nan", "-inf", "[inf]"] {
            assert_eq!(of(number).unwrap_err(), "JSON has no such number");
        }
    }

    #[test]
    fn what_is_large_or_deep_is_rejected() {
        let text = |bytes: usize| format!("'{}'", "x".repeat(bytes - 2));
        assert!(of(&text(1000)).is_ok());
        assert_eq!(of(&text(1001)).unwrap_err(), "expected at most 1000 bytes of JSON");
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(of(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(of(&nested(MAX_DEPTH + 1)).unwrap_err(), "nested deeper than 64 levels");
    }
}
