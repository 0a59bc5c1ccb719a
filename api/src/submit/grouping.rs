//! The group of a job that its task finds in the payload.

use crunch_common::Pointer;
use crunch_common::job::GroupName;
use crunch_common::task::TaskDescriptor;

use super::Submission;
use super::given::Given;
use super::options::GROUP_NAME;
use crate::checks;
use crate::problem::{Problem, Violation};

impl Submission {
    /// Returns the group of the job: the one that was requested, or the one in the payload if the task declares where it is
    /// there. `base` is the JSON pointer of the payload.
    ///
    /// # Errors
    /// If what is there cannot be the name of a group.
    pub(super) async fn group(
        &self,
        task: &TaskDescriptor,
        base: &str,
    ) -> Result<Option<GroupName>, Problem> {
        match &task.group {
            Some(pointer) if self.options.group.is_none() && self.content_type.is_json() => {
                let pointer = pointer.clone();
                let found = checks::read(&self.payload, move |_, json| group_at(&pointer, json));
                found.await?.map_err(|Violation { pointer, detail }| {
                    Problem::violations(vec![Violation::new(format!("{base}{pointer}"), detail)])
                })
            }
            Some(_) | None => Ok(self.options.group.clone()),
        }
    }
}

/// Returns the group in a payload; `None` if there is nothing or null.
fn group_at(pointer: &Pointer, json: &str) -> Result<Option<GroupName>, Violation> {
    let wrong = |detail: &str| Violation::new(pointer.as_str(), detail);
    let value = pointer.find(json).map(Given::Json).filter(|value| !value.is_null());
    let Some(value) = value else { return Ok(None) };
    let text = value.scalar().ok_or_else(|| {
        wrong("its task takes the group from here: expected a string, a number or a boolean")
    })?;
    let name = text.parse().map_err(|_| {
        wrong(&format!("its task takes the group from here: expected {GROUP_NAME}"))
    })?;
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Result<Option<String>, String> {
        let group = group_at(&"/customer/id".parse().unwrap(), json);
        group.map(|group| group.map(|name| name.to_string())).map_err(|wrong| wrong.pointer)
    }

    #[test]
    fn a_group_is_the_text_of_a_string_a_number_or_a_boolean() {
        for (value, group) in [
            ("\"a/b\"", Some("a/b")),
            ("\"\\u00e4\"", Some("ä")),
            ("17", Some("17")),
            ("1.50", Some("1.50")),
            ("123456789012345678901234567890", Some("123456789012345678901234567890")),
            ("true", Some("true")),
            ("null", None),
        ] {
            let json = format!("{{\"customer\":{{\"id\":{value}}}}}");
            assert_eq!(found(&json), Ok(group.map(str::to_owned)), "{json}");
        }
        for json in ["{}", "null", "[]", "{\"customer\":null}", "{\"customer\":7}"] {
            assert_eq!(found(json), Ok(None), "{json}");
        }
    }

    #[test]
    fn anything_else_is_refused_at_its_place() {
        let long = format!("\"{}\"", "a".repeat(129));
        for value in ["{}", "[1]", "\"\"", "\"a\\nb\"", "\"\\ud800\"", &long] {
            let json = format!("{{\"customer\":{{\"id\":{value}}}}}");
            assert_eq!(found(&json), Err("/customer/id".to_owned()), "{json}");
        }
    }
}
