//! The id of a worker. It contains the end of the host's name, so that an id in the record of an attempt or in a log
//! names the machine, even long after the worker ended: that costs Redis nothing.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Id of a worker: a new UUID (version 8) at every start, whose first 60 bits are random, so that two processes never share
/// an id; the others are the end of the host's name, as a label.
///
/// ```
/// use crunch_common::broker::WorkerId;
///
/// let id = WorkerId::on_host("Worker-17.eu.example.com");
/// assert_eq!(id.host().as_deref(), Some("worker-17"));
/// // Of the name of a pod the end is what differs.
/// assert_eq!(WorkerId::on_host("crunch-6d4cf56db6-x2k4p").host().as_deref(), Some("56db6-x2k4p"));
/// assert!("b8b0f2aa-7c1e-4bbb-8d4c-3f1a2b3c4d5e".parse::<WorkerId>().unwrap().host().is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Uuid);

/// What a host's name is written with: digits in the base of one more than their number.
const LETTERS: &[u8; 37] = b"abcdefghijklmnopqrstuvwxyz0123456789-";
const BASE: u64 = LETTERS.len() as u64 + 1;
/// As many fit into 62 bits, those of a UUID behind its variant.
const MAX_LETTERS: usize = 11;

impl WorkerId {
    /// Generates a new id for a worker on this host.
    #[must_use]
    pub fn generate() -> Self {
        Self::on_host(&host_name())
    }

    /// Generates a new id for a worker on a host of that name.
    #[must_use]
    pub fn on_host(name: &str) -> Self {
        let mut bytes = Uuid::new_v4().into_bytes();
        bytes[8..].copy_from_slice(&number_of(name).to_be_bytes());
        Self(Uuid::new_v8(bytes))
    }

    /// Returns the end of the first part of the host's name, eleven characters at most; `None` if the id has no host.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        let has_host = self.0.get_version_num() == 8;
        let (_, mut number) = self.0.as_u64_pair();
        number &= u64::MAX >> 2;
        let mut letters = Vec::new();
        while has_host && number > 0 {
            let letter = (number % BASE).checked_sub(1)?;
            letters.push(char::from(*LETTERS.get(usize::try_from(letter).ok()?)?));
            number /= BASE;
        }
        (!letters.is_empty()).then(|| letters.into_iter().rev().collect())
    }
}

pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Writes the end of a host's name as a number.
fn number_of(host: &str) -> u64 {
    let first = host.split('.').next().unwrap_or_default().as_bytes();
    let end = &first[first.len().saturating_sub(MAX_LETTERS)..];
    end.iter().fold(0, |number, byte| {
        let letter = LETTERS.iter().position(|letter| *letter == byte.to_ascii_lowercase());
        number * BASE + letter.unwrap_or(LETTERS.len() - 1) as u64 + 1
    })
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for WorkerId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_and_keeps_the_host_on_its_way_through_text() {
        for (name, host) in [
            ("a", Some("a")),
            ("---------------", Some("-----------")),
            ("4f1c2b3a9d0e", Some("f1c2b3a9d0e")),
            ("zürich_1", Some("z--rich-1")),
            ("", None),
            (".local", None),
        ] {
            let (id, other) = (WorkerId::on_host(name), WorkerId::on_host(name));
            assert_ne!(id, other);
            let read: WorkerId = id.to_string().parse().unwrap();
            assert_eq!((read, read.host().as_deref()), (id, host), "{name}");
        }
        assert!(WorkerId::generate().host().is_some());
        let nothing = "00000000-0000-8000-bfff-ffffffffffff".parse::<WorkerId>().unwrap();
        assert!(nothing.host().is_none_or(|host| host.len() <= MAX_LETTERS + 1));
    }
}
