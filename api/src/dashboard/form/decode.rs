//! From what was entered to the text of the payload, which has every number as it was typed.

use crunch_common::schema::MAX_VIOLATIONS;

use super::entries::{CHECKED, Entries};
use super::field::{Field, Kind, Member, Scalar};
use super::json::{Json, quoted};
use crate::problem::Violation;

/// Returns the JSON text of the field's value, or what is wrong, with pointers into the payload.
pub(super) fn decode(field: &Field, entries: &Entries) -> Result<String, Vec<Violation>> {
    let mut decoder = Decoder { entries, violations: Vec::new() };
    let value = decoder.required(field);
    value.filter(|_| decoder.violations.is_empty()).ok_or(decoder.violations)
}

const MISSING: &str = "a value is required";
const UNKNOWN: &str = "this is none of the choices";
const NOT_A_NUMBER: &str = "not a number; write it as in 42, -0.5 or 1e6";

struct Decoder<'a> {
    entries: &'a Entries,
    violations: Vec<Violation>,
}

impl Decoder<'_> {
    /// The value of a field; `None` if it was left empty, or is wrong.
    fn value(&mut self, field: &Field) -> Option<String> {
        let json = self.entries.get(&field.path.json_name());
        if matches!(field.kind, Kind::Json) || !json.trim().is_empty() {
            return self.json(field, json.trim());
        }
        if field.nullable && self.is_checked(&field.path.null_name()) {
            return Some("null".to_owned());
        }
        let text = self.entries.get(&field.path.value_name());
        match &field.kind {
            Kind::Json => None,
            Kind::Fixed(value) => Some(value.to_string()),
            Kind::Text { .. } => (field.required || !text.is_empty()).then(|| quoted(text)),
            Kind::List(scalar) => self.list(field, *scalar, text),
            Kind::Object(members) => self.object(field, members),
            Kind::Alternatives(fields) => self.alternative(field, fields),
            // A box that is not checked is false where there must be a value.
            Kind::Boolean if text.is_empty() => field.required.then(|| "false".to_owned()),
            _ if text.trim().is_empty() => None,
            Kind::Time => Some(quoted(&with_offset(text))),
            Kind::Boolean if ["true", "false"].contains(&text) => Some(text.to_owned()),
            Kind::Boolean => self.reject(field, UNKNOWN),
            Kind::Select(choices) => {
                let is_choice = choices.iter().any(|choice| choice.value.to_string() == text);
                if is_choice { Some(text.to_owned()) } else { self.reject(field, UNKNOWN) }
            }
            Kind::Number(_) => {
                number(text).map(str::to_owned).or_else(|| self.reject(field, NOT_A_NUMBER))
            }
        }
    }

    /// The value of a field that may not be left empty.
    fn required(&mut self, field: &Field) -> Option<String> {
        let before = self.violations.len();
        let value = self.value(field);
        if value.is_none() && self.violations.len() == before {
            return self.reject(field, MISSING);
        }
        value
    }

    fn reject(&mut self, field: &Field, reason: &str) -> Option<String> {
        self.add(field.path.pointer.clone(), reason)
    }

    /// Of a list, each line may be wrong: no more are reported than the API does.
    fn add(&mut self, pointer: String, reason: &str) -> Option<String> {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation::new(pointer, reason));
        }
        None
    }

    fn json(&mut self, field: &Field, text: &str) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(raw) => Some(raw.get().to_owned()),
            Err(error) => self.reject(field, &format!("not JSON: {error}")),
        }
    }

    fn list(&mut self, field: &Field, scalar: Scalar, text: &str) -> Option<String> {
        let lines: Vec<_> = text.split('\n').filter(|line| !line.is_empty()).collect();
        if lines.is_empty() && !field.required {
            return None;
        }
        let items = lines.into_iter().enumerate().map(|(at, line)| {
            let item = match scalar {
                Scalar::Text => Ok(quoted(line)),
                Scalar::Number => number(line).map(str::to_owned).ok_or(NOT_A_NUMBER),
                Scalar::Boolean if ["true", "false"].contains(&line.trim()) => {
                    Ok(line.trim().into())
                }
                Scalar::Boolean => Err("expected true or false"),
            };
            let pointer = || format!("{}/{at}", field.path.pointer);
            item.map_or_else(|reason| self.add(pointer(), reason), Some)
        });
        let items: Vec<_> = items.collect();
        let items: Option<Vec<_>> = items.into_iter().collect();
        items.map(|items| format!("[{}]", items.join(",")))
    }

    fn object(&mut self, field: &Field, members: &[Member]) -> Option<String> {
        if !field.required && !self.entries.fill(field) {
            return None;
        }
        let mut texts = Vec::new();
        for Member { name, field } in members {
            let value = if field.required { self.required(field) } else { self.value(field) };
            texts.extend(value.map(|value| format!("{}:{value}", quoted(name))));
        }
        Some(format!("{{{}}}", texts.join(",")))
    }

    fn alternative(&mut self, field: &Field, fields: &[Field]) -> Option<String> {
        let chosen = self.entries.get(&field.path.choice_name());
        if chosen.is_empty() {
            // What was entered must not be lost because the circle before it was left empty.
            if fields.iter().any(|it| self.entries.fill(it)) {
                return self.reject(field, "choose which of the alternatives counts");
            }
            return None;
        }
        let chosen = chosen.parse().ok().and_then(|at: usize| fields.get(at));
        match chosen {
            Some(chosen) => self.required(chosen),
            None => self.reject(field, UNKNOWN),
        }
    }

    fn is_checked(&self, name: &str) -> bool {
        self.entries.get(name) == CHECKED
    }
}

/// The text of a number as in JSON, without the space around it.
fn number(text: &str) -> Option<&str> {
    let text = text.trim();
    matches!(Json::read(text), Some(Json::Number(_))).then_some(text)
}

/// Browsers submit a time without an offset, and without seconds that are zero; the form asks for UTC.
pub(super) fn with_offset(text: &str) -> String {
    let is_like = |pattern: &str| {
        let fits = |(byte, like): (u8, u8)| byte == like || (byte.is_ascii_digit() && like == b'0');
        text.len() == pattern.len() && text.bytes().zip(pattern.bytes()).all(fits)
    };
    if is_like("0000-00-00T00:00") {
        format!("{text}:00Z")
    } else if is_like("0000-00-00T00:00:00") {
        format!("{text}Z")
    } else {
        text.to_owned()
    }
}
