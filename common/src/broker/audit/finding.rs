//! The findings of an audit, and their counts.

use std::collections::{BTreeMap, HashMap};

use super::kind::FindingKind;
use super::suspect::Case;
use crate::job::Partition;

/// How many findings of a kind are named; the rest is only counted.
const NAMED: usize = 5;
/// Maximum number of cases kept for healing, at about a hundred bytes each; the next audit finds the rest.
const MAX_CASES: usize = 100_000;

/// The number of findings of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Number of findings.
    pub found: u64,
    /// How many of them are healed.
    pub healed: u64,
    /// The first few: ids, queues or keys.
    pub first: Vec<String>,
}

impl Tally {
    /// Returns how many are not healed.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.found.saturating_sub(self.healed)
    }
}

/// The result of an audit.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// Number of keys of this key space that were read.
    pub keys: u64,
    /// Number of jobs among them.
    pub jobs: u64,
    /// Number of suspects in long lists that could be neither confirmed nor cleared.
    pub undecided: u64,
    /// Whether there are more findings than one healing repairs: audit again.
    pub has_more: bool,
    /// The findings by kind.
    pub findings: BTreeMap<FindingKind, Tally>,
    pub(super) cases: Vec<Case>,
    /// How often ids had been removed from lists before the walk, by partition.
    pub(super) removals: HashMap<Partition, String>,
}

impl Audit {
    /// Whether there are no findings, or all are healed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.values().all(|tally| tally.left() == 0)
    }

    /// Returns the number of findings.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.findings.values().map(|tally| tally.found).sum()
    }

    /// Returns the number of findings that are not healed.
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

    /// Keeps a case for healing.
    pub(super) fn keep(&mut self, case: Case) {
        if self.cases.len() < MAX_CASES {
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
            let known = lua.contains(&format!("'{}'", kind.as_str()));
            assert!(known || kind == FindingKind::Unknown, "{kind:?} is never found");
        }
    }
}
