//! What jobs are unique by: in words, and as the fields of the form of a new job.

use std::fmt::Display;
use std::str::FromStr;

use crunch_common::job::{
    InvalidUnique, OnConflict, Unique, UniqueBy, UniqueMembers, Until, UntilWord,
};
use crunch_common::{InvalidPointer, Pointer};

use super::posted::Posted;
use super::text;
use crate::problem::{Problem, Violation};

/// The fields of the form.
pub(super) const FIELDS: [&str; 6] =
    [BY, OF, "unique.until", "unique.for_ms", "unique.on_conflict", "unique.max_wait_ms"];
/// What a job is unique by: `payload`, `key` or `fields`.
const BY: &str = "unique.by";
/// The key, or the fields, one a line.
const OF: &str = "unique.of";

/// A sentence without a subject, which is the job.
pub(super) fn words(unique: &Unique) -> String {
    let by = match unique.of() {
        UniqueBy::Key(key) => format!("the key {key}"),
        UniqueBy::Fields(fields) if is_part(fields) => joined(fields, " and "),
        UniqueBy::Payload | UniqueBy::Fields(_) => "its whole payload".to_owned(),
    };
    let until = match unique.held_until() {
        Until::Start => "until it starts".to_owned(),
        Until::End => "until it ends".to_owned(),
        Until::Time(time) => format!("for {} from its submission", text::span(time)),
    };
    let another = match unique.conflict() {
        OnConflict::Existing => "is answered with it",
        OnConflict::Reject => "is refused",
        OnConflict::Replace => "replaces it while it waits",
        OnConflict::KeepLatest => "replaces it while it waits, and follows it once it runs",
    };
    let wait = unique.longest_wait().map(|time| format!(", which is at most {}", text::span(time)));
    format!("by {by} {until}; another one {another}{}", wait.unwrap_or_default())
}

/// Whether the fields are only a part of the payload: the empty pointer is all of it.
fn is_part(fields: &[Pointer]) -> bool {
    fields.iter().any(|field| !field.as_str().is_empty())
}

fn joined(fields: &[Pointer], separator: &str) -> String {
    let fields: Vec<_> = fields.iter().map(Pointer::as_str).collect();
    fields.join(separator)
}

/// The fields of the form for a job that is unique by the same.
pub(super) fn fields(unique: &Unique) -> Vec<(&'static str, String)> {
    let (by, of) = match unique.of() {
        UniqueBy::Key(key) => ("key", key.to_string()),
        UniqueBy::Fields(fields) if is_part(fields) => ("fields", joined(fields, "\n")),
        UniqueBy::Payload | UniqueBy::Fields(_) => ("payload", String::new()),
    };
    let members = UniqueMembers::from(unique.clone());
    let optional = [
        ("unique.until", members.until.map(|it| it.to_string())),
        ("unique.for_ms", members.for_ms.map(|ms| ms.to_string())),
        ("unique.on_conflict", members.on_conflict.map(|it| it.to_string())),
        ("unique.max_wait_ms", members.max_wait_ms.map(|ms| ms.to_string())),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    [(BY, by.to_owned()), (OF, of)].into_iter().chain(optional).collect()
}

/// What a form says; `None` if the job is unique by what its task declares.
///
/// # Errors
/// With the places that the same error of a submission has.
pub(super) fn read(posted: &Posted) -> Result<Option<Unique>, Problem> {
    let Some(by) = posted.get(BY) else {
        let given = FIELDS.into_iter().any(|name| posted.get(name).is_some());
        return if given { Err(wrong("", "choose what the job is unique by")) } else { Ok(None) };
    };
    let of = posted.get(OF).unwrap_or_default().trim();
    let mut members = UniqueMembers {
        until: parsed(posted, "until", "start or end")?,
        for_ms: parsed(posted, "for_ms", "whole milliseconds")?,
        on_conflict: parsed(posted, "on_conflict", "existing, reject, replace or keep_latest")?,
        max_wait_ms: parsed(posted, "max_wait_ms", "whole milliseconds")?,
        ..UniqueMembers::default()
    };
    match by {
        "payload" if of.is_empty() => {}
        "payload" => return Err(wrong("", "the whole payload needs no key and no fields")),
        "key" => {
            members.key = Some(of.parse().map_err(|it: InvalidUnique| wrong("/key", it.reason))?);
        }
        "fields" => {
            let lines = of.lines().map(str::trim).filter(|line| !line.is_empty());
            let fields = lines.map(str::parse).collect::<Result<_, _>>();
            let place = |it: InvalidPointer| wrong("/fields", it.to_string());
            members.fields = Some(fields.map_err(place)?);
        }
        _ => return Err(wrong("", "expected payload, key or fields")),
    }
    let unique = Unique::try_from(members);
    unique.map(Some).map_err(|it| wrong(&format!("/{}", it.member), it.reason))
}

/// The value of a field that may be left empty.
fn parsed<T: FromStr>(posted: &Posted, member: &str, expected: &str) -> Result<Option<T>, Problem> {
    let given = posted.get(&format!("unique.{member}")).map(|text| text.trim().parse());
    given.transpose().map_err(|_| wrong(&format!("/{member}"), format!("expected {expected}")))
}

fn wrong(place: &str, detail: impl Display) -> Problem {
    Problem::violations(vec![Violation::new(format!("/unique{place}"), detail.to_string())])
}

/// Whether a job that is answered in place of a new one has the payload of that.
pub(super) fn replaces(unique: &Unique) -> bool {
    match unique.conflict() {
        OnConflict::Existing | OnConflict::Reject => false,
        OnConflict::Replace | OnConflict::KeepLatest => true,
    }
}

/// The choices of the form for a field, with what they mean.
pub(super) fn choices(name: &str) -> Vec<(&'static str, &'static str)> {
    match name {
        BY => vec![
            ("", "what the task says"),
            ("payload", "its whole payload"),
            ("key", "the key below"),
            ("fields", "the fields below"),
        ],
        "unique.until" => vec![
            ("", "as usual"),
            (UntilWord::Start.as_str(), "it starts"),
            (UntilWord::End.as_str(), "it ends"),
        ],
        _ => vec![
            ("", "as usual"),
            (OnConflict::Existing.as_str(), "is answered with it"),
            (OnConflict::Reject.as_str(), "is refused"),
            (OnConflict::Replace.as_str(), "replaces it"),
            (OnConflict::KeepLatest.as_str(), "replaces or follows it"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_is_a_sentence() {
        let words = |unique: &Unique| words(unique).replace('\u{202f}', " ");
        assert_eq!(
            words(&Unique::by_payload()),
            "by its whole payload until it ends; another one is answered with it"
        );
        let fields = ["/a", "/b"].map(|place| place.parse().unwrap());
        let unique = Unique::by_fields(fields).until(Until::Time(Duration::from_secs(90)));
        assert_eq!(
            words(&unique.on_conflict(OnConflict::Reject)),
            "by /a and /b for 1 min 30 s from its submission; another one is refused"
        );
        let unique = Unique::by_key("k".parse().unwrap()).on_conflict(OnConflict::Replace);
        assert_eq!(
            words(&unique.max_wait(Duration::from_secs(60))),
            "by the key k until it starts; another one replaces it while it waits, which is at most 1 min"
        );
        assert_eq!(
            words(&Unique::by_fields(["".parse().unwrap()]).on_conflict(OnConflict::KeepLatest)),
            "by its whole payload until it ends; another one replaces it while it waits, and follows it once it runs"
        );
    }

    #[test]
    fn every_word_is_a_choice() {
        let has = |name: &str, word: &str| choices(name).iter().any(|(value, _)| *value == word);
        assert!(OnConflict::ALL.iter().all(|it| has("unique.on_conflict", it.as_str())));
        assert!(UntilWord::ALL.iter().all(|it| has("unique.until", it.as_str())));
    }
}
