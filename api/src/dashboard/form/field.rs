//! The fields of a form: what is asked for, where it belongs in the payload, and by which names it is submitted.

use super::json::Json;

/// One field, or a group of them.
#[derive(Debug)]
pub(super) struct Field {
    /// Its number in the form, from 0: a short id for elements.
    pub(super) number: usize,
    /// Where its value is in the payload.
    pub(super) path: Path,
    /// What it is called: the title in the schema, or the name of the member.
    pub(super) title: String,
    pub(super) description: String,
    /// What the schema demands of a value, in words.
    pub(super) hints: Vec<String>,
    /// Whether its object must have it.
    pub(super) required: bool,
    /// Whether every payload must have it: it and all groups around it are required, and none is an alternative.
    pub(super) certain: bool,
    /// Whether its value may be null as well.
    pub(super) nullable: bool,
    pub(super) default: Option<Json>,
    pub(super) kind: Kind,
}

/// What kind of value a field is for.
#[derive(Debug)]
pub(super) enum Kind {
    /// Any value, as JSON text.
    Json,
    /// A constant: nothing to ask.
    Fixed(Json),
    Text {
        long: bool,
    },
    /// A text with a date and a time.
    Time,
    Number(Bounds),
    Boolean,
    Select(Vec<Choice>),
    /// An array with one item on each line.
    List(Scalar),
    Object(Vec<Member>),
    /// Exactly one of these.
    Alternatives(Vec<Field>),
}

/// What attributes of an element can check of a number. Texts, because the digits matter.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    pub(super) integer: bool,
    pub(super) min: Option<String>,
    pub(super) max: Option<String>,
}

/// One value that can be chosen.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) value: Json,
    pub(super) label: String,
}

/// What kind of value an item of a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Text,
    Number,
    Boolean,
}

/// A member of an object.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) field: Field,
}

impl Field {
    /// The fields directly inside this one.
    pub(super) fn children(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        match &self.kind {
            Kind::Object(members) => Box::new(members.iter().map(|member| &member.field)),
            Kind::Alternatives(fields) => Box::new(fields.iter()),
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// The place of a field: a JSON Pointer into the payload, and the names under which it is submitted.
///
/// Fields of different alternatives have the same pointer, so names have a segment for each alternative on the way. It
/// cannot be mistaken for a member, because in a pointer `~` is followed by 0 or 1.
#[derive(Debug, Clone, Default)]
pub(super) struct Path {
    pub(super) pointer: String,
    name: String,
}

/// What the names of fields begin with: a typed value, JSON text, the box that makes a value null, and the number of
/// the alternative that counts. The JSON text of the whole payload is just `payload`.
pub(super) const VALUE: &str = "field";
pub(super) const JSON: &str = "payload";
pub(super) const NULL: &str = "null";
pub(super) const CHOICE: &str = "choice";

impl Path {
    pub(super) fn member(&self, name: &str) -> Self {
        let segment = name.replace('~', "~0").replace('/', "~1");
        let name = format!("{}/{}", self.name, encoded(&segment));
        Self { pointer: format!("{}/{segment}", self.pointer), name }
    }

    pub(super) fn alternative(&self, number: usize) -> Self {
        Self { pointer: self.pointer.clone(), name: format!("{}/~option{number}", self.name) }
    }

    /// Whether it is the place of an alternative.
    pub(super) fn is_alternative(&self) -> bool {
        self.name.rsplit('/').next().is_some_and(|last| last.starts_with("~option"))
    }

    /// The name of the value.
    pub(super) fn value_name(&self) -> String {
        format!("{VALUE}{}", self.name)
    }

    /// The name of the value as JSON text, which replaces all other entries for it.
    pub(super) fn json_name(&self) -> String {
        format!("{JSON}{}", self.name)
    }

    /// The name of the box that makes the value null.
    pub(super) fn null_name(&self) -> String {
        format!("{NULL}{}", self.name)
    }

    /// The name of the number of the alternative that counts.
    pub(super) fn choice_name(&self) -> String {
        format!("{CHOICE}{}", self.name)
    }
}

/// Browsers change line breaks in names and cannot submit NUL: control characters are percent-encoded.
fn encoded(segment: &str) -> String {
    let mut name = String::with_capacity(segment.len());
    for char in segment.chars() {
        if char.is_control() || char == '%' {
            let mut bytes = [0; 4];
            for byte in char.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        } else {
            name.push(char);
        }
    }
    name
}
