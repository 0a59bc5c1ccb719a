//! What is in the fields of a form: texts by name, as a browser submits them.

use std::collections::BTreeMap;

use super::field::{CHOICE, Field, JSON, Kind, NULL, VALUE};

/// The value of a box that is checked.
pub(super) const CHECKED: &str = "true";

/// Texts by the names of fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entries(BTreeMap<String, String>);

impl Entries {
    /// The pairs of a submitted form that belong to a payload; of a repeated name, the last.
    pub(super) fn submitted(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let begins = |name: &str, with| {
            name.strip_prefix(with).is_some_and(|it| it.is_empty() || it.starts_with('/'))
        };
        let belongs = |name: &str| [VALUE, JSON, NULL, CHOICE].iter().any(|it| begins(name, it));
        let pairs = pairs.into_iter().filter(|(name, _)| belongs(name));
        // Browsers submit every line break as two characters.
        Self(pairs.map(|(name, text)| (name, text.replace("\r\n", "\n"))).collect())
    }

    /// The text of a field; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn insert(&mut self, name: String, text: impl Into<String>) {
        self.0.insert(name, text.into());
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// The names of entries with a text.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let filled = self.0.iter().filter(|(_, text)| !text.is_empty());
        filled.map(|(name, _)| name.as_str())
    }

    /// Whether a field, or one inside it, has a text. Constants do not count: nobody entered them.
    pub(super) fn fill(&self, field: &Field) -> bool {
        let path = &field.path;
        let own = match field.kind {
            Kind::Alternatives(_) => path.choice_name(),
            _ => path.value_name(),
        };
        [own, path.json_name(), path.null_name()].iter().any(|name| !self.get(name).is_empty())
            || field.children().any(|child| self.fill(child))
    }
}
