//! Waiting without polling: wake-up tokens for idle workers, and the control channel for busy ones.
//!
//! A blocking read never takes a job, only a token, and losing a token loses nothing: every function that leaves
//! claimable work behind puts a new one, and so does every sweep.

use std::time::Duration;

use redis::Value;

use super::error::Error;
use super::lease::{Epoch, LeaseKey, WorkerId};
use super::subscription::Subscription;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;

/// The longest blocking read: a half-open connection is noticed this much and one call's deadline later.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// What a worker is told beside its heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Somebody wants this attempt to stop.
    Cancel(LeaseKey),
}

/// The control channels of one worker, over all partitions.
#[expect(missing_debug_implementations, reason = "a stream of redis has nothing to show")]
pub struct Controls(Subscription);

impl Controls {
    /// The next message; `None` once the connection broke, or a ping was not answered in time. Pings only while messages are
    /// `needed`. Messages of a later version are skipped.
    pub async fn next(&mut self, needed: impl Fn() -> bool) -> Option<Control> {
        loop {
            if let Some(control) = read(&self.0.next(&needed).await?) {
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
    /// exchange in either case. Uses this broker's connection for itself: call it on [`Broker::with_own_connection`].
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
        command.arg(TIME_LIMIT.as_secs());
        let reply = self.link.block(&command, TIME_LIMIT).await?;
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
        let channels = self
            .partitions()
            .map(|partition| self.settings.keys(partition).control(worker).to_string());
        Ok(Controls(self.subscribe(channels).await?))
    }
}
