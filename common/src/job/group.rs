//! The group of a job: jobs of a queue with the same group share its turns.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// Name of a group, such as a customer's: 1 to 128 bytes of text without control characters. It means something only
/// within a queue.
///
/// ```
/// use crunch_common::job::GroupName;
///
/// assert_eq!("tenant-7".parse::<GroupName>().unwrap().as_str(), "tenant-7");
/// assert!("".parse::<GroupName>().is_err());
/// assert!("a\nb".parse::<GroupName>().is_err());
/// assert!("a".repeat(129).parse::<GroupName>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct GroupName(Box<str>);

/// Not the name of a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 1 to 128 bytes of text without control characters")]
pub struct InvalidGroupName;

impl GroupName {
    /// Maximum length in bytes: an id, an address, a path. It is stored with every job of the group.
    pub const MAX_BYTES: usize = 128;

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupName {
    type Err = InvalidGroupName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidGroupName)
        }
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for GroupName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
