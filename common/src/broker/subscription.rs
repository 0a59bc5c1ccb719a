//! Messages that Redis pushes, over their own connection, whose loss is detected.
//!
//! Channels are sharded: like a key, a channel is on the node of its hash tag, and a cluster does not send each message
//! to every node.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc;

use super::endpoint::Connection;
use super::error::{Error, classify};
use super::{Broker, CALL_DEADLINE};

/// No commands are sent on a subscription: only a ping detects that the network dropped its connection.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// The messages of some channels.
pub(crate) struct Subscription {
    connection: Connection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
}

impl Subscription {
    /// Returns the next message; `None` once the connection broke, or a ping was not answered in time. Sends no pings
    /// while messages are not `needed`: an idle process causes no load on Redis.
    pub(crate) async fn next(&mut self, needed: impl Fn() -> bool) -> Option<String> {
        loop {
            let Ok(push) = tokio::time::timeout(PING_INTERVAL, self.pushes.recv()).await else {
                if !needed() {
                    continue;
                }
                let command = redis::cmd("PING");
                let ping = command.query_async::<Value>(&mut self.connection.commands);
                tokio::time::timeout(CALL_DEADLINE, ping).await.ok()?.ok()?;
                continue;
            };
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
}

impl Broker {
    /// Subscribes to these channels; returns when all subscriptions are active.
    pub(crate) async fn subscribe(
        &self,
        channels: impl IntoIterator<Item = String>,
    ) -> Result<Subscription, Error> {
        let subscribe = async {
            let (sender, pushes) = mpsc::unbounded_channel();
            let connection = self.endpoint.connect_for_pushes(sender).await;
            let connection = connection.map_err(|(_, error)| error)?;
            let subscribed =
                try_join_all(channels.into_iter().map(|channel| {
                    let mut connection = connection.commands.clone();
                    async move {
                        redis::cmd("SSUBSCRIBE").arg(channel).exec_async(&mut connection).await
                    }
                }))
                .await;
            subscribed.map_err(|error: RedisError| classify(&Arc::new(error)).1)?;
            Ok(Subscription { connection, pushes })
        };
        let subscribed = tokio::time::timeout(CALL_DEADLINE, subscribe).await;
        subscribed.map_err(|_| Error::timed_out())?
    }
}
