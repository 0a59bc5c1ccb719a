//! Function libraries of other versions: deletes those that no process uses anymore.
//!
//! Several versions share a Redis during a deploy, so a library is deleted only when its own function reports that no
//! process has sent a sweep or a heartbeat through it for a while. A library that does not report this is never
//! deleted.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use redis::{Pipeline, Value};

use super::error::Error;
use super::functions::{Function, LIBRARY_PREFIX};
use super::{Broker, reply};
use crate::job::Partition;

/// A library that is not of this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherLibrary {
    /// The name it is loaded under.
    pub name: String,
    /// Whether it was deleted.
    pub outcome: Pruned,
}

/// Whether a library was deleted, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pruned {
    /// It was deleted: unused for this long.
    Deleted(Duration),
    /// It is kept: used this long ago, or, if Redis knows of no use, first queried this long ago.
    Kept(Duration),
    /// It is kept: its version does not report when it was used.
    Unknown,
}

impl Pruned {
    /// The outcome at two nodes: deleted only if at both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Kept(one), Self::Kept(other)) => Self::Kept(one.min(other)),
            (Self::Kept(one), Self::Deleted(_)) | (Self::Deleted(_), Self::Kept(one)) => {
                Self::Kept(one)
            }
            (Self::Deleted(one), Self::Deleted(other)) => Self::Deleted(one.min(other)),
        }
    }
}

impl Broker {
    /// Deletes the libraries of other versions that no process has used for `unused_for`. The time of use is in the
    /// memory of Redis: after a start or a failover it is counted from the first call of this method.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable, [`Error::Refused`] if the user may not list or delete functions.
    pub async fn prune_functions(&self, unused_for: Duration) -> Result<Vec<OtherLibrary>, Error> {
        let mut others = BTreeMap::new();
        for node in self.partition_of_each_node().await? {
            for (name, reports_use) in self.other_libraries(node).await? {
                let outcome = match reports_use {
                    true => self.prune(node, &name, unused_for).await?,
                    false => Pruned::Unknown,
                };
                let all = others.entry(name).or_insert(outcome);
                *all = all.and(outcome);
            }
        }
        Ok(others.into_iter().map(|(name, outcome)| OtherLibrary { name, outcome }).collect())
    }

    async fn prune(
        &self,
        node: Partition,
        library: &str,
        unused_for: Duration,
    ) -> Result<Pruned, Error> {
        let mut query = redis::pipe();
        query.cmd("FCALL").arg(used_function(library)).arg(0);
        let age = Duration::from_millis(reply::unsigned(&self.query(node, &query).await?)?);
        if age < unused_for {
            return Ok(Pruned::Kept(age));
        }
        let mut delete = redis::pipe();
        delete.cmd("FUNCTION").arg("DELETE").arg(library);
        self.query(node, &delete).await?;
        Ok(Pruned::Deleted(age))
    }

    /// Returns the libraries of other versions, sorted by name, and whether they report when they were used.
    async fn other_libraries(&self, node: Partition) -> Result<Vec<(String, bool)>, Error> {
        let mut list = redis::pipe();
        list.cmd("FUNCTION").arg("LIST").arg("LIBRARYNAME").arg(format!("{LIBRARY_PREFIX}*"));
        let libraries = reply::array(self.query(node, &list).await?)?.into_iter().map(read_library);
        let mut others = libraries.collect::<Result<Vec<_>, _>>()?;
        others.retain(|(name, _)| is_crunch_library(name) && name != self.settings.library.name());
        others.sort_unstable();
        Ok(others)
    }

    async fn query(&self, node: Partition, command: &Pipeline) -> Result<Value, Error> {
        self.link
            .read(node, command)
            .await?
            .pop()
            .ok_or_else(|| Error::unreadable("no reply to a command"))
    }
}

fn used_function(library: &str) -> String {
    format!("{library}_{}", Function::Used.as_str())
}

/// Whether a library has a name that versions of Crunch use: another application's may have the same prefix.
fn is_crunch_library(name: &str) -> bool {
    name.strip_prefix(LIBRARY_PREFIX).is_some_and(|hash| {
        hash.len() == 8 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Parses an entry of `FUNCTION LIST`: the name, and whether one of its functions reports its use.
fn read_library(value: Value) -> Result<(String, bool), Error> {
    let unreadable = || Error::unreadable("FUNCTION LIST did not return a list of libraries");
    let mut library: HashMap<String, Value> =
        redis::from_redis_value(value).map_err(|_| unreadable())?;
    let name = reply::text(library.remove("library_name").ok_or_else(unreadable)?)?;
    let functions = library.remove("functions").ok_or_else(unreadable)?;
    let functions: Vec<HashMap<String, Value>> =
        redis::from_redis_value(functions).map_err(|_| unreadable())?;
    let wanted = Value::BulkString(used_function(&name).into_bytes());
    let reports_use = functions.iter().any(|function| function.get("name") == Some(&wanted));
    Ok((name, reports_use))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_versions_of_crunch_give_are_ours() {
        assert!(is_crunch_library("crunch_00ff9a1b"));
        for other in
            ["crunch_", "crunch_00ff9a1", "crunch_00ff9a1bc", "crunch_00FF9A1B", "crunch_tools1"]
        {
            assert!(!is_crunch_library(other), "{other}");
        }
    }
}
