//! What an audit can find, and the account it gives.

use std::collections::{BTreeMap, HashMap};

use super::kind::FindingKind;
use super::suspect::Case;
use crate::job::Partition;

/// How many of a kind are named; the rest is counted.
const NAMED: usize = 5;
/// How many cases are kept for healing, at about a hundred bytes each; the rest is for the next audit.
const CASES: usize = 100_000;

/// How much of one kind was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// How often.
    pub found: u64,
    /// How many of those are put right.
    pub healed: u64,
    /// The first few, by id, queue or key.
    pub first: Vec<String>,
}

impl Tally {
    /// How many are still wrong.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.found.saturating_sub(self.healed)
    }
}

/// What an audit has found.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// Keys of ours that were looked at.
    pub keys: u64,
    /// Jobs among them.
    pub jobs: u64,
    /// Suspicions about long lists that could be neither confirmed nor dropped.
    pub undecided: u64,
    /// Whether more is wrong than one healing puts right: audit again.
    pub has_more: bool,
    /// Every kind that was found.
    pub findings: BTreeMap<FindingKind, Tally>,
    pub(super) cases: Vec<Case>,
    /// How often ids had been taken out of lists before the walk, by partition.
    pub(super) removals: HashMap<Partition, String>,
}

impl Audit {
    /// Whether nothing is wrong, or nothing any more.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.values().all(|tally| tally.left() == 0)
    }

    /// How much was found.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.findings.values().map(|tally| tally.found).sum()
    }

    /// How much of it is still wrong.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.findings.values().map(Tally::left).sum()
    }

    pub(super) fn count(&mut self, kind: FindingKind, subject: impl FnOnce() -> String) {
        let tally = self.findings.entry(kind).or_default();
        tally.found += 1;
        if tally.first.len() < NAMED {
            tally.first.push(subject());
        }
    }

    /// Remembers a case for healing.
    pub(super) fn keep(&mut self, case: Case) {
        if self.cases.len() < CASES {
            self.cases.push(case);
        } else {
            self.has_more = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_lua_finds_has_a_name_here() {
        let lua = include_str!("../lua/examine.lua");
        for kind in FindingKind::ALL {
            assert_eq!(FindingKind::named(kind.as_str()), Some(kind));
            let known = lua.contains(&format!("'{}'", kind.as_str()));
            assert!(known || kind == FindingKind::Unknown, "{kind:?} is never found");
        }
    }
}
