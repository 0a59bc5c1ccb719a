//! A table of the file, read key by key: values are checked when taken, keys left over are unknown, all mistakes are
//! collected.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Mistake;

/// A value and its position.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// One table.
#[derive(Debug)]
pub(super) struct Table<'a> {
    entries: &'a DeTable<'a>,
    /// Its position: for mistakes about missing keys.
    at: Range<usize>,
    taken: BTreeSet<&'static str>,
    pub(super) mistakes: Vec<Mistake>,
}

impl<'a> Table<'a> {
    pub(super) fn new(entries: &'a DeTable<'a>, at: Range<usize>) -> Self {
        Self { entries, at, taken: BTreeSet::new(), mistakes: Vec::new() }
    }

    /// Whether it has a key, with whatever value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Returns the value of a key. `None` if it is missing or invalid; an invalid value is added to the mistakes.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a Value<'a>) -> Result<T, Mistake>,
    ) -> Option<T> {
        self.take_spanned(key, read).map(|(_at, value)| value)
    }

    /// Like [`Table::take`], with the position of the value.
    pub(super) fn take_spanned<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a Value<'a>) -> Result<T, Mistake>,
    ) -> Option<(Range<usize>, T)> {
        self.taken.insert(key);
        let value = self.entries.get(key)?;
        match read(value) {
            Ok(read) => Some((value.span(), read)),
            Err(Mistake { at, what }) => {
                self.note(at, format!("{key}: {what}"));
                None
            }
        }
    }

    /// Like [`Table::take_spanned`], for a required key.
    pub(super) fn need<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'a Value<'a>) -> Result<T, Mistake>,
    ) -> Option<(Range<usize>, T)> {
        if !self.has(key) {
            self.note_missing(&format!("{key} is missing"));
        }
        self.take_spanned(key, read)
    }

    /// Rejects every key that was not taken.
    pub(super) fn refuse_the_rest(&mut self) {
        let known = self.taken.iter().copied().collect::<Vec<_>>().join(", ");
        let unknown =
            self.entries.keys().filter(|key| !self.taken.contains(key.get_ref().as_ref()));
        let mistakes = unknown.map(|key| Mistake {
            at: key.span(),
            what: format!("unknown key {:?}; known keys: {known}", key.get_ref()),
        });
        self.mistakes.extend(mistakes);
    }

    /// Adds the mistakes of a table inside this one.
    pub(super) fn adopt(&mut self, key: &str, inner: Table<'_>) {
        for Mistake { at, what } in inner.mistakes {
            self.note(at, format!("{key}: {what}"));
        }
    }

    /// Adds a mistake about what the table does not have.
    pub(super) fn note_missing(&mut self, what: &str) {
        self.note(self.at.clone(), what.to_owned());
    }

    /// Adds a mistake.
    pub(super) fn note(&mut self, at: Range<usize>, what: String) {
        self.mistakes.push(Mistake { at, what });
    }
}

/// Creates a mistake at the position of a value.
pub(super) fn mistake(value: &Value<'_>, what: impl Into<String>) -> Mistake {
    Mistake { at: value.span(), what: what.into() }
}

fn expected(what: &str, value: &Value<'_>) -> Mistake {
    mistake(value, format!("expected {what}, found {}", described(value.get_ref())))
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

pub(super) fn boolean(value: &Value<'_>) -> Result<bool, Mistake> {
    value.get_ref().as_bool().ok_or_else(|| expected("true or false", value))
}

/// Any text without a zero byte, which would end a string of the operating system.
pub(super) fn text<'a>(value: &'a Value<'a>) -> Result<&'a str, Mistake> {
    let text = value.get_ref().as_str().ok_or_else(|| expected("text in quotes", value))?;
    match text.contains('\0') {
        true => Err(mistake(value, "text may not contain a zero byte")),
        false => Ok(text),
    }
}

/// Text parsed as a `T`.
pub(super) fn parsed<T>(value: &Value<'_>) -> Result<T, Mistake>
where
    T: FromStr,
    T::Err: Display,
{
    let text = text(value)?;
    text.parse().map_err(|error| mistake(value, format!("{text:?}: {error}")))
}

pub(super) fn number(value: &Value<'_>, range: RangeInclusive<u64>) -> Result<u64, Mistake> {
    let integer = value.get_ref().as_integer();
    let number =
        integer.and_then(|digits| u64::from_str_radix(digits.as_str(), digits.radix()).ok());
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        expected(&format!("a whole number from {} to {}", range.start(), range.end()), value)
    })
}

/// A list with at least one element.
pub(super) fn list<'a, T>(
    value: &'a Value<'a>,
    read: impl Fn(&'a Value<'a>) -> Result<T, Mistake>,
) -> Result<Vec<T>, Mistake> {
    let elements = value.get_ref().as_array().filter(|elements| !elements.is_empty());
    let elements = elements.ok_or_else(|| expected("a list such as [\"one\", \"two\"]", value))?;
    elements.iter().map(read).collect()
}

pub(super) fn table<'a>(value: &'a Value<'a>) -> Result<&'a DeTable<'a>, Mistake> {
    value.get_ref().as_table().ok_or_else(|| expected("a table", value))
}

/// The tables of `[[key]]`, each with its position.
pub(super) fn tables<'a>(
    key: &str,
    value: &'a Value<'a>,
) -> Result<Vec<(&'a DeTable<'a>, Range<usize>)>, Mistake> {
    let elements = value.get_ref().as_array();
    let write_it = || mistake(value, format!("write [[{key}]], with double brackets"));
    let elements = elements.ok_or_else(write_it)?;
    elements.iter().map(|element| Ok((table(element)?, element.span()))).collect()
}
