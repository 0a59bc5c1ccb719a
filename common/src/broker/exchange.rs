//! The one call per batch of a busy worker: settle what ended, promote what is due, claim what fits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::lease::{Epoch, Lease, LeaseKey, Outcome, Settlement};
use super::record::{LastOptions, PAYLOAD_LARGE, Spec, State};
use super::sweep::count_expired;
use super::transfer::{MinRate, write_time_limit};
use super::worker_id::WorkerId;
use super::{Broker, reply};
use crate::job::{JobId, JobOptions, Partition, Payload, Priority};
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::{Timestamp, whole_ms};

/// A large payload may be in transfer, but a connection that loses replies must not block a worker for half of a lease
/// of an hour.
const CLAIMS_TIME_LIMIT: Duration = Duration::from_secs(5);

/// What a worker settles and requests in one partition.
#[derive(Debug)]
pub struct Exchange {
    /// The worker that sends it.
    pub worker: WorkerId,
    /// Number of this exchange, incremented by one. The same number again is the same exchange: after a lost reply it
    /// returns the same claims. At most one is in flight per worker, partition and [`Sequence`].
    pub number: u64,
    /// How long a claim is held without a heartbeat.
    pub lease: Duration,
    /// Tasks this worker can run now: parked jobs are returned only for these.
    pub tasks: TaskNames,
    /// Queues to claim from, in the order in which to read them; at most [`Exchange::MAX_QUEUES`].
    pub queues: Vec<QueueName>,
    /// Attempts that ended; at most [`Exchange::MAX_SETTLEMENTS`].
    pub settlements: Vec<Settlement>,
    /// Maximum number of jobs to claim; at most [`Exchange::MAX_CLAIMS`].
    pub want: usize,
    /// How many other jobs this worker continues to run.
    pub busy: usize,
}

impl Exchange {
    /// Maximum number of queues one call reads; a worker with more rotates.
    pub const MAX_QUEUES: usize = 32;
    /// Maximum number of jobs one call returns: with as many settlements it takes about a third of a millisecond of
    /// Redis' time.
    pub const MAX_CLAIMS: usize = 32;
    /// Maximum number of attempts one call settles: if it were lower than `MAX_CLAIMS`, outcomes of short jobs would
    /// accumulate.
    pub const MAX_SETTLEMENTS: usize = Self::MAX_CLAIMS;
    /// Reading this many queues takes about as long as claiming and settling a job.
    const QUEUES_PER_JOB: usize = 4;
    /// Maximum number of bytes of results in one call; a single larger result is sent alone.
    pub const MAX_BYTES: usize = 128 * 1024;

    /// Creates an exchange that settles and claims nothing. With the number 0 it may be sent any number of times.
    #[must_use]
    pub fn only(worker: WorkerId, lease: Duration, settlements: Vec<Settlement>) -> Self {
        let (tasks, queues) = (TaskNames::default(), Vec::new());
        Self { worker, number: 0, lease, tasks, queues, settlements, want: 0, busy: 0 }
    }

    /// How many jobs to request in a call that reads this many queues, so that it takes no longer than one that reads a
    /// few.
    #[must_use]
    pub const fn claims_from(queues: usize) -> usize {
        Self::MAX_CLAIMS.saturating_sub(queues / Self::QUEUES_PER_JOB)
    }
}

/// Names of tasks, encoded for an exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskNames(Arc<str>);

impl<'a> FromIterator<&'a TaskName> for TaskNames {
    fn from_iter<I: IntoIterator<Item = &'a TaskName>>(tasks: I) -> Self {
        let names: Vec<&str> = tasks.into_iter().map(TaskName::as_str).collect();
        Self(names.join(" ").into())
    }
}

/// A sequence of exchanges with its own numbers. Each pool of slots of a worker has two, so that Redis is not idle while
/// the worker reads the reply of one. Attempts may be settled on any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence(u16);

impl Sequence {
    /// The first one of a worker: the only one of a worker that is idle or has few slots.
    pub const PRIMARY: Self = Self(0);
    /// The second one of the first pool, while there is more to do than one can carry.
    pub const SECONDARY: Self = Self(1);
    /// For large settlements: it has no numbers, so several may be in flight. See [`Exchange::only`].
    const UNNUMBERED: Self = Self(u16::MAX);

    /// Returns the two sequences of a pool, by its number.
    #[must_use]
    pub const fn of_pool(number: u8) -> [Self; 2] {
        let first = 2 * number as u16;
        [Self(first), Self(first + 1)]
    }
}

impl fmt::Display for Sequence {
    /// The name in Redis.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UNNUMBERED => f.write_str("unnumbered"),
            Self(number) => number.fmt(f),
        }
    }
}

/// The reply to an exchange.
#[derive(Debug)]
#[must_use = "claims that are dropped run only after their lease expired"]
pub struct Exchanged {
    /// The outcome of each settlement, in their order.
    pub settled: Vec<Settled>,
    /// Jobs to run now.
    pub claims: Vec<Claim>,
    /// Leases of jobs that this version cannot read, to be released for a version that can.
    pub unreadable: Vec<Lease>,
    /// Time until the next delayed job of these queues is due, if there is one.
    pub next_due: Option<Duration>,
    /// Stopped by its budget: send the next exchange immediately.
    pub more: bool,
    /// This worker runs a solitary job, or was chosen for one that waits: it gets no jobs until it runs nothing else.
    pub reserved: bool,
}

/// The outcome of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect, now or when it was first sent.
    Done,
    /// Another attempt holds the job, or the lease was reclaimed. The outcome is discarded.
    Stale,
    /// The job no longer exists.
    Unknown,
}

/// A job to run, and the lease for it.
#[derive(Debug)]
pub struct Claim {
    /// To be settled when the attempt has ended.
    pub lease: Lease,
    /// The job.
    pub job: Box<ClaimedJob>,
    /// Whether the payload is too large to be included: [`Broker::claimed_payload`] fetches it.
    pub payload_is_to_come: bool,
}

/// The data of a job that its handler needs.
#[derive(Debug, Clone)]
pub struct ClaimedJob {
    /// Its id.
    pub id: JobId,
    /// The fencing token of this attempt.
    pub epoch: Epoch,
    /// The queue it came from.
    pub queue: QueueName,
    /// Its priority there.
    pub priority: Priority,
    /// Its task.
    pub task: TaskName,
    /// Number of this charged attempt, from 1.
    pub attempt: u32,
    /// Its options.
    pub options: JobOptions,
    /// Its input.
    pub payload: Payload,
    /// When Redis accepted it.
    pub created_at: Timestamp,
    /// When it became ready: when it was accepted, or when its delay ended.
    pub due_at: Timestamp,
    /// When it was claimed, by Redis' clock.
    pub claimed_at: Timestamp,
}

impl ClaimedJob {
    /// Returns the key of its lease.
    #[must_use]
    pub const fn lease_key(&self) -> LeaseKey {
        LeaseKey { id: self.id, epoch: self.epoch }
    }
}

impl Broker {
    /// Settles, promotes and claims in one call, on the primary sequence.
    ///
    /// # Errors
    /// See [`Broker::exchange_on`].
    pub async fn exchange(
        &self,
        partition: Partition,
        exchange: &Exchange,
    ) -> Result<Exchanged, Error> {
        self.exchange_on(Sequence::PRIMARY, partition, exchange).await
    }

    /// Settles, promotes and claims in one call.
    ///
    /// # Errors
    /// On [`Error::Unavailable`] the caller repeats the *same* exchange until it gets a reply; [`Error::StaleExchange`]
    /// means that this worker already received the reply of a later one.
    pub async fn exchange_on(
        &self,
        sequence: Sequence,
        partition: Partition,
        exchange: &Exchange,
    ) -> Result<Exchanged, Error> {
        let arguments = |command: &mut Cmd| write(command, sequence, exchange);
        let bytes = exchange.settlements.iter().map(Settlement::size).sum();
        let time_limit = (exchange.lease / 2).min(CLAIMS_TIME_LIMIT);
        let call = Call::new(Function::Exchange, partition).once().with_min_time_limit(time_limit);
        let reply = self.link.call(call.carrying(bytes), arguments).await?;
        read(reply)
    }

    /// Settles an attempt with a large result, on its own connection, so that no other call waits for it. `exchange` is
    /// from [`Exchange::only`], and `given_up` is how often this method gave it up: each time doubles the time limit.
    ///
    /// # Errors
    /// See [`Broker::exchange_on`]: on [`Error::Unavailable`] the caller repeats it.
    pub async fn settle_apart(
        &self,
        partition: Partition,
        exchange: &Exchange,
        given_up: u32,
    ) -> Result<Vec<Settled>, Error> {
        let mut command = self.settings.call(Function::Exchange, partition);
        write(&mut command, Sequence::UNNUMBERED, exchange);
        let bytes = exchange.settlements.iter().map(Settlement::size).sum();
        let mut pipeline = redis::pipe();
        pipeline.add_command(command);
        let replies =
            self.uploads.write(partition, &pipeline, write_time_limit(bytes, given_up)).await?;
        let reply = replies.into_iter().next();
        let reply = reply.ok_or_else(|| Error::unreadable("no reply to a settlement"))??;
        Ok(read(reply)?.settled)
    }

    /// Fetches the payload of a claim that does not include it, on its own connection and for as long as bytes arrive.
    /// `None` if the job was deleted or the claim is no longer the newest: the caller must check its state in Redis.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable, or the network is too slow; it may be retried.
    pub async fn claimed_payload(&self, lease: LeaseKey) -> Result<Option<Bytes>, Error> {
        let key = self.settings.keys(lease.id.partition()).job(lease.id);
        let partition = lease.id.partition();
        let mut ask = redis::pipe();
        ask.cmd("HSTRLEN").arg(&key).arg(PAYLOAD_LARGE);
        let size = self.link.read(partition, &ask).await?;
        let size = size.first().map_or(Ok(0), reply::unsigned)?;
        let mut fetch = redis::pipe();
        fetch.cmd("HMGET").arg(&key).arg("state").arg(PAYLOAD_LARGE);
        let mut fetched = self.bulk.read(partition, &fetch, size, MinRate::ForJob).await?;
        let [state, payload] = reply::fields(fetched.swap_remove(0))?;
        if state == Value::Nil || payload == Value::Nil {
            return Ok(None);
        }
        let epoch = State::read(&reply::text(state)?)?.epoch;
        if epoch != Some(lease.epoch) {
            return Ok(None);
        }
        reply::bytes(payload).map(Some)
    }
}

/// Writes the arguments; `lua/exchange.lua` reads them in the same order.
fn write(command: &mut Cmd, sequence: Sequence, exchange: &Exchange) {
    command.arg(exchange.worker.to_string()).arg(exchange.number).arg(sequence.to_string());
    command
        .arg(whole_ms(exchange.lease))
        .arg(exchange.want.min(Exchange::MAX_CLAIMS))
        .arg(exchange.busy)
        .arg(&*exchange.tasks.0)
        .arg(exchange.queues.len());
    for queue in &exchange.queues {
        command.arg(queue.as_str());
    }
    for settlement in &exchange.settlements {
        let key = settlement.key();
        command.arg(key.id.to_string()).arg(key.epoch.number());
        write_outcome(command, &settlement.outcome);
    }
}

fn write_outcome(command: &mut Cmd, outcome: &Outcome) {
    let json = |error| serde_json::to_vec(error).expect("an error is plain text");
    match outcome {
        Outcome::Complete(result) => {
            if result.content_type.is_json() {
                command.arg("complete").arg(&result.bytes[..])
            } else {
                let content_type = result.content_type.as_str();
                command.arg("complete_as").arg(&result.bytes[..]).arg(content_type)
            }
        }
        Outcome::Retry { error, delay } => {
            command.arg("retry").arg(json(error)).arg(error.kind()).arg(whole_ms(*delay))
        }
        Outcome::Fail(error) => command.arg("fail").arg(json(error)).arg(error.kind()),
        Outcome::Cancel(error) => command.arg("canceled").arg(json(error)),
        Outcome::Release(cause) => command.arg("release").arg(cause.as_str()).arg(cause.detail()),
        Outcome::Snooze { delay } => command.arg("snooze").arg(whole_ms(*delay)),
    };
}

/// Reads the reply.
fn read(reply: Value) -> Result<Exchanged, Error> {
    let values = reply::array(reply)?;
    if let [code] = &values[..]
        && reply::integer(code)? == -1
    {
        return Err(Error::StaleExchange);
    }
    let [now, settled, claims, next_due, more, reserved, expired] =
        reply::fields(Value::Array(values))?;
    count_expired(reply::unsigned(&expired)?);
    let now = Timestamp::from_unix_ms(reply::unsigned(&now)?);
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    let left = reply::array(claims)?.into_iter();
    let mut claims = Claims { left, now, header: None, options: LastOptions::default() };
    while let Some((lease, job)) = claims.next()? {
        match job {
            Ok((job, payload_is_to_come)) => {
                readable.push(Claim { lease, job: Box::new(job), payload_is_to_come });
            }
            // It must not affect the other claims.
            Err(error) => {
                tracing::error!(job.id = %lease.key().id, %error, "cannot read a claimed job, releasing it for another version");
                unreadable.push(lease);
            }
        }
    }
    Ok(Exchanged {
        settled: reply::array(settled)?.iter().map(read_settled).collect::<Result<_, _>>()?,
        claims: readable,
        unreadable,
        next_due: u64::try_from(reply::integer(&next_due)?).ok().map(Duration::from_millis),
        more: reply::integer(&more)? == 1,
        reserved: reply::integer(&reserved)? == 1,
    })
}

fn read_settled(code: &Value) -> Result<Settled, Error> {
    match reply::integer(code)? {
        1 | 2 => Ok(Settled::Done),
        -1 => Ok(Settled::Stale),
        -2 => Ok(Settled::Unknown),
        code => Err(Error::unreadable(format!("unexpected code {code} from settle"))),
    }
}

/// The claims of a reply, four elements each.
struct Claims {
    left: std::vec::IntoIter<Value>,
    now: Timestamp,
    /// The last header: consecutive jobs with the same header send it once.
    header: Option<(Epoch, Result<Header, Error>)>,
    options: LastOptions,
}

impl Claims {
    /// Returns the lease of the next claim and its job, if it can be read, with whether its payload must be fetched.
    #[expect(clippy::type_complexity, reason = "two outcomes, one within the other")]
    fn next(&mut self) -> Result<Option<(Lease, Result<(ClaimedJob, bool), Error>)>, Error> {
        let Some(header) = self.left.next() else { return Ok(None) };
        let mut next = || self.left.next().ok_or_else(|| Error::unreadable("incomplete claim"));
        let (id, spec, payload) = (reply::parsed(next()?)?, next()?, next()?);
        let header = reply::text(header)?;
        if !header.is_empty() {
            self.header = Some((Header::epoch(&header)?, Header::read(&header)));
        }
        let (epoch, _) =
            self.header.as_ref().ok_or_else(|| Error::unreadable("claim without epoch"))?;
        let lease = Lease::new(id, *epoch);
        let job = self.job(lease.key(), spec, payload);
        Ok(Some((lease, job)))
    }

    fn job(
        &mut self,
        lease: LeaseKey,
        spec: Value,
        payload: Value,
    ) -> Result<(ClaimedJob, bool), Error> {
        let header = self.header.as_ref().map(|(_, header)| header);
        let header = header.expect("a header was read").as_ref().map_err(Error::clone)?;
        let spec = Spec::read(&reply::text(spec)?, &mut self.options)?;
        let is_omitted = payload == Value::Nil;
        let payload = if is_omitted { Bytes::new() } else { reply::bytes(payload)? };
        let job = ClaimedJob {
            id: lease.id,
            epoch: lease.epoch,
            queue: header.queue.clone(),
            priority: header.priority,
            task: spec.task,
            attempt: header.attempt,
            payload: Payload { bytes: payload, content_type: spec.options.content_type.clone() },
            options: spec.options,
            created_at: spec.created_at,
            due_at: header.run_at.unwrap_or(spec.created_at),
            claimed_at: self.now,
        };
        Ok((job, is_omitted))
    }
}

/// The data of a claim beside its id, spec and payload: five fields, of which the second is its epoch.
struct Header {
    queue: QueueName,
    attempt: u32,
    priority: Priority,
    run_at: Option<Timestamp>,
}

impl Header {
    /// Reads only the epoch: that is enough to release the job if the rest is unreadable.
    fn epoch(text: &str) -> Result<Epoch, Error> {
        reply::parse(text.split(' ').nth(1).unwrap_or_default()).map(Epoch::new)
    }

    fn read(text: &str) -> Result<Self, Error> {
        let fields: Vec<_> = text.split(' ').collect();
        let Ok([queue, _epoch, attempt, priority, run_at]) = <[&str; 5]>::try_from(fields) else {
            return Err(Error::unreadable(format!("{text:?} is not the header of a claim")));
        };
        Ok(Self {
            queue: reply::parse(queue)?,
            attempt: reply::parse(attempt)?,
            priority: reply::optional(priority)?.unwrap_or_default(),
            run_at: reply::optional(run_at)?.map(Timestamp::from_unix_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_at_many_queues_wants_fewer_jobs() {
        let wants = [1, 3, 4, 16, Exchange::MAX_QUEUES].map(Exchange::claims_from);
        assert_eq!(wants, [32, 32, 31, 28, 24]);
    }
}
