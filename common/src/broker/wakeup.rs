//! Waiting without polling: wake-up tokens for idle workers, and control channels for busy ones.
//!
//! A blocking read never takes a job, only a token, and the loss of a token is harmless: every function that leaves
//! claimable jobs adds a new one, and so does every sweep.

use std::time::Duration;

use redis::Value;

use super::commands::Commands;
use super::error::Error;
use super::lease::{Epoch, LeaseKey};
use super::subscription::Subscription;
use super::worker_id::WorkerId;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;

/// Maximum duration of a blocking read: a half-open connection is detected after this and one call's deadline.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// A message to a worker, besides the replies to its heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Cancellation of this attempt was requested.
    Cancel(LeaseKey),
    /// The reply to its next heartbeat has something new.
    Heartbeat,
}

/// The control channels of one worker, of all partitions.
#[expect(missing_debug_implementations, reason = "a stream of redis has nothing to show")]
pub struct Controls(Subscription);

impl Controls {
    /// Returns the next message; `None` once the connection broke, or a ping was not answered in time. Sends pings only
    /// while messages are `needed`. Messages of a later version are skipped.
    pub async fn next(&mut self, needed: impl Fn() -> bool) -> Option<Control> {
        loop {
            if let Some(control) = parse(&self.0.next(&needed).await?) {
                return Some(control);
            }
        }
    }
}

fn parse(message: &str) -> Option<Control> {
    match *message.split(' ').collect::<Vec<_>>() {
        ["cancel", id, epoch] => Some(Control::Cancel(LeaseKey {
            id: id.parse().ok()?,
            epoch: Epoch::new(epoch.parse().ok()?),
        })),
        ["heartbeat"] => Some(Control::Heartbeat),
        _ => None,
    }
}

impl Broker {
    /// Returns the partitions in groups whose tokens one connection waits for: all together, or each of a cluster, in
    /// which no command may name keys of several slots.
    #[must_use]
    pub fn groups(&self) -> Vec<Vec<Partition>> {
        match self.endpoint.is_cluster() {
            true => self.partitions().map(|partition| vec![partition]).collect(),
            false => vec![self.partitions().collect()],
        }
    }

    /// Blocks until one of these queues has a wake-up token in one of these partitions, at most 2 s. Returns which one
    /// had it, if any, the first one first: the caller sends an exchange in either case. Blocks this broker's
    /// connection: call it on [`Broker::with_own_connection`]. The partitions are those of one group: see
    /// [`Broker::groups`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn wait_for_work(
        &self,
        partitions: impl IntoIterator<Item = Partition>,
        queues: &[QueueName],
    ) -> Result<Option<(Partition, QueueName)>, Error> {
        let places = partitions.into_iter().flat_map(|partition| {
            let keys = self.settings.keys(partition);
            queues.iter().map(move |queue| (keys.wake(queue), partition, queue))
        });
        let places: Vec<_> = places.collect();
        let mut command = redis::cmd("BLPOP");
        for (key, ..) in &places {
            command.arg(key);
        }
        command.arg(TIME_LIMIT.as_secs());
        let first = places.first().map_or_else(Partition::default, |(_, partition, _)| *partition);
        let reply = self.link.block(first, &command, TIME_LIMIT).await?;
        if reply == Value::Nil {
            return Ok(None);
        }
        let [name, _token] = reply::fields(reply)?;
        let name = reply::text(name)?;
        let place = places.iter().find(|(key, ..)| *key == *name);
        Ok(place.map(|&(_, partition, queue)| (partition, queue.clone())))
    }

    /// Takes one wake-up token of each of these partitions that has one, without waiting. The caller sends an exchange
    /// for each; also for those that are returned second, whose token may have been taken with an answer that is lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; tokens may have been taken all the same.
    pub async fn take_tokens(
        &self,
        partitions: &[Partition],
        queues: &[QueueName],
    ) -> Result<(Vec<(Partition, QueueName)>, Vec<Partition>), Error> {
        let mut commands = Commands::default();
        for &partition in partitions {
            let keys = self.settings.keys(partition);
            let wakes = queues.iter().map(|queue| keys.wake(queue));
            let pipeline = commands.at(partition);
            pipeline.cmd("LMPOP").arg(queues.len()).arg(wakes.collect::<Vec<_>>()).arg("LEFT");
        }
        let replies = self.link.take_reachable(&commands).await;
        if !replies.is_empty() && replies.iter().all(Result::is_err) {
            return replies
                .into_iter()
                .next()
                .unwrap_or(Ok(Value::Nil))
                .map(|_| Default::default());
        }
        let (mut tokens, mut unknown) = (Vec::new(), Vec::new());
        for (&partition, reply) in partitions.iter().zip(replies) {
            let Ok(reply) = reply else {
                unknown.push(partition);
                continue;
            };
            if reply != Value::Nil {
                let [name, _tokens] = reply::fields(reply)?;
                let (name, keys) = (reply::text(name)?, self.settings.keys(partition));
                let queue = queues.iter().find(|queue| *keys.wake(queue) == *name);
                tokens.extend(queue.map(|queue| (partition, queue.clone())));
            }
        }
        Ok((tokens, unknown))
    }

    /// Returns those of these partitions in which jobs may be delayed, parked or outside a normal lane.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn with_side_queues(
        &self,
        partitions: impl IntoIterator<Item = Partition>,
    ) -> Result<Vec<Partition>, Error> {
        let partitions: Vec<_> = partitions.into_iter().collect();
        let mut commands = Commands::default();
        for &partition in &partitions {
            let key = self.settings.keys(partition).side_queues();
            commands.at(partition).cmd("EXISTS").arg(key);
        }
        let replies = self.link.read_reachable(&commands).await;
        if !replies.is_empty() && replies.iter().all(Result::is_err) {
            return replies.into_iter().next().unwrap_or(Ok(Value::Nil)).map(|_| Vec::new());
        }
        // Of a node that cannot be reached, others report it.
        let exists = |reply: &Result<Value, Error>| {
            reply.as_ref().is_ok_and(|count| *count != Value::Int(0))
        };
        let exist = partitions.into_iter().zip(replies).filter(|(_, reply)| exists(reply));
        Ok(exist.map(|(partition, _)| partition).collect())
    }

    /// Subscribes to the messages to this worker. Cancels that are sent while it is not subscribed are in the reply to
    /// its next heartbeat.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn controls(&self, worker: WorkerId) -> Result<Controls, Error> {
        let channel = |partition| self.settings.keys(partition).control(worker).to_string();
        Ok(Controls(self.subscribe(channel).await?))
    }
}
