//! The rights of a key: its scopes, and the queues whose jobs it may use.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crunch_common::config::comma_separated;
use crunch_common::queue::QueueName;
use serde::{Deserialize, Serialize};

crunch_common::word_enum! {
    /// One right of a key.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Scope {
        /// Submit jobs.
        Submit = "submit",
        /// Read jobs, results, tasks, queues and workers.
        Read = "read",
        /// Cancel jobs.
        Cancel = "cancel",
        /// Everything, including the operations of operators: retry, delete, pause, resume, redrive, rules of groups.
        Admin = "admin",
    }
}

/// The scopes of a key; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Whether the scopes include `scope`; `admin` includes all.
    pub(crate) fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope) || self.0.contains(&Scope::Admin)
    }
}

impl TryFrom<Vec<Scope>> for Scopes {
    type Error = &'static str;

    fn try_from(scopes: Vec<Scope>) -> Result<Self, Self::Error> {
        match scopes.is_empty() {
            true => Err("a key needs at least one scope"),
            false => Ok(Self(scopes.into_iter().collect())),
        }
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.0.into_iter().collect()
    }
}

impl FromStr for Scopes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scopes =
            comma_separated(text).map_err(|error| format!("{error}, separated by commas"))?;
        Self::try_from(scopes).map_err(str::to_owned)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

/// The only queues whose jobs a key may use; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<QueueName>", into = "Vec<QueueName>")]
pub struct Queues(BTreeSet<QueueName>);

impl Queues {
    pub(crate) const fn names(&self) -> &BTreeSet<QueueName> {
        &self.0
    }
}

impl TryFrom<Vec<QueueName>> for Queues {
    type Error = &'static str;

    fn try_from(names: Vec<QueueName>) -> Result<Self, Self::Error> {
        match names.is_empty() {
            true => Err("a key needs at least one queue; leave queues out to allow all of them"),
            false => Ok(Self(names.into_iter().collect())),
        }
    }
}

impl From<Queues> for Vec<QueueName> {
    fn from(queues: Queues) -> Self {
        queues.0.into_iter().collect()
    }
}

impl FromStr for Queues {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = comma_separated(text)
            .map_err(|error| format!("expected queue names, separated by commas: {error}"))?;
        Self::try_from(names).map_err(str::to_owned)
    }
}

impl fmt::Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(QueueName::as_str).collect();
        f.write_str(&names.join(","))
    }
}
