//! From a value to the entries that would submit it.
//!
//! What the fields cannot express becomes JSON text in the place of its field: a form that is submitted unchanged gives
//! an equal value, whatever the schema is.

use super::decode::{decode, with_offset};
use super::entries::{CHECKED, Entries};
use super::field::{Field, Kind};
use super::json::Json;

/// The entries of a form that nobody has filled in: defaults where a value is required. Where it is not, the default
/// is what the task assumes for a value that is left out.
pub(super) fn defaults(field: &Field) -> Entries {
    if let Some(value) = field.default.as_ref().filter(|_| field.certain) {
        return encode(field, value);
    }
    let mut entries = Entries::default();
    if let Kind::Object(members) = &field.kind {
        members.iter().for_each(|member| entries.append(defaults(&member.field)));
    }
    entries
}

/// The entries that give the value.
pub(super) fn encode(field: &Field, value: &Json) -> Entries {
    let natural = in_fields(field, value).filter(|entries| gives(field, entries, value));
    natural.unwrap_or_else(|| {
        let mut entries = Entries::default();
        entries.insert(field.path.json_name(), value.pretty());
        entries
    })
}

fn gives(field: &Field, entries: &Entries, value: &Json) -> bool {
    decode(field, entries).is_ok_and(|text| Json::read(&text).as_ref() == Some(value))
}

/// The entries that come closest to the value; `None` if it is of another kind.
fn in_fields(field: &Field, value: &Json) -> Option<Entries> {
    let mut entries = Entries::default();
    let name = field.path.value_name();
    match (&field.kind, value) {
        (Kind::Json, _) => return None,
        (_, Json::Null) if field.nullable => entries.insert(field.path.null_name(), CHECKED),
        (Kind::Fixed(_), _) => {}
        (Kind::Boolean, Json::Bool(value)) => {
            if *value || !field.required {
                entries.insert(name, value.to_string());
            }
        }
        (Kind::Select(_), value) => entries.insert(name, value.to_string()),
        (Kind::Text { .. }, Json::String(text)) => entries.insert(name, typed(text)?),
        (Kind::Time, Json::String(text)) => entries.insert(name, in_picker(typed(text)?)),
        (Kind::Number(_), Json::Number(text)) => entries.insert(name, text),
        (Kind::List(_), Json::Array(items)) => entries.insert(name, lines(items)?),
        (Kind::Object(members), Json::Object(_)) => {
            for member in members {
                if let Some(value) = value.get(&member.name) {
                    entries.append(encode(&member.field, value));
                }
            }
        }
        (Kind::Alternatives(fields), value) => entries.append(alternative(field, fields, value)?),
        _ => return None,
    }
    Some(entries)
}

/// The entries of the first alternative that expresses the value without JSON text in its place.
fn alternative(field: &Field, fields: &[Field], value: &Json) -> Option<Entries> {
    let fits = |(at, alternative): (usize, &Field)| {
        let entries = encode(alternative, value);
        (!entries.contains(&alternative.path.json_name())).then_some((at, entries))
    };
    // A field for any value comes last: it expresses everything.
    let any = || {
        let at = fields.iter().position(|it| matches!(it.kind, Kind::Json))?;
        Some((at, encode(&fields[at], value)))
    };
    let (at, mut entries) = fields.iter().enumerate().find_map(fits).or_else(any)?;
    entries.insert(field.path.choice_name(), at.to_string());
    Some(entries)
}

/// A text that a person could type, and a page can contain: no NUL, and no line break that browsers change.
fn typed(text: &str) -> Option<&str> {
    (!text.contains(['\0', '\r'])).then_some(text)
}

/// A time in UTC as browsers have it, to the second; others as they are.
fn in_picker(text: &str) -> &str {
    text.strip_suffix('Z').filter(|it| with_offset(it) == text).unwrap_or(text)
}

fn lines(items: &[Json]) -> Option<String> {
    let line = |item: &Json| match item {
        Json::String(text) => typed(text).map(str::to_owned),
        Json::Number(text) => Some(text.clone()),
        Json::Bool(value) => Some(value.to_string()),
        _ => None,
    };
    let lines: Option<Vec<_>> = items.iter().map(line).collect();
    lines.map(|lines| lines.join("\n"))
}
