//! Messages that Redis pushes, over a connection of their own whose death is noticed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{RedisError, Value};

use super::error::{Error, classify};
use super::{Broker, CALL_DEADLINE};

/// Nothing is sent on a subscription: only a ping finds out that the network forgot it.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// The messages of some channels.
pub(crate) struct Subscription {
    sink: PubSubSink,
    stream: PubSubStream,
}

impl Subscription {
    /// The next message; `None` once the connection broke, or a ping was not answered in time. Nothing is pinged while the
    /// messages are not `needed`: an idle process costs Redis nothing for them.
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
    /// Subscribed to all of these channels when this returns.
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
