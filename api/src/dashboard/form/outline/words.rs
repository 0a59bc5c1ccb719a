//! What a schema demands, in words.

use super::super::field::{Field, Kind};
use super::super::json::Json;
use super::MAX_TITLE;

/// Values that a hint lists.
const MAX_LISTED: usize = 12;

/// What a schema demands of a value, apart from its type: one phrase for each demand.
pub(super) fn hints(schema: &Json) -> Vec<String> {
    let item = schema.get("items");
    let each = item.map(own_hints).unwrap_or_default().into_iter().chain(item.and_then(listed));
    own_hints(schema).into_iter().chain(each.map(|it| format!("each: {it}"))).collect()
}

fn own_hints(schema: &Json) -> Vec<String> {
    let number = |keyword: &str| match schema.get(keyword) {
        Some(Json::Number(text)) => Some(shortened(text, MAX_TITLE)),
        _ => None,
    };
    let range = |min: &str, max: &str, unit: &str| match (number(min), number(max)) {
        (Some(min), Some(max)) if min == max => Some(format!("exactly {min}{unit}")),
        (Some(min), Some(max)) => Some(format!("{min} to {max}{unit}")),
        (Some(min), None) => Some(format!("at least {min}{unit}")),
        (None, Some(max)) => Some(format!("at most {max}{unit}")),
        (None, None) => None,
    };
    let text = |keyword: &str| {
        let text = schema.get(keyword)?.as_str()?;
        Some(shortened(text, MAX_TITLE))
    };
    let phrases = [
        range("minLength", "maxLength", " characters"),
        range("minimum", "maximum", ""),
        number("exclusiveMinimum").map(|it| format!("more than {it}")),
        number("exclusiveMaximum").map(|it| format!("less than {it}")),
        number("multipleOf").map(|it| format!("a multiple of {it}")),
        text("pattern").map(|it| format!("matches {it}")),
        text("format").filter(|it| it != "date-time").map(|it| format!("format {it}")),
        range("minItems", "maxItems", " values"),
        matches!(schema.get("uniqueItems"), Some(Json::Bool(true)))
            .then(|| "no value twice".into()),
    ];
    phrases.into_iter().flatten().collect()
}

/// The texts that an item may be.
fn listed(item: &Json) -> Option<String> {
    let values = item.get("enum")?.as_array()?;
    if !(1..=MAX_LISTED).contains(&values.len()) {
        return None;
    }
    let texts: Option<Vec<_>> = values.iter().map(Json::as_str).collect();
    Some(format!("one of {}", shortened(&texts?.join(", "), MAX_TITLE)))
}

/// What an alternative without a title is called: by the constant that distinguishes it, or by its type.
pub(super) fn name_of(field: &Field, number: usize) -> String {
    let tag = |kind: &Kind| match kind {
        Kind::Fixed(value) => value.as_str().map(str::to_owned),
        _ => None,
    };
    let name = match &field.kind {
        Kind::Object(members) => members.iter().find_map(|member| tag(&member.field.kind)),
        Kind::Text { .. } => Some("Text".to_owned()),
        Kind::Time => Some("Time".to_owned()),
        Kind::Number(_) => Some("Number".to_owned()),
        Kind::Boolean => Some("Yes or no".to_owned()),
        Kind::List(_) => Some("List".to_owned()),
        kind => tag(kind),
    };
    name.unwrap_or_else(|| format!("Alternative {}", number + 1))
}

/// At most `limit` characters of a text.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}
