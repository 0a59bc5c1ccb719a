//! The form of a task: made from the JSON Schema of its payload, and read back to a payload.
//!
//! It works without script, keeps every number as it was typed, and leaves out what was left empty. It decides nothing:
//! the API checks the payload that it gives like any other.

mod decode;
mod encode;
mod entries;
mod field;
mod json;
mod outline;
mod view;

use std::collections::BTreeSet;

use entries::Entries;
use field::{Field, Kind};
use json::Json;

use crate::problem::Violation;

/// A larger payload is shown as JSON text without being looked at: nobody edits it in fields.
const MAX_IN_FIELDS: usize = 64 * 1024;

/// The form of one task, with what is entered and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Form {
    root: Field,
    entries: Entries,
    violations: Vec<Violation>,
}

impl Form {
    /// A form that nobody has filled in. Without a schema it is one field for JSON text.
    pub(crate) fn empty(schema: Option<&str>) -> Self {
        let root = outline_of(schema);
        let entries = encode::defaults(&root);
        Self { root, entries, violations: Vec::new() }
    }

    /// A form that submits an equal payload if nothing is changed.
    pub(crate) fn filled(schema: Option<&str>, payload: &str) -> Self {
        let root = outline_of(schema);
        let value = if payload.len() > MAX_IN_FIELDS { None } else { Json::read(payload) };
        match value {
            Some(value) => {
                Self { entries: encode::encode(&root, &value), root, violations: Vec::new() }
            }
            None => Self::json(schema, payload),
        }
    }

    /// The same task with one field for the whole payload as JSON text.
    pub(crate) fn json(schema: Option<&str>, payload: &str) -> Self {
        let root = outline_of(schema);
        let mut entries = Entries::default();
        entries.insert(root.path.json_name(), payload);
        Self { root, entries, violations: Vec::new() }
    }

    /// A form as a browser submitted it: pairs of an `application/x-www-form-urlencoded` body, decoded. Pairs that do
    /// not belong to a payload are ignored.
    pub(crate) fn submitted(
        schema: Option<&str>,
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let entries = Entries::submitted(pairs);
        Self { root: outline_of(schema), entries, violations: Vec::new() }
    }

    /// Returns the payload as JSON text.
    ///
    /// # Errors
    /// What is wrong, with pointers into the payload: [`Form::with_violations`] shows it.
    pub(crate) fn payload(&self) -> Result<String, Vec<Violation>> {
        let text = decode::decode(&self.root, &self.entries)?;
        match self.unknown_name() {
            None => Ok(text),
            Some(name) => {
                let detail = format!("the task changed, and has no field {name} any more");
                Err(vec![Violation::new("", detail)])
            }
        }
    }

    /// The same form, with what is wrong shown at its fields. Pointers are relative to the payload.
    pub(crate) fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.violations = violations;
        self
    }

    /// Returns the fields as HTML, to be placed in a `form` element.
    pub(crate) fn html(&self) -> askama::Result<String> {
        view::html(self)
    }

    /// A name that was submitted with a text, and is that of no field.
    fn unknown_name(&self) -> Option<&str> {
        let mut known = BTreeSet::new();
        add_names(&self.root, &mut known);
        self.entries.names().find(|name| !known.contains(*name))
    }
}

fn outline_of(schema: Option<&str>) -> Field {
    let schema = schema.and_then(Json::read);
    outline::outline(&schema.unwrap_or(Json::Bool(true)))
}

fn add_names(field: &Field, known: &mut BTreeSet<String>) {
    let path = &field.path;
    known.insert(path.json_name());
    known.insert(path.null_name());
    known.insert(match field.kind {
        Kind::Alternatives(_) => path.choice_name(),
        _ => path.value_name(),
    });
    field.children().for_each(|child| add_names(child, known));
}

#[cfg(test)]
mod tests;
