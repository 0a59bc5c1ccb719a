//! What a job is unique by: while one holds its lock, another one with the same lock is not simply added.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::limits::MAX_DURATION;
use crate::pointer::Pointer;
use crate::time::whole_ms;

/// What a job is unique by, until when, and what happens to another one meanwhile. Only jobs of the same task, queue and
/// group have the same lock.
///
/// ```
/// use crunch_common::job::{OnConflict, Unique};
///
/// let unique = Unique::by_fields(["/customer".parse().unwrap()]).on_conflict(OnConflict::Reject);
/// let json = serde_json::to_string(&unique).unwrap();
/// assert_eq!(json, r#"{"fields":["/customer"],"until":"end","on_conflict":"reject"}"#);
/// assert_eq!(serde_json::from_str::<Unique>(&json).unwrap(), unique);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UniqueMembers", into = "UniqueMembers")]
pub struct Unique {
    by: UniqueBy,
    until: Until,
    on_conflict: OnConflict,
    max_wait: Option<Duration>,
}

/// What two jobs must have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UniqueBy {
    /// The whole payload.
    Payload,
    /// What is at these places of the payload.
    Fields(Vec<Pointer>),
    /// A key that the client chooses.
    Key(UniqueKey),
}

/// Until when a job holds its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until a worker claims it for the first time.
    Start,
    /// Until it ends.
    End,
    /// For this time from its submission, whatever becomes of it.
    Time(Duration),
}

crate::word_enum! {
    /// What happens to a job whose lock another one holds.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum OnConflict {
        /// It is not added: the client gets the one that holds the lock.
        #[default]
        Existing = "existing",
        /// It is refused.
        Reject = "reject",
        /// The one that waits gets its payload and options.
        Replace = "replace",
        /// As `replace`; if that one runs, the new job waits until it has ended, and the latest of these is the one that then
        /// runs.
        KeepLatest = "keep_latest",
    }
}

impl Unique {
    /// How many places of the payload may be named.
    pub const MAX_FIELDS: usize = 16;

    const fn by(by: UniqueBy) -> Self {
        Self { by, until: Until::End, on_conflict: OnConflict::Existing, max_wait: None }
    }

    /// Unique by the whole payload, until the job ends.
    #[must_use]
    pub const fn by_payload() -> Self {
        Self::by(UniqueBy::Payload)
    }

    /// Unique by what is at these places of the payload, until the job ends.
    ///
    /// # Panics
    /// If they are none or more than [`Self::MAX_FIELDS`].
    #[must_use]
    pub fn by_fields(fields: impl IntoIterator<Item = Pointer>) -> Self {
        let fields: Vec<_> = fields.into_iter().collect();
        assert!((1..=Self::MAX_FIELDS).contains(&fields.len()), "expected 1 to 16 fields");
        Self::by(UniqueBy::Fields(fields))
    }

    /// Unique by a key, until the job ends.
    #[must_use]
    pub const fn by_key(key: UniqueKey) -> Self {
        Self::by(UniqueBy::Key(key))
    }

    /// Holds the lock until then. `Until::Time` and `OnConflict::Replace` or `KeepLatest` exclude each other, as do
    /// `KeepLatest` and `Until::Start`: the last call decides, as if the other one had not been made.
    #[must_use]
    pub fn until(mut self, until: Until) -> Self {
        self.until = until;
        if !self.on_conflict.fits(until) {
            self.on_conflict = OnConflict::Existing;
        }
        self
    }

    /// Sets what happens to another job meanwhile. `Replace` holds the lock until the job starts, `KeepLatest` until it ends.
    #[must_use]
    pub fn on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        if !on_conflict.fits(self.until) {
            self.until = on_conflict.usual();
        }
        self
    }

    /// With [`OnConflict::Replace`]: how long a delayed job may wait since its submission, however often it is replaced.
    #[must_use]
    pub fn max_wait(mut self, time: Duration) -> Self {
        self.max_wait = Some(time.clamp(Duration::from_millis(1), MAX_DURATION));
        self
    }

    /// What two jobs must have in common.
    #[must_use]
    pub const fn of(&self) -> &UniqueBy {
        &self.by
    }

    /// Until when a job holds its lock.
    #[must_use]
    pub const fn held_until(&self) -> Until {
        self.until
    }

    /// What happens to another job meanwhile.
    #[must_use]
    pub const fn conflict(&self) -> OnConflict {
        self.on_conflict
    }

    /// How long a delayed job may wait since its submission.
    #[must_use]
    pub fn longest_wait(&self) -> Option<Duration> {
        self.max_wait.filter(|_| self.on_conflict == OnConflict::Replace)
    }

    /// Checks it together with whether the job is delayed.
    ///
    /// # Errors
    /// With the member that is wrong: a delay could be renewed for ever, or a follower cannot be delayed.
    pub fn check_delay(&self, is_delayed: bool) -> Result<(), InvalidUnique> {
        match self.on_conflict {
            OnConflict::Replace if is_delayed && self.max_wait.is_none() => Err(InvalidUnique::at(
                "max_wait_ms",
                "is needed with a delay: without it a job that is replaced again and again would never start",
            )),
            OnConflict::KeepLatest if is_delayed => {
                Err(InvalidUnique::at("on_conflict", "keep_latest cannot have a delay"))
            }
            _ => Ok(()),
        }
    }
}

impl OnConflict {
    /// Until when the lock is held unless it says otherwise.
    const fn usual(self) -> Until {
        match self {
            Self::Replace => Until::Start,
            Self::Existing | Self::Reject | Self::KeepLatest => Until::End,
        }
    }

    fn fits(self, until: Until) -> bool {
        match self {
            Self::Existing | Self::Reject => true,
            Self::Replace => until == Until::Start,
            Self::KeepLatest => until == Until::End,
        }
    }
}

/// A key chosen by a client: 1 to 255 bytes of text without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UniqueKey(Box<str>);

impl UniqueKey {
    /// Maximum length in bytes. It is stored with the job.
    pub const MAX_BYTES: usize = 255;

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UniqueKey {
    type Err = InvalidUnique;

    fn from_str(text: &str) -> Result<Self, InvalidUnique> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        if fits && !text.chars().any(char::is_control) {
            return Ok(Self(text.into()));
        }
        Err(InvalidUnique::at("key", "expected 1 to 255 bytes of text without control characters"))
    }
}

impl fmt::Display for UniqueKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UniqueKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why members make no [`Unique`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{member}: {reason}")]
pub struct InvalidUnique {
    /// The member that is wrong.
    pub member: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl InvalidUnique {
    fn at(member: &'static str, reason: impl Into<String>) -> Self {
        Self { member, reason: reason.into() }
    }
}

/// The members of [`Unique`], as they are written: in submissions, in declarations of tasks, and with a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueMembers {
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<UniqueKey>,
    /// The places of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Vec<Pointer>>,
    /// Until when the lock is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UntilWord>,
    /// For how long instead, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
    /// What happens meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_conflict: Option<OnConflict>,
    /// The longest wait of a job that is replaced, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait_ms: Option<u64>,
}

crate::word_enum! {
    /// The events that free a lock.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum UntilWord {
        /// A worker claims the job for the first time.
        Start = "start",
        /// The job ends.
        End = "end",
    }
}

impl From<Unique> for UniqueMembers {
    fn from(unique: Unique) -> Self {
        let max_wait_ms = unique.longest_wait().map(whole_ms);
        let (key, fields) = match unique.by {
            UniqueBy::Payload => (None, None),
            UniqueBy::Fields(fields) => (None, Some(fields)),
            UniqueBy::Key(key) => (Some(key), None),
        };
        let (until, for_ms) = match unique.until {
            Until::Start => (Some(UntilWord::Start), None),
            Until::End => (Some(UntilWord::End), None),
            Until::Time(time) => (None, Some(whole_ms(time))),
        };
        let on_conflict = Some(unique.on_conflict);
        Self { key, fields, until, for_ms, on_conflict, max_wait_ms }
    }
}

impl TryFrom<UniqueMembers> for Unique {
    type Error = InvalidUnique;

    fn try_from(members: UniqueMembers) -> Result<Self, InvalidUnique> {
        let by = match (members.key, members.fields) {
            (Some(_), Some(_)) => {
                return Err(InvalidUnique::at(
                    "fields",
                    "excludes key: one of them says what is unique",
                ));
            }
            (Some(key), None) => UniqueBy::Key(key),
            (None, Some(fields)) if (1..=Self::MAX_FIELDS).contains(&fields.len()) => {
                UniqueBy::Fields(fields)
            }
            (None, Some(_)) => {
                return Err(InvalidUnique::at("fields", "expected 1 to 16 JSON Pointers"));
            }
            (None, None) => UniqueBy::Payload,
        };
        let on_conflict = members.on_conflict.unwrap_or_default();
        let until = match (members.until, members.for_ms) {
            (Some(_), Some(_)) => {
                return Err(InvalidUnique::at(
                    "for_ms",
                    "excludes until: one of them says when the lock is free",
                ));
            }
            (Some(UntilWord::Start), None) => Until::Start,
            (Some(UntilWord::End), None) => Until::End,
            (None, Some(ms)) => Until::Time(time("for_ms", ms)?),
            (None, None) => on_conflict.usual(),
        };
        if !on_conflict.fits(until) {
            let (member, needs) = match (until, on_conflict) {
                (Until::Time(_), _) => ("for_ms", "cannot be given with"),
                (_, OnConflict::Replace) => ("until", "must be start with"),
                _ => ("until", "must be end with"),
            };
            return Err(InvalidUnique::at(member, format!("{needs} on_conflict {on_conflict}")));
        }
        if members.max_wait_ms.is_some() && on_conflict != OnConflict::Replace {
            return Err(InvalidUnique::at("max_wait_ms", "is only for on_conflict replace"));
        }
        let max_wait = members.max_wait_ms.map(|ms| time("max_wait_ms", ms)).transpose()?;
        Ok(Self { by, until, on_conflict, max_wait })
    }
}

fn time(member: &'static str, ms: u64) -> Result<Duration, InvalidUnique> {
    let max = whole_ms(MAX_DURATION);
    if (1..=max).contains(&ms) {
        return Ok(Duration::from_millis(ms));
    }
    Err(InvalidUnique::at(member, format!("expected whole milliseconds from 1 to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Unique, String> {
        let members: UniqueMembers = serde_json::from_str(json).unwrap();
        members.try_into().map_err(|error: InvalidUnique| error.member.to_owned())
    }

    #[test]
    fn what_is_left_out_has_a_default_that_fits() {
        assert_eq!(read("{}"), Ok(Unique::by_payload()));
        let held = |json| read(json).unwrap().held_until();
        assert_eq!(held(r#"{"on_conflict":"reject"}"#), Until::End);
        assert_eq!(held(r#"{"on_conflict":"replace"}"#), Until::Start);
        assert_eq!(held(r#"{"on_conflict":"keep_latest"}"#), Until::End);
        assert_eq!(held(r#"{"for_ms":5}"#), Until::Time(Duration::from_millis(5)));
    }

    #[test]
    fn what_excludes_each_other_is_refused_at_its_member() {
        for (json, member) in [
            (r#"{"key":"a","fields":["/a"]}"#, "fields"),
            (r#"{"fields":[]}"#, "fields"),
            (r#"{"until":"end","for_ms":1}"#, "for_ms"),
            (r#"{"for_ms":0}"#, "for_ms"),
            (r#"{"for_ms":1,"on_conflict":"replace"}"#, "for_ms"),
            (r#"{"until":"end","on_conflict":"replace"}"#, "until"),
            (r#"{"until":"start","on_conflict":"keep_latest"}"#, "until"),
            (r#"{"max_wait_ms":1}"#, "max_wait_ms"),
            (r#"{"max_wait_ms":0,"on_conflict":"replace"}"#, "max_wait_ms"),
        ] {
            assert_eq!(read(json), Err(member.to_owned()), "{json}");
        }
        let seventeen = format!(r#"{{"fields":[{}]}}"#, vec!["\"/a\""; 17].join(","));
        assert_eq!(read(&seventeen), Err("fields".to_owned()));
    }

    #[test]
    fn the_last_call_of_a_builder_decides() {
        let replace = Unique::by_payload().on_conflict(OnConflict::Replace);
        assert_eq!(replace.held_until(), Until::Start);
        assert_eq!(replace.until(Until::End).conflict(), OnConflict::Existing);
    }

    #[test]
    fn a_delay_that_may_be_renewed_needs_an_end() {
        let replace = Unique::by_payload().on_conflict(OnConflict::Replace);
        assert_eq!(replace.check_delay(true).unwrap_err().member, "max_wait_ms");
        assert_eq!(replace.check_delay(false), Ok(()));
        assert_eq!(replace.max_wait(Duration::from_secs(9)).check_delay(true), Ok(()));
        let latest = Unique::by_payload().on_conflict(OnConflict::KeepLatest);
        assert_eq!(latest.check_delay(true).unwrap_err().member, "on_conflict");
    }
}
