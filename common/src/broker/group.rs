//! Groups of jobs: which jobs of a queue take turns. `lua/groups.lua` writes them.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::job::GroupName;

/// A group as keys name it: the first 64 bits of the hash of its name.
///
/// Two groups of a queue with the same hash would share their turns and nothing else; of a million groups no two have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u64);

/// Not the id of a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 16 hexadecimal digits")]
pub struct InvalidGroupId;

impl GroupId {
    /// Returns the id of the group with this name.
    #[must_use]
    pub fn of(name: &GroupName) -> Self {
        let digest = Sha256::digest(name.as_str());
        Self(digest[..8].iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for GroupId {
    type Err = InvalidGroupId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidGroupId)?;
        // One spelling each: no sign, no capitals.
        if id.to_string() == text { Ok(id) } else { Err(InvalidGroupId) }
    }
}
