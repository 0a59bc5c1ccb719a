//! The nodes of a Redis: one, or those of a cluster that have partitions.

use futures_util::future::join_all;

use super::Broker;
use super::endpoint::{ByNode, Node};
use super::error::Error;
use crate::job::Partition;

impl Broker {
    /// Returns the node that has a partition, as far as it is known.
    #[must_use]
    pub fn node(&self, partition: Partition) -> Option<Node> {
        self.endpoint.known_node(self.settings.keys(partition).slot())
    }

    /// Whether the node that has a partition could not be reached lately, while others may. Always false with one Redis.
    #[must_use]
    pub fn is_away(&self, partition: Partition) -> bool {
        self.endpoint.is_away(self.node(partition).as_ref())
    }

    /// Returns the slot that a partition has in a cluster.
    #[must_use]
    pub fn slot(&self, partition: Partition) -> u16 {
        self.settings.keys(partition).slot()
    }

    /// Whether partitions may be on several nodes: then one node may be away while others work.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.endpoint.is_cluster()
    }

    /// Returns the node of each partition. They are asked for at once, so that a node that does not answer is waited for
    /// once.
    pub(crate) async fn nodes(&self) -> Vec<(Partition, Result<Node, Error>)> {
        let nodes = self.partitions().map(|partition| async move {
            let node = self.endpoint.node(self.slot(partition)).await;
            (partition, node.map_err(|(_, error)| error))
        });
        join_all(nodes).await
    }

    /// Returns one partition of each node: what is to be sent to every node is sent to these.
    ///
    /// # Errors
    /// If the node of a partition is not known.
    pub(crate) async fn partition_of_each_node(&self) -> Result<Vec<Partition>, Error> {
        let nodes = self.nodes().await;
        let failure = nodes.iter().find_map(|(_, node)| node.as_ref().err());
        failure.map_or_else(|| Ok(first_of_each(&nodes)), |error| Err(error.clone()))
    }

    /// Like [`Broker::partition_of_each_node`], without partitions that no node has at the moment.
    ///
    /// # Errors
    /// If no node is known.
    pub(crate) async fn partition_of_each_known_node(&self) -> Result<Vec<Partition>, Error> {
        let nodes = self.nodes().await;
        let failure = nodes.iter().find_map(|(_, node)| node.as_ref().err());
        match (first_of_each(&nodes), failure) {
            (firsts, Some(error)) if firsts.is_empty() => Err(error.clone()),
            (firsts, _) => Ok(firsts),
        }
    }
}

fn first_of_each(nodes: &[(Partition, Result<Node, Error>)]) -> Vec<Partition> {
    let mut firsts = ByNode::default();
    for (partition, node) in nodes {
        if let Ok(node) = node {
            firsts.get_or_make(Some(node.clone()), || *partition);
        }
    }
    firsts.into_iter().map(|(_, partition)| partition).collect()
}
