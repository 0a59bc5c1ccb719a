//! Messages that Redis pushes, over their own connection, whose loss is detected.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{RedisError, Value};

use super::error::{Error, classify};
use super::{Broker, CALL_DEADLINE};

/// No commands are sent on a subscription: only a ping detects that the network dropped its connection.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// The messages of some channels.
pub(crate) struct Subscription {
    sink: PubSubSink,
    stream: PubSubStream,
}

impl Subscription {
    /// Returns the next message; `None` once the connection broke, or a ping was not answered in time. Sends no pings
    /// while messages are not `needed`: an idle process causes no load on Redis.
    pub(crate) async fn next(&mut self, needed: impl Fn() -> bool) -> Option<String> {
        loop {
            let Ok(message) = tokio::time::timeout(PING_INTERVAL, self.stream.next()).await else {
                if !needed() {
                    continue;
                }
                let ping = tokio::time::timeout(CALL_DEADLINE, self.sink.ping::<Value>()).await;
                ping.ok()?.ok()?;
                continue;
            };
            return Some(message?.get_payload().unwrap_or_default());
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
            let mut pubsub = self.client.get_async_pubsub().await?;
            for channel in channels {
                pubsub.subscribe(channel).await?;
            }
            let (sink, stream) = pubsub.split();
            Ok(Subscription { sink, stream })
        };
        let subscribed = tokio::time::timeout(CALL_DEADLINE, subscribe).await;
        let failed = |error: RedisError| classify(&Arc::new(error)).1;
        subscribed.map_err(|_| Error::timed_out())?.map_err(failed)
    }
}
