//! The servers that together are Redis, and what a process keeps for each of them.

use std::sync::Arc;

use redis::ConnectionAddr;

/// One of the servers that together are Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// There is one.
    Only,
    /// This node of a cluster.
    At(Arc<ConnectionAddr>),
}

/// Something for each node, of which there are few; `None` for what has no known node.
#[derive(Debug)]
pub struct ByNode<T>(Vec<(Option<Node>, T)>);

impl<T> Default for ByNode<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByNode<T> {
    /// Returns what is kept for a node, or makes it.
    pub fn get_or_make(&mut self, node: Option<Node>, make: impl FnOnce() -> T) -> &mut T {
        let at = self.0.iter().position(|(other, _)| *other == node).unwrap_or_else(|| {
            self.0.push((node, make()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Returns what is kept for a node.
    pub(crate) fn get(&self, node: Option<&Node>) -> Option<&T> {
        self.0.iter().find(|(other, _)| other.as_ref() == node).map(|(_, kept)| kept)
    }

    /// Keeps this for a node, instead of what was kept.
    pub(crate) fn put(&mut self, node: Node, kept: T) {
        self.remove(&node);
        self.0.push((Some(node), kept));
    }

    pub(crate) fn remove(&mut self, node: &Node) {
        self.0.retain(|(other, _)| other.as_ref() != Some(node));
    }

    /// Returns what is kept, for all nodes.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, kept)| kept)
    }

    /// Drops what is kept for nodes that do not match.
    pub(crate) fn keep(&mut self, matches: impl Fn(&Node) -> bool) {
        self.keep_if(|node, _| matches(node));
    }

    /// The same, by what is kept, too.
    pub(crate) fn keep_if(&mut self, matches: impl Fn(&Node, &T) -> bool) {
        self.0.retain(|(node, kept)| node.as_ref().is_none_or(|node| matches(node, kept)));
    }
}

impl<T> IntoIterator for ByNode<T> {
    type Item = (Option<Node>, T);
    type IntoIter = std::vec::IntoIter<(Option<Node>, T)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
