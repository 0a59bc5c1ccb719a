//! A form as HTML, by the templates in `templates/dashboard/form`.

use std::collections::BTreeMap;

use askama::Template;
use crunch_common::time::Timestamp;

use super::Form;
use super::decode::with_offset;
use super::entries::CHECKED;
use super::field::{Bounds, Choice, Field, Kind};
use super::json::Json;

/// A text of more characters than this gets several lines.
const LONG_TEXT: usize = 200;
/// Lines of a text field: few for what is empty, and never more than a screen.
const MIN_LINES: usize = 3;
const MAX_LINES: usize = 20;
/// An integer of at most this many digits is exact in the browser's own field for numbers, and so is its range.
const MAX_DIGITS: usize = 15;

/// Returns the fields of a form.
pub(super) fn html(form: &Form) -> askama::Result<String> {
    let problems = placed(form);
    let root = View { form, problems: &problems, field: &form.root };
    Page { root: &root }.render()
}

/// What is wrong, by the number of the field at which it is shown.
type Problems = BTreeMap<usize, Vec<String>>;

/// The whole form: a list of what is wrong, then the fields.
#[derive(Template)]
#[template(path = "dashboard/form.html")]
struct Page<'a> {
    root: &'a View<'a>,
}

/// A field, or a group of them.
#[derive(Template)]
#[template(path = "dashboard/form/field.html")]
struct View<'a> {
    form: &'a Form,
    problems: &'a Problems,
    field: &'a Field,
}

/// Which element a field is.
enum Shape<'a> {
    Group,
    Alternatives,
    Fixed(&'a Json),
    /// A single value to enter.
    Entry,
}

/// An option of a list to choose from.
struct Item {
    value: String,
    label: String,
    selected: bool,
}

/// A field with something wrong in it, for the list at the top.
struct Wrong<'a> {
    id: String,
    title: &'a str,
    detail: &'a str,
}

impl<'a> View<'a> {
    fn of(&self, field: &'a Field) -> Self {
        View { form: self.form, problems: self.problems, field }
    }

    fn id(&self) -> String {
        format!("payload-{}", self.field.number)
    }

    fn shape(&self) -> Shape<'a> {
        match &self.field.kind {
            _ if self.is_json() => Shape::Entry,
            Kind::Object(_) => Shape::Group,
            Kind::Alternatives(_) => Shape::Alternatives,
            Kind::Fixed(value) => Shape::Fixed(value),
            _ => Shape::Entry,
        }
    }

    fn is_root(&self) -> bool {
        self.field.number == 0
    }

    /// Whether the field is a choice of its own to leave empty or not: the payload and an alternative are not.
    fn shows_required(&self) -> bool {
        self.field.required && !self.is_root() && !self.field.path.is_alternative()
    }

    fn children(&self) -> Vec<Self> {
        self.field.children().map(|field| self.of(field)).collect()
    }

    /// Whether the value is JSON text: there is nothing better, or the value does not fit into the fields.
    fn is_json(&self) -> bool {
        matches!(self.field.kind, Kind::Json) || self.replaces_fields()
    }

    fn replaces_fields(&self) -> bool {
        !matches!(self.field.kind, Kind::Json)
            && !self.entry(&self.field.path.json_name()).is_empty()
    }

    fn entry(&self, name: &str) -> &'a str {
        self.form.entries.get(name)
    }

    fn name(&self) -> String {
        if self.is_json() { self.field.path.json_name() } else { self.field.path.value_name() }
    }

    fn text(&self) -> &'a str {
        self.entry(&self.name())
    }

    fn has_several_lines(&self) -> bool {
        let text = self.text();
        let is_long = text.contains('\n') || text.chars().nth(LONG_TEXT).is_some();
        is_long || matches!(self.field.kind, Kind::List(_) | Kind::Text { long: true })
    }

    fn lines(&self) -> usize {
        self.text().lines().count().saturating_add(1).clamp(MIN_LINES, MAX_LINES)
    }

    fn is_null(&self) -> bool {
        self.entry(&self.field.path.null_name()) == CHECKED
    }

    /// Whether the field is a single box: there must be a value, so that an empty box is false.
    fn is_box(&self) -> bool {
        matches!(self.field.kind, Kind::Boolean) && self.field.required && !self.is_json()
    }

    fn is_checked(&self) -> bool {
        self.text() == CHECKED
    }

    /// The values to choose from; `None` if the field is no choice.
    fn items(&self) -> Option<Vec<Item>> {
        let text = self.text();
        let item = |value: String, label: &str| Item {
            selected: value == text,
            label: label.to_owned(),
            value,
        };
        let choice = |choice: &Choice| item(choice.value.to_string(), &choice.label);
        let values: Vec<Item> = match &self.field.kind {
            Kind::Boolean => vec![item("true".into(), "true"), item("false".into(), "false")],
            Kind::Select(choices) => choices.iter().map(choice).collect(),
            _ => return None,
        };
        let none = if self.field.required { "choose\u{2026}" } else { "left out" };
        Some([item(String::new(), none)].into_iter().chain(values).collect())
    }

    /// The bounds of a number that the browser's own field for numbers keeps as it is.
    fn plain_number(&self) -> Option<&'a Bounds> {
        let Kind::Number(bounds) = &self.field.kind else { return None };
        let is_plain = |char: char| char.is_ascii_digit() || "-.".contains(char);
        let text = self.text();
        (text.len() <= MAX_DIGITS && text.chars().all(is_plain)).then_some(bounds)
    }

    /// Whether the browser's own field for times shows the value: it clears others.
    fn is_plain_time(&self) -> bool {
        let text = self.text();
        let is_known = || {
            let whole = with_offset(text);
            whole != text && whole.parse::<Timestamp>().is_ok()
        };
        matches!(self.field.kind, Kind::Time) && (text.is_empty() || is_known())
    }

    /// The browser does not submit the form while this field is empty. A text may be empty.
    fn is_demanded(&self) -> bool {
        let by_text = matches!(self.field.kind, Kind::Text { .. } | Kind::List(_));
        self.field.certain && (!by_text || self.is_json())
    }

    /// What else there is to know, in one line.
    fn hint(&self) -> String {
        let field = self.field;
        let mut hints = field.hints.clone();
        if self.replaces_fields() {
            hints.push("as JSON, because the value does not fit into fields".to_owned());
        } else {
            match &field.kind {
                Kind::Json => hints.push("JSON".to_owned()),
                Kind::List(_) => hints.push("one value on each line".to_owned()),
                Kind::Time => hints.push("in UTC".to_owned()),
                Kind::Object(_) if !field.required => {
                    hints.push("left out if all of its fields are empty".to_owned());
                }
                _ => {}
            }
        }
        if let Some(default) = field.default.as_ref().filter(|_| !field.required) {
            hints.push(format!("default {default}"));
        }
        hints.join("; ")
    }

    fn errors(&self) -> &'a [String] {
        self.problems.get(&self.field.number).map_or(&[], Vec::as_slice)
    }

    /// Whether anything describes the field.
    fn described_by(&self) -> String {
        let (id, mut ids) = (self.id(), Vec::new());
        if !self.field.description.is_empty() {
            ids.push(format!("{id}-description"));
        }
        if !self.hint().is_empty() {
            ids.push(format!("{id}-hint"));
        }
        if !self.errors().is_empty() {
            ids.push(format!("{id}-errors"));
        }
        ids.join(" ")
    }

    fn is_chosen(&self, number: &usize) -> bool {
        self.entry(&self.field.path.choice_name()) == number.to_string()
    }

    fn is_unchosen(&self) -> bool {
        self.entry(&self.field.path.choice_name()).is_empty()
    }

    /// Everything that is wrong, in the order of the fields.
    fn wrong(&self) -> Vec<Wrong<'a>> {
        let mut found = Vec::new();
        self.add_wrong(self.field, &mut found);
        found
    }

    fn add_wrong(&self, field: &'a Field, found: &mut Vec<Wrong<'a>>) {
        let here = self.problems.get(&field.number).into_iter().flatten();
        let id = format!("payload-{}", field.number);
        found.extend(here.map(|detail| Wrong { id: id.clone(), title: &field.title, detail }));
        field.children().for_each(|child| self.add_wrong(child, found));
    }
}

/// Places each violation at the innermost field that is shown and contains its pointer.
fn placed(form: &Form) -> Problems {
    let mut problems = Problems::new();
    for violation in &form.violations {
        let field = innermost(form, &form.root, &violation.pointer);
        let rest = violation.pointer.strip_prefix(&field.path.pointer).unwrap_or_default();
        let colon = if rest.is_empty() { "" } else { ": " };
        let text = format!("{rest}{colon}{}", violation.detail);
        problems.entry(field.number).or_default().push(text);
    }
    problems
}

fn innermost<'a>(form: &Form, field: &'a Field, pointer: &str) -> &'a Field {
    let contains = |field: &&Field| {
        let rest = pointer.strip_prefix(&field.path.pointer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let chosen = form.entries.get(&field.path.choice_name());
    let inner = match &field.kind {
        _ if !form.entries.get(&field.path.json_name()).is_empty() => None,
        Kind::Object(members) => members.iter().map(|it| &it.field).find(contains),
        Kind::Alternatives(fields) => chosen.parse::<usize>().ok().and_then(|at| fields.get(at)),
        _ => None,
    };
    inner.map_or(field, |inner| innermost(form, inner, pointer))
}
