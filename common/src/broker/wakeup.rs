//! Waiting without polling: wake-up tokens for idle workers, and the control channel for busy ones.
//!
//! A blocking read never takes a job, only a token, and losing a token loses nothing: every function that leaves
//! claimable work behind puts a new one, and so does every sweep.

use std::time::Duration;

use futures_util::StreamExt;
use redis::Value;
use redis::aio::PubSubStream;

use super::error::{Error, classify};
use super::lease::{Epoch, LeaseKey, WorkerId};
use super::{Broker, CALL_DEADLINE, reply};
use crate::job::Partition;
use crate::queue::QueueName;

/// The longest blocking read: a half-open connection is noticed this much and one call's deadline later.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a worker is told beside its heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Somebody wants this attempt to stop.
    Cancel(LeaseKey),
}

/// The control channels of one worker, over all partitions.
#[expect(missing_debug_implementations, reason = "a stream of redis has nothing to show")]
pub struct Controls {
    stream: PubSubStream,
}

impl Controls {
    /// The next message; `None` once the connection broke. Messages of a later version are passed over.
    pub async fn next(&mut self) -> Option<Control> {
        loop {
            let message: String = self.stream.next().await?.get_payload().unwrap_or_default();
            if let Some(control) = read(&message) {
                return Some(control);
            }
        }
    }
}

fn read(message: &str) -> Option<Control> {
    let mut words = message.split(' ');
    match (words.next()?, words.next()?, words.next()?) {
        ("cancel", id, epoch) => Some(Control::Cancel(LeaseKey {
            id: id.parse().ok()?,
            epoch: Epoch::new(epoch.parse().ok()?),
        })),
        _ => None,
    }
}

impl Broker {
    /// Blocks until one of these queues has a wake-up token, at most 2 s. Which one had it, if any: the caller does an
    /// exchange in either case. Uses this broker's connection for itself: call it on [`Broker::separate`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn wait_for_work(
        &self,
        partition: Partition,
        queues: &[QueueName],
    ) -> Result<Option<QueueName>, Error> {
        let keys = self.settings.keys(partition);
        let mut command = redis::cmd("BLPOP");
        for queue in queues {
            command.arg(keys.wake(queue));
        }
        command.arg(PATIENCE.as_secs());
        let reply = self.link.block(&command, PATIENCE).await?;
        if reply == Value::Nil {
            return Ok(None);
        }
        let [name, _token] = reply::fields(reply)?;
        let name = reply::text(name)?;
        Ok(queues.iter().find(|queue| *keys.wake(queue) == *name).cloned())
    }

    /// Listens to what this worker is told. Cancels that come while nobody listens are in the next heartbeat's reply.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn controls(&self, worker: WorkerId) -> Result<Controls, Error> {
        let heard = |error| classify(&std::sync::Arc::new(error)).1;
        let subscribe = async {
            let mut pubsub = self.client.get_async_pubsub().await?;
            for partition in self.partitions() {
                pubsub.subscribe(self.settings.keys(partition).control(worker)).await?;
            }
            Ok(pubsub.into_on_message())
        };
        let subscribed = tokio::time::timeout(CALL_DEADLINE, subscribe).await;
        let stream = subscribed.map_err(|_| Error::timed_out())?.map_err(heard)?;
        Ok(Controls { stream })
    }
}
