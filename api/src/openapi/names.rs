//! Names of components and operations that every client generator can convert to names of its language.

use std::collections::HashSet;

use serde_json::Value;

/// The names in use, case-insensitive: a generator may use them as file names, and file systems may ignore case.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<String>);

impl Names {
    /// Collects the names of components and operations in a document.
    pub(super) fn of(document: &Value) -> Self {
        let mut names = Self::default();
        let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
        for (name, _) in schemas {
            names.take(name);
        }
        let items = document["paths"].as_object().into_iter().flatten();
        for operation in items.filter_map(|(_, item)| item.as_object()).flatten() {
            names.take(operation.1["operationId"].as_str().unwrap_or_default());
        }
        names
    }

    /// Reserves the wanted name, with a number appended if it is in use.
    pub(super) fn take(&mut self, wanted: &str) -> String {
        let numbered = (2..).map(|number: u32| format!("{wanted}{number}"));
        let mut candidates = std::iter::once(wanted.to_owned()).chain(numbered);
        let free = candidates.find(|name| self.0.insert(name.to_ascii_lowercase()));
        free.expect("there are more numbers than names")
    }
}

/// Converts `image.thumbnail` to `ImageThumbnail`. A name cannot begin with a digit in most languages.
pub(super) fn pascal(text: &str) -> String {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name: String = words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
    match name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        true => name,
        false => format!("Task{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_letters_and_digits_only() {
        let cases = [
            ("image.thumbnail", "ImageThumbnail"),
            ("/v1/a-b", "V1AB"),
            ("3d", "Task3d"),
            ("ä", "Task"),
        ];
        for (text, name) in cases {
            assert_eq!(pascal(text), name);
        }
    }

    #[test]
    fn a_name_is_given_once_whatever_its_capitals() {
        let mut names = Names::default();
        assert_eq!(
            ["Ab", "aB", "Ab", "Ab2"].map(|wanted| names.take(wanted)),
            ["Ab", "aB2", "Ab3", "Ab22"]
        );
    }
}
