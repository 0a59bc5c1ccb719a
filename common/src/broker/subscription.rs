//! Messages that Redis pushes, over connections of their own, whose loss is detected.
//!
//! Channels are sharded: like a key, a channel is on the node of its hash tag, and a cluster does not send each message
//! to every node. So there is a connection to each node.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::endpoint::{ByNode, Connection, Node};
use super::error::{Error, Remedy, classify};
use super::{Broker, CALL_DEADLINE};
use crate::job::Partition;

/// No commands are sent on a subscription: only a ping detects that the network dropped its connection.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// A subscription that lacks something is kept for so long: all that wait read again when it ends.
const INCOMPLETE_FOR: Duration = Duration::from_secs(5);

/// The messages of a channel of each partition.
pub(crate) struct Subscription {
    broker: Broker,
    connections: Vec<Connection>,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    /// The partitions without a subscription, because their node could not be reached.
    missing: Vec<Partition>,
    /// Messages of one node prove nothing about the others.
    ping_at: Instant,
    since: Instant,
}

impl Subscription {
    /// Returns the next message; `None` once a connection broke, or a ping was not answered in time, or a node can be
    /// reached again whose messages are missing. Sends no pings while messages are not `needed`: an idle process causes
    /// no load on Redis.
    pub(crate) async fn next(&mut self, needed: impl Fn() -> bool) -> Option<String> {
        loop {
            if self.ping_at <= Instant::now() {
                self.ping_at = Instant::now() + PING_INTERVAL;
                if self.may_be_completed() {
                    return None;
                }
                if needed() {
                    self.ping().await?;
                }
            }
            let Ok(push) = timeout_at(self.ping_at, self.pushes.recv()).await else { continue };
            let push = push?;
            match push.kind {
                PushKind::SMessage => {
                    let message = redis::Msg::from_push_info(push);
                    return Some(message?.get_payload().unwrap_or_default());
                }
                // A cluster ends subscriptions to a partition that it moved away.
                PushKind::Disconnection | PushKind::SUnsubscribe => return None,
                _ => {}
            }
        }
    }

    /// Whether the next subscription may have what this one lacks.
    fn may_be_completed(&self) -> bool {
        let is_back = |&partition: &Partition| !self.broker.is_away(partition);
        self.since.elapsed() >= INCOMPLETE_FOR && self.missing.iter().any(is_back)
    }

    async fn ping(&mut self) -> Option<()> {
        let pings = self.connections.iter_mut().map(async |connection| {
            redis::cmd("PING").query_async::<Value>(&mut connection.commands).await
        });
        tokio::time::timeout(CALL_DEADLINE, try_join_all(pings)).await.ok()?.ok().map(|_| ())
    }
}

impl Broker {
    /// Subscribes to a channel of each partition; returns when all subscriptions are active. Those of partitions whose
    /// node cannot be reached are missing, unless all are.
    pub(crate) async fn subscribe(
        &self,
        channel: impl Fn(Partition) -> String,
    ) -> Result<Subscription, Error> {
        let (sender, pushes) = mpsc::unbounded_channel();
        let mut nodes = ByNode::<Vec<Partition>>::default();
        for (partition, node) in self.nodes().await {
            nodes.get_or_make(node.ok(), Vec::new).push(partition);
        }
        let subscribed = join_all(nodes.into_iter().map(async |(node, partitions)| {
            let channels = partitions.iter().map(|&partition| channel(partition));
            let subscribe = self.subscribe_at(node.as_ref(), channels.collect(), sender.clone());
            let subscribed = tokio::time::timeout(CALL_DEADLINE, subscribe).await;
            (partitions, subscribed.unwrap_or_else(|_| Err(Error::timed_out())))
        }));
        let (mut connections, mut missing, mut failure) = (Vec::new(), Vec::new(), None);
        for (partitions, subscribed) in subscribed.await {
            match subscribed {
                Ok(connection) => connections.push(connection),
                Err(error) => {
                    missing.extend(partitions);
                    failure = Some(error);
                }
            }
        }
        match failure.filter(|_| connections.is_empty()) {
            Some(error) => Err(error),
            None => {
                let (broker, since) = (self.clone(), Instant::now());
                let ping_at = since + PING_INTERVAL;
                Ok(Subscription { broker, connections, pushes, missing, ping_at, since })
            }
        }
    }

    async fn subscribe_at(
        &self,
        node: Option<&Node>,
        channels: Vec<String>,
        pushes: mpsc::UnboundedSender<PushInfo>,
    ) -> Result<Connection, Error> {
        // The others do not wait for one that is away.
        let node = node.filter(|node| !self.endpoint.is_away(Some(node)));
        let node = node.ok_or_else(Error::timed_out)?;
        let connection = self.endpoint.connect_for_pushes(node, pushes).await;
        let connection = connection.map_err(|(_, error)| error)?;
        let subscribed =
            try_join_all(
                channels.into_iter().map(|channel| {
                    let mut connection = connection.commands.clone();
                    async move {
                        redis::cmd("SSUBSCRIBE").arg(channel).exec_async(&mut connection).await
                    }
                }),
            )
            .await;
        subscribed.map_err(|error: RedisError| {
            let (remedy, error) = classify(&Arc::new(error));
            if remedy == Remedy::Relocate {
                self.endpoint.doubt(node);
            }
            error
        })?;
        Ok(connection)
    }
}
