//! From a JSON Schema to fields. What a form cannot express becomes a field for JSON text; the API checks the payload
//! against the schema in any case, so a form may ask for less than the schema demands, never for something else.
//!
//! A schema comes from a worker and may be hostile: fields, depth, choices and texts are limited, and so is the work,
//! because the members of an object are counted before any of them is read.

mod resolved;
mod words;

use resolved::{Resolved, Resolver};

use super::field::{Bounds, Choice, Field, Kind, Member, Path, Scalar};
use super::json::Json;

/// More fields than this are no form that a person fills in.
const MAX_FIELDS: usize = 200;
/// Groups within groups: deeper ones leave no width for their fields.
const MAX_DEPTH: usize = 8;
/// Values to choose from, in all fields together: a page of a few hundred kilobytes.
const MAX_CHOICES: usize = 2000;
/// The longest value to choose or to suggest, and the longest name of a member, in bytes. References multiply them.
const MAX_VALUE: usize = 1024;
const MAX_NAME: usize = 200;
/// The longest title and description, in characters.
const MAX_TITLE: usize = 100;
const MAX_DESCRIPTION: usize = 500;
/// A text that may be longer than this many characters gets several lines.
const LONG_TEXT: u64 = 200;

/// Keywords by which an object may have, or need, members other than its `properties`.
const COMBINATIONS: [&str; 8] =
    ["allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "patternProperties"];

/// Returns the field for the whole payload.
pub(super) fn outline(schema: &Json) -> Field {
    let place = Place {
        path: Path::default(),
        name: "Payload".to_owned(),
        required: true,
        certain: true,
        depth: 0,
    };
    Outline { resolver: Resolver::new(schema), finished: 0, reserved: 1, choices: 0 }
        .field(place, schema)
}

/// Where a field is, before its schema is read.
struct Place {
    path: Path,
    /// What it is called if its schema has no title.
    name: String,
    required: bool,
    certain: bool,
    depth: usize,
}

struct Outline<'a> {
    resolver: Resolver<'a>,
    /// How many fields have a number.
    finished: usize,
    /// How many fields there are, including those that are counted but not read yet.
    reserved: usize,
    choices: usize,
}

impl<'a> Outline<'a> {
    fn field(&mut self, place: Place, schema: &'a Json) -> Field {
        let open = self.resolver.open();
        let resolved = self.resolver.resolve(schema);
        let number = self.finished;
        self.finished += 1;
        let default = resolved.annotation("default").filter(|value| is_short(value));
        let inner = Place { certain: place.certain && !resolved.nullable, ..place };
        let kind = self.kind(&inner, &resolved).unwrap_or(Kind::Json);
        let field = Field {
            number,
            title: title(&inner, &resolved),
            description: resolved.text("description", MAX_DESCRIPTION).unwrap_or_default(),
            hints: words::hints(resolved.schema),
            required: inner.required,
            certain: inner.certain,
            nullable: resolved.nullable && !matches!(kind, Kind::Fixed(_)),
            default: default.cloned(),
            kind,
            path: inner.path,
        };
        self.resolver.close(open);
        field
    }

    /// `None` for what only JSON text can express.
    fn kind(&mut self, place: &Place, resolved: &Resolved<'a>) -> Option<Kind> {
        let schema = resolved.schema;
        if !resolved.complete {
            return None;
        }
        if let Some(value) = schema.get("const") {
            let value = std::slice::from_ref(value);
            return if place.required { fixed(&value[0]) } else { self.select(choices(value)) };
        }
        if let Some(values) = schema.get("enum") {
            let values = values.as_array().filter(|values| values.len() <= MAX_CHOICES)?;
            return self.select(choices(values));
        }
        if let Some(alternatives) = resolved.alternatives() {
            return self.alternatives(place, &alternatives);
        }
        match resolved.types()[..] {
            ["object"] => self.object(place, schema),
            ["array"] => self.list(schema),
            ["string"] if schema.get("format").and_then(Json::as_str) == Some("date-time") => {
                Some(Kind::Time)
            }
            ["string"] => Some(Kind::Text { long: is_long(schema) }),
            ["integer"] => Some(Kind::Number(integer_bounds(schema))),
            ["number"] | ["integer", "number"] | ["number", "integer"] => {
                Some(Kind::Number(number_bounds(schema)))
            }
            ["boolean"] => Some(Kind::Boolean),
            [] if resolved.nullable && place.required => fixed(&Json::Null),
            _ => None,
        }
    }

    fn select(&mut self, choices: Vec<Choice>) -> Option<Kind> {
        let room = MAX_CHOICES - self.choices;
        let fits = (1..=room).contains(&choices.len());
        if !fits || !choices.iter().all(|choice| is_short(&choice.value)) {
            return None;
        }
        self.choices += choices.len();
        Some(Kind::Select(choices))
    }

    fn alternatives(&mut self, place: &Place, schemas: &[&'a Json]) -> Option<Kind> {
        if schemas.len() > MAX_CHOICES {
            return None;
        }
        let constants: Option<Vec<_>> = schemas.iter().map(|schema| constants(schema)).collect();
        if let Some(choices) = constants {
            return self.select(choices.concat());
        }
        self.reserve(place, schemas.len())?;
        let fields = schemas.iter().enumerate().map(|(at, schema)| {
            let inside = Place {
                path: place.path.alternative(at),
                name: String::new(),
                required: true,
                certain: false,
                depth: place.depth + 1,
            };
            let mut field = self.field(inside, schema);
            if field.title.is_empty() {
                field.title = words::name_of(&field, at);
            }
            field
        });
        Some(Kind::Alternatives(fields.collect()))
    }

    fn object(&mut self, place: &Place, schema: &'a Json) -> Option<Kind> {
        if COMBINATIONS.iter().any(|keyword| schema.get(keyword).is_some()) {
            return None;
        }
        let properties = match schema.get("properties").map(Json::as_object) {
            Some(properties) => properties?,
            None => &[],
        };
        // An object of any members has no fields, unless it has none at all.
        let is_closed = matches!(schema.get("additionalProperties"), Some(Json::Bool(false)));
        if properties.is_empty() && !is_closed {
            return None;
        }
        let required = required_names(schema);
        // The counts come first: they bound the comparisons.
        if properties.len() > MAX_FIELDS || required.len() > properties.len() {
            return None;
        }
        let is_declared = |name: &&str| properties.iter().any(|(it, _)| it == name);
        let is_long = |(name, _): &(String, Json)| name.len() > MAX_NAME;
        if properties.iter().any(is_long) || !required.iter().all(is_declared) {
            return None;
        }
        self.reserve(place, properties.len())?;
        let members = properties.iter().map(|(name, schema)| {
            let required = required.contains(&name.as_str());
            let inside = Place {
                path: place.path.member(name),
                name: name.clone(),
                required,
                certain: place.certain && required,
                depth: place.depth + 1,
            };
            Member { name: name.clone(), field: self.field(inside, schema) }
        });
        Some(Kind::Object(members.collect()))
    }

    fn list(&mut self, schema: &'a Json) -> Option<Kind> {
        if schema.get("prefixItems").is_some() {
            return None;
        }
        let open = self.resolver.open();
        let item = self.resolver.resolve(schema.get("items")?);
        self.resolver.close(open);
        if !item.complete || item.nullable || item.alternatives().is_some() {
            return None;
        }
        match item.types()[..] {
            ["string"] => Some(Kind::List(Scalar::Text)),
            ["integer" | "number"] => Some(Kind::List(Scalar::Number)),
            ["boolean"] => Some(Kind::List(Scalar::Boolean)),
            _ => None,
        }
    }

    /// Counts the fields of a group; `None` if there is no room for all of them.
    fn reserve(&mut self, place: &Place, count: usize) -> Option<()> {
        let fits = place.depth < MAX_DEPTH && count <= MAX_FIELDS - self.reserved;
        fits.then(|| self.reserved += count)
    }
}

/// A member is called by its own title, or by its name: the title of a schema that it refers to says what kind of value
/// it is, such as an address, but not whose.
fn title(place: &Place, resolved: &Resolved<'_>) -> String {
    let name = || (!place.name.is_empty()).then(|| place.name.clone());
    let own = resolved.own_text("title", MAX_TITLE);
    own.or_else(name).or_else(|| resolved.text("title", MAX_TITLE)).unwrap_or_default()
}

fn fixed(value: &Json) -> Option<Kind> {
    is_short(value).then(|| Kind::Fixed(value.clone()))
}

/// The choices that an alternative is, if it is a constant or an enumeration.
fn constants(schema: &Json) -> Option<Vec<Choice>> {
    let title = schema.get("title").and_then(Json::as_str);
    let one = |value: &Json| {
        let label = title.map_or_else(|| label(value), |it| words::shortened(it, MAX_TITLE));
        vec![Choice { label, value: value.clone() }]
    };
    match (schema.get("const"), schema.get("enum").and_then(Json::as_array)) {
        (Some(value), _) | (None, Some([value])) => Some(one(value)),
        (None, values) => Some(choices(values?)),
    }
}

fn choices(values: &[Json]) -> Vec<Choice> {
    values.iter().map(|value| Choice { label: label(value), value: value.clone() }).collect()
}

fn label(value: &Json) -> String {
    let text = value.as_str().filter(|text| !text.trim().is_empty());
    words::shortened(&text.map_or_else(|| value.to_string(), str::to_owned), MAX_TITLE)
}

fn required_names(schema: &Json) -> Vec<&str> {
    let names = schema.get("required").and_then(Json::as_array).unwrap_or_default();
    names.iter().filter_map(Json::as_str).collect()
}

fn is_short(value: &Json) -> bool {
    value.to_string().len() <= MAX_VALUE
}

fn is_long(schema: &Json) -> bool {
    let Some(Json::Number(limit)) = schema.get("maxLength") else { return false };
    limit.parse::<u64>().is_ok_and(|limit| limit > LONG_TEXT)
}

fn number_bounds(schema: &Json) -> Bounds {
    let bound = |keywords: [&str; 2]| keywords.iter().find_map(|it| number(schema, it));
    Bounds {
        integer: false,
        min: bound(["minimum", "exclusiveMinimum"]),
        max: bound(["maximum", "exclusiveMaximum"]),
    }
}

/// A browser counts the steps of an integer from its minimum, which must therefore be an integer.
fn integer_bounds(schema: &Json) -> Bounds {
    let bound = |keyword: &str, exclusive: &str, step: i64| {
        let integer = |keyword| number(schema, keyword)?.parse::<i64>().ok();
        let beside = integer(exclusive).and_then(|it| it.checked_add(step));
        integer(keyword).or(beside).map(|it| it.to_string())
    };
    Bounds {
        integer: true,
        min: bound("minimum", "exclusiveMinimum", 1),
        max: bound("maximum", "exclusiveMaximum", -1),
    }
}

fn number(schema: &Json, keyword: &str) -> Option<String> {
    let Some(Json::Number(text)) = schema.get(keyword) else { return None };
    (text.len() <= MAX_TITLE).then(|| text.clone())
}
