//! A busy worker's one call a batch: settle what ended, promote what is due, claim what fits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, Value};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::lease::{Epoch, Lease, LeaseKey, Outcome, Settlement, WorkerId};
use super::record::{LastOptions, PAYLOAD_LARGE, Spec, State};
use super::transfer::{MinRate, write_time_limit};
use super::{Broker, reply};
use crate::job::{JobId, JobOptions, Partition, Payload, Priority};
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::time::{Timestamp, whole_ms};

/// A large payload may be on its way to us; but a connection that swallows replies must not hold a worker for half of an
/// hour's lease.
const CLAIMS_TIME_LIMIT: Duration = Duration::from_secs(5);

/// What a worker brings and wants, towards one partition.
#[derive(Debug)]
pub struct Exchange {
    /// Who asks.
    pub worker: WorkerId,
    /// Number of this exchange, growing by one. The same number again is the same exchange: after a lost reply it
    /// returns the same claims. One is in flight per worker, partition and [`Sequence`].
    pub number: u64,
    /// How long a claim is held without a heartbeat.
    pub lease: Duration,
    /// Tasks this worker can run now: jobs that wait for a worker with their task are handed out only for these.
    pub tasks: TaskNames,
    /// Queues to claim from, in the order to look at them; at most [`Exchange::MAX_QUEUES`].
    pub queues: Vec<QueueName>,
    /// Attempts that ended; at most [`Exchange::MAX_SETTLEMENTS`].
    pub settlements: Vec<Settlement>,
    /// How many jobs to claim at most; at most [`Exchange::MAX_CLAIMS`].
    pub want: usize,
    /// How many jobs this worker goes on running beside them.
    pub busy: usize,
}

impl Exchange {
    /// One call looks at no more queues than this; a worker with more rotates.
    pub const MAX_QUEUES: usize = 32;
    /// One call settles no more attempts than this: with as many claims it takes about a third of a millisecond of Redis' time.
    pub const MAX_SETTLEMENTS: usize = 20;
    /// One call hands out no more jobs than this.
    pub const MAX_CLAIMS: usize = 20;
    /// Looking at so many queues takes as long as a job.
    const QUEUES_A_JOB: usize = 4;
    /// One call carries no more bytes of results than this; a single larger result passes alone.
    pub const MAX_BYTES: usize = 128 * 1024;

    /// Brings a settlement and claims nothing. The number 0 is the same exchange however often it is sent.
    #[must_use]
    pub fn only(worker: WorkerId, lease: Duration, settlements: Vec<Settlement>) -> Self {
        let (tasks, queues) = (TaskNames::default(), Vec::new());
        Self { worker, number: 0, lease, tasks, queues, settlements, want: 0, busy: 0 }
    }

    /// How many jobs to want of a call that looks at so many queues, to take no longer than one that looks at a few.
    #[must_use]
    pub const fn claims_from(queues: usize) -> usize {
        Self::MAX_CLAIMS.saturating_sub(queues / Self::QUEUES_A_JOB)
    }
}

/// Names of tasks, as an exchange carries them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskNames(Arc<str>);

impl<'a> FromIterator<&'a TaskName> for TaskNames {
    fn from_iter<I: IntoIterator<Item = &'a TaskName>>(tasks: I) -> Self {
        let names: Vec<&str> = tasks.into_iter().map(TaskName::as_str).collect();
        Self(names.join(" ").into())
    }
}

/// One of two sequences of exchanges, each with numbers of its own, so that Redis need not wait while a worker reads the answer
/// of one. Attempts may be settled on either.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sequence {
    /// The one of a worker that is idle, or has few slots.
    #[default]
    Primary,
    /// Its secondary, while there is more to do than one carries.
    Secondary,
    /// Beside them, for a settlement that is large: it has no numbers, so several may be under way. See [`Exchange::only`].
    Unnumbered,
}

impl Sequence {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "",
            Self::Secondary => "2",
            Self::Unnumbered => "3",
        }
    }
}

/// What came back.
#[derive(Debug)]
#[must_use = "claims that are dropped run only after their lease expired"]
pub struct Exchanged {
    /// What became of each settlement, in their order.
    pub settled: Vec<Settled>,
    /// Jobs to run now.
    pub claims: Vec<Claim>,
    /// Leases of jobs that this version cannot read, to be given back for one that can.
    pub unreadable: Vec<Lease>,
    /// How long until the next delayed job of these queues is due, if there is one.
    pub next_due: Option<Duration>,
    /// Stopped by budget: ask again at once.
    pub more: bool,
    /// This worker runs a job that must run alone, or was chosen for one that waits: it gets nothing until it runs
    /// nothing else.
    pub drain: bool,
}

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It took effect, now or when it was first sent.
    Done,
    /// Another attempt holds the job, or the lease was taken back. The outcome is dropped.
    Stale,
    /// There is no such job any more.
    Unknown,
}

/// A job to run, and the right to.
#[derive(Debug)]
pub struct Claim {
    /// To be spent when the attempt ended.
    pub lease: Lease,
    /// What to run.
    pub job: Box<ClaimedJob>,
    /// Whether the payload is too large to come along: [`Broker::claimed_payload`] fetches it.
    pub payload_is_to_come: bool,
}

/// What a handler needs to know of its job.
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
    /// What to do.
    pub task: TaskName,
    /// Which charged attempt this is, from 1.
    pub attempt: u32,
    /// How to run it.
    pub options: JobOptions,
    /// Its input.
    pub payload: Payload,
    /// When Redis took it.
    pub created_at: Timestamp,
    /// When it could run: it was taken, or its delay was over.
    pub due_at: Timestamp,
    /// When it was claimed, by Redis' clock.
    pub claimed_at: Timestamp,
}

impl ClaimedJob {
    /// Names the lease it came with.
    #[must_use]
    pub const fn lease_key(&self) -> LeaseKey {
        LeaseKey { id: self.id, epoch: self.epoch }
    }
}

impl Broker {
    /// Settles, promotes and claims in one call, on the first strand.
    ///
    /// # Errors
    /// As [`Broker::exchange_on`].
    pub async fn exchange(
        &self,
        partition: Partition,
        exchange: &Exchange,
    ) -> Result<Exchanged, Error> {
        self.exchange_on(Sequence::Primary, partition, exchange).await
    }

    /// Settles, promotes and claims in one call.
    ///
    /// # Errors
    /// On [`Error::Unavailable`] the caller repeats the *same* exchange until it hears; [`Error::StaleExchange`] means
    /// that this worker already heard the answer of a later one.
    pub async fn exchange_on(
        &self,
        strand: Sequence,
        partition: Partition,
        exchange: &Exchange,
    ) -> Result<Exchanged, Error> {
        let arguments = |command: &mut Cmd| write(command, strand, exchange);
        let bytes = exchange.settlements.iter().map(Settlement::size).sum();
        let time_limit = (exchange.lease / 2).min(CLAIMS_TIME_LIMIT);
        let call = Call::new(Function::Exchange, partition).once().patient(time_limit);
        let reply = self.link.call(call.carrying(bytes), arguments).await?;
        read(reply)
    }

    /// Settles an attempt whose result is large, on a connection of its own, which nobody else waits for. `exchange` is one of
    /// [`Exchange::only`], and `given_up` how often this method gave it up: each time it waits twice as long.
    ///
    /// # Errors
    /// As [`Broker::exchange_on`]: on [`Error::Unavailable`] the caller repeats it.
    pub async fn settle_apart(
        &self,
        partition: Partition,
        exchange: &Exchange,
        given_up: u32,
    ) -> Result<Vec<Settled>, Error> {
        let mut command = self.settings.call(Function::Exchange, partition);
        write(&mut command, Sequence::Unnumbered, exchange);
        let bytes = exchange.settlements.iter().map(Settlement::size).sum();
        let mut pipeline = redis::pipe();
        pipeline.add_command(command);
        let replies = self.uploads.write(&pipeline, write_time_limit(bytes, given_up)).await?;
        let reply = replies.into_iter().next();
        let reply = reply.ok_or_else(|| Error::unreadable("no reply to a settlement"))??;
        Ok(read(reply)?.settled)
    }

    /// Fetches the payload of a claim that came without, on a connection of its own and for as long as bytes arrive. `None` if
    /// the job is gone or the claim is not the newest any more: Redis is to be asked what became of it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away, or the line is too slow; it may be tried again.
    pub async fn claimed_payload(&self, lease: LeaseKey) -> Result<Option<Bytes>, Error> {
        let key = self.settings.keys(lease.id.partition()).job(lease.id);
        let size =
            self.link.read(redis::pipe().cmd("HSTRLEN").arg(&key).arg(PAYLOAD_LARGE)).await?;
        let size = size.first().map_or(Ok(0), reply::unsigned)?;
        let mut fetch = redis::pipe();
        fetch.cmd("HMGET").arg(&key).arg("state").arg(PAYLOAD_LARGE);
        let mut fetched = self.bulk.read(&fetch, size, MinRate::ForJob).await?;
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
fn write(command: &mut Cmd, strand: Sequence, exchange: &Exchange) {
    command.arg(exchange.worker.to_string()).arg(exchange.number).arg(strand.as_str());
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
            command.arg("retry").arg(json(error)).arg(whole_ms(*delay))
        }
        Outcome::Fail(error) => command.arg("fail").arg(json(error)),
        Outcome::Cancel(error) => command.arg("canceled").arg(json(error)),
        Outcome::Release(cause) => command.arg("release").arg(cause.as_str()).arg(cause.detail()),
    };
}

/// Reads the answer.
fn read(reply: Value) -> Result<Exchanged, Error> {
    let values = reply::array(reply)?;
    if let [code] = &values[..]
        && reply::integer(code)? == -1
    {
        return Err(Error::StaleExchange);
    }
    let [now, settled, claims, next_due, more, drain] = reply::fields(Value::Array(values))?;
    let now = Timestamp::from_unix_ms(reply::unsigned(&now)?);
    let (mut readable, mut unreadable) = (Vec::new(), Vec::new());
    let left = reply::array(claims)?.into_iter();
    let mut claims = Claims { left, now, told: None, options: LastOptions::default() };
    while let Some((lease, job)) = claims.next()? {
        match job {
            Ok((job, payload_is_to_come)) => {
                readable.push(Claim { lease, job: Box::new(job), payload_is_to_come });
            }
            // It must not take the others with it.
            Err(error) => {
                tracing::error!(job.id = %lease.key().id, %error, "this version cannot read a job it was handed");
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
        drain: reply::integer(&drain)? == 1,
    })
}

fn read_settled(code: &Value) -> Result<Settled, Error> {
    match reply::integer(code)? {
        1 | 2 => Ok(Settled::Done),
        -1 => Ok(Settled::Stale),
        -2 => Ok(Settled::Unknown),
        code => Err(Error::unreadable(format!("settle answered {code}"))),
    }
}

/// The claims of an answer, four elements each.
struct Claims {
    left: std::vec::IntoIter<Value>,
    now: Timestamp,
    /// What was told last: of alike jobs it is told once.
    told: Option<(Epoch, Result<About, Error>)>,
    options: LastOptions,
}

impl Claims {
    /// The lease of the next claim, and its job as far as it can be read; with whether its payload is to come.
    #[expect(clippy::type_complexity, reason = "two outcomes, one within the other")]
    fn next(&mut self) -> Result<Option<(Lease, Result<(ClaimedJob, bool), Error>)>, Error> {
        let Some(told) = self.left.next() else { return Ok(None) };
        let mut next = || self.left.next().ok_or_else(|| Error::unreadable("a short claim"));
        let (id, spec, payload) = (reply::parsed(next()?)?, next()?, next()?);
        let told = reply::text(told)?;
        if !told.is_empty() {
            self.told = Some((About::epoch(&told)?, About::read(&told)));
        }
        let (epoch, _) = self.told.as_ref().ok_or_else(|| Error::unreadable("no epoch"))?;
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
        let told = self.told.as_ref().map(|(_, about)| about);
        let about = told.expect("an epoch was told").as_ref().map_err(Error::clone)?;
        let spec = Spec::read(&reply::text(spec)?, &mut self.options)?;
        let is_to_come = payload == Value::Nil;
        let payload = if is_to_come { Bytes::new() } else { reply::bytes(payload)? };
        let job = ClaimedJob {
            id: lease.id,
            epoch: lease.epoch,
            queue: about.queue.clone(),
            priority: about.priority,
            task: spec.task,
            attempt: about.attempt,
            payload: Payload { bytes: payload, content_type: spec.options.content_type.clone() },
            options: spec.options,
            created_at: spec.created_at,
            due_at: about.run_at.unwrap_or(spec.created_at),
            claimed_at: self.now,
        };
        Ok((job, is_to_come))
    }
}

/// What is told of a claim beside its id, spec and payload, in five words of which the second is its epoch.
struct About {
    queue: QueueName,
    attempt: u32,
    priority: Priority,
    run_at: Option<Timestamp>,
}

impl About {
    /// Whatever else it says, with the epoch the job can be given back.
    fn epoch(text: &str) -> Result<Epoch, Error> {
        reply::parse(text.split(' ').nth(1).unwrap_or_default()).map(Epoch::new)
    }

    fn read(text: &str) -> Result<Self, Error> {
        let words: Vec<_> = text.split(' ').collect();
        let Ok([queue, _epoch, attempt, priority, run_at]) = <[&str; 5]>::try_from(words) else {
            return Err(Error::unreadable(format!("{text:?} does not tell of a claim")));
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
        assert_eq!(wants, [20, 20, 19, 16, 12]);
    }
}
