//! Submission of jobs: the only way to create a job.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redis::Value;
use sha2::{Digest, Sha256};

use super::bulk::LARGE;
use super::connection::Call;
use super::durability::Durability;
use super::error::Error;
use super::functions::Function;
use super::record::{JobRecord, PAYLOAD_LARGE};
use super::transfer::write_time_limit;
use super::webhook::Webhook;
use super::{Broker, Settings, reply};
use crate::job::{JobId, JobOptions, Partition, Priority, Status, TraceContext};
use crate::queue::QueueName;
use crate::task::TaskName;
use crate::telemetry::metrics::{JOBS_SUBMITTED, labels};
use crate::time::{Timestamp, whole_ms};

/// Maximum number of jobs of one queue in a call: about a third of a millisecond of Redis' time.
const BATCH_JOBS: usize = 50;
/// Each further queue of a call costs as much as this many jobs: its depth is read, its lists are written, a worker is
/// woken.
const QUEUE_COSTS: usize = 2;
/// Maximum number of bytes in a call; a single larger job is sent alone.
const BATCH_BYTES: usize = 128 * 1024;
/// How long an idempotency key is kept, and its job with it.
pub const IDEMPOTENCY_KEPT: Duration = Duration::from_secs(24 * 3600);

/// When a job is to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As soon as a worker is free.
    Now,
    /// This long after Redis accepted it.
    After(Duration),
    /// At this time of Redis' clock; a time in the past means now.
    At(Timestamp),
}

/// Identifies a request, so that the same request sent twice creates one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    digest: [u8; 32],
    fingerprint: [u8; 32],
}

impl Idempotency {
    /// Hashes a key within its scope (which client requests what), and the whole request as its fingerprint. Each part
    /// may contain any bytes; they are hashed with their lengths, so that two scopes are never confused.
    #[must_use]
    pub fn new(scope: &[&[u8]], request: &[&[u8]]) -> Self {
        Self { digest: hash(scope), fingerprint: hash(request) }
    }

    fn partition(&self, partitions: u16) -> Partition {
        let number = u16::from_be_bytes([self.digest[0], self.digest[1]]) % partitions;
        Partition::new(number).expect("the configuration bounds the number of partitions")
    }
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Half of a SHA-256 as hex: 128 bits, enough to rule out accidental collisions, in half the memory.
fn hex(hash: &[u8; 32]) -> String {
    hash[..16].iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A job to submit: all options are resolved and checked.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id, from [`Broker::new_id`]. Submitting the same id again is the same submission.
    pub id: JobId,
    /// Its task.
    pub task: TaskName,
    /// Its queue.
    pub queue: QueueName,
    /// Its priority within the queue.
    pub priority: Priority,
    /// When it starts.
    pub start: Start,
    /// Its input.
    pub payload: Bytes,
    /// How it is run.
    pub options: JobOptions,
    /// How long it is kept after its end, whatever its outcome. `None`: succeeded and canceled 24 h, failed 30 days.
    pub retention: Option<Duration>,
    /// The idempotency key, if the client gave one.
    pub idempotency: Option<Idempotency>,
    /// How durable it must be before it is answered; at least the broker's minimum durability. Not stored with the job.
    pub durability: Durability,
    /// The receiver to notify of its end.
    pub webhook: Option<Webhook>,
}

/// The outcome of a submission.
#[derive(Debug, Clone, PartialEq)]
pub enum Enqueued {
    /// The job was accepted.
    Created(Box<JobRecord>),
    /// A job with this id was accepted before: the reply was lost.
    AlreadyCreated(JobId),
    /// An earlier request with the same key and the same content created this job.
    Replayed(JobId),
    /// The key was already used for a different request.
    Conflict,
}

impl Broker {
    /// Generates an id for a job to submit; if it has an idempotency key, the key determines the partition.
    #[must_use]
    pub fn new_id(&self, idempotency: Option<&Idempotency>) -> JobId {
        let partitions = self.settings.partitions;
        let partition = idempotency.map_or_else(
            || {
                Partition::new(rand::random_range(0..partitions))
                    .expect("the configuration bounds the number")
            },
            |key| key.partition(partitions),
        );
        JobId::generate(partition)
    }

    /// Submits many jobs; returns one answer per job, in their order. Not all-or-nothing. Once Redis does not reply,
    /// the rest is not tried, so the time is that of one call.
    ///
    /// Concurrent submissions of the same durability share a call; none waits for a higher durability than it requires.
    ///
    /// # Errors
    /// Per job: with [`Error::Full`], [`Error::QueueFull`], [`Error::TooManyQueues`], [`Error::Busy`] and
    /// [`Error::Refused`] it was not accepted; with [`Error::Unavailable`] and [`Error::NotDurable`] it may have been,
    /// and may be submitted again with the same id.
    pub async fn enqueue(&self, jobs: &[NewJob]) -> Vec<Result<Enqueued, Error>> {
        let durability_of = |job: &NewJob| self.min_durability.durability.and(job.durability);
        let Some(first) = jobs.first().map(durability_of) else { return Vec::new() };
        if jobs.iter().all(|job| durability_of(job) == first) {
            return self.enqueue_as(first, &jobs.iter().collect::<Vec<_>>()).await;
        }
        let mut groups: [Vec<usize>; Durability::COUNT] = Default::default();
        for (index, job) in jobs.iter().enumerate() {
            groups[durability_of(job).number()].push(index);
        }
        let groups = groups.into_iter().zip(Durability::ALL).filter(|(group, _)| !group.is_empty());
        let results = join_all(groups.map(async |(group, durability)| {
            let jobs: Vec<_> = group.iter().map(|&index| &jobs[index]).collect();
            group.into_iter().zip(self.enqueue_as(durability, &jobs).await)
        }));
        let mut answers = unanswered(jobs.len());
        results.await.into_iter().flatten().for_each(|(index, answer)| answers[index] = answer);
        answers
    }

    /// Submits jobs that all require the same durability.
    async fn enqueue_as(
        &self,
        durability: Durability,
        jobs: &[&NewJob],
    ) -> Vec<Result<Enqueued, Error>> {
        match durability.is_memory().then(|| self.submitters.try_direct()).flatten() {
            Some(_permit) => self.enqueue_directly(jobs).await,
            None => self.submitters.of(durability).submit(jobs).await,
        }
    }

    async fn enqueue_directly(&self, jobs: &[&NewJob]) -> Vec<Result<Enqueued, Error>> {
        let mut answers = unanswered(jobs.len());
        let mut failure = None;
        for batch in batches(jobs) {
            let replies = match &failure {
                Some(error) => Err(Error::clone(error)),
                None => self.enqueue_batch(&select(jobs, &batch)).await,
            };
            failure = failure.or_else(|| replies.as_ref().err().cloned());
            store_answers(&mut answers, &batch, replies);
        }
        answers
    }

    async fn enqueue_batch(&self, jobs: &[&NewJob]) -> Result<Vec<Result<Enqueued, Error>>, Error> {
        let bytes = jobs.iter().map(|job| job.payload.len()).sum();
        if is_large(jobs[0]) {
            let mut pipeline = redis::pipe();
            write_call(&mut pipeline, &self.settings, jobs);
            // Not on the shared connection: other calls would wait for it, and the first to time out would drop the
            // connection.
            let replies = self.uploads.write(&pipeline, write_time_limit(bytes, 0)).await?;
            return read_call(jobs, &mut replies.into_iter());
        }
        let call = Call::new(Function::Enqueue, jobs[0].id.partition()).carrying(bytes);
        let arguments = |command: &mut redis::Cmd| write_batch(command, &self.settings, jobs);
        read_batch(jobs, self.link.call(call, arguments).await?)
    }
}

/// The initial answers, which callers replace: one that remains is a job without a reply.
fn unanswered(count: usize) -> Vec<Result<Enqueued, Error>> {
    vec![Err(Error::unreadable("no reply to a submission")); count]
}

pub(crate) fn select<'a>(jobs: &[&'a NewJob], batch: &[usize]) -> Vec<&'a NewJob> {
    batch.iter().map(|&index| jobs[index]).collect()
}

/// Stores the answers of one batch at the indexes of its jobs.
fn store_answers(
    answers: &mut [Result<Enqueued, Error>],
    batch: &[usize],
    replies: Result<Vec<Result<Enqueued, Error>>, Error>,
) {
    let replies = replies.unwrap_or_else(|error| vec![Err(error); batch.len()]);
    batch.iter().zip(replies).for_each(|(&index, reply)| answers[index] = reply);
}

/// Parses the replies to several calls, one per batch.
pub(crate) fn read_all(
    jobs: &[&NewJob],
    batches: &[Vec<usize>],
    replies: &mut impl Iterator<Item = Result<Value, Error>>,
) -> Vec<Result<Enqueued, Error>> {
    let mut answers = unanswered(jobs.len());
    for batch in batches {
        store_answers(&mut answers, batch, read_call(&select(jobs, batch), replies));
    }
    answers
}

/// Parses the replies to the commands of [`write_call`].
fn read_call(
    jobs: &[&NewJob],
    replies: &mut impl Iterator<Item = Result<Value, Error>>,
) -> Result<Vec<Result<Enqueued, Error>>, Error> {
    let count = if is_large(jobs[0]) { PRESTORE_COMMANDS } else { 1 };
    // All of them are consumed, even if the first is an error: the next ones belong to other calls.
    let replies: Vec<_> = replies.take(count).collect();
    let replies = replies.into_iter().collect::<Result<Vec<_>, _>>()?;
    let last =
        replies.into_iter().last().ok_or_else(|| Error::unreadable("no reply to a submission"))?;
    match count {
        1 => read_batch(jobs, last),
        _ => {
            let [_prestored, reply] = reply::fields(last)?;
            read_batch(jobs, reply)
        }
    }
}

fn read_batch(jobs: &[&NewJob], reply: Value) -> Result<Vec<Result<Enqueued, Error>>, Error> {
    let mut replies = reply::array(reply)?.into_iter();
    let now =
        replies.next().ok_or_else(|| Error::unreadable("reply to a submission without a time"))?;
    let now = Timestamp::from_unix_ms(reply::unsigned(&now)?);
    Ok(jobs.iter().zip(replies).map(|(job, reply)| read_reply(job, now, reply)).collect())
}

/// Groups jobs by partition into calls within the limits; the order within a partition is preserved.
pub(crate) fn batches(jobs: &[&NewJob]) -> Vec<Vec<usize>> {
    let mut open: BTreeMap<Partition, Batch<'_>> = BTreeMap::new();
    let mut full = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let batch = open.entry(job.id.partition()).or_default();
        if !batch.has_room_for(job) {
            full.push(std::mem::take(batch).jobs);
        }
        batch.add(index, job);
    }
    full.extend(open.into_values().map(|batch| batch.jobs));
    full
}

/// The jobs of one call.
#[derive(Default)]
struct Batch<'a> {
    jobs: Vec<usize>,
    queues: HashSet<&'a QueueName>,
    bytes: usize,
    large: bool,
}

impl<'a> Batch<'a> {
    fn has_room_for(&self, job: &NewJob) -> bool {
        let more_queues = usize::from(!self.queues.contains(&job.queue));
        // The cost of the first queue is part of the call.
        let queues = (self.queues.len() + more_queues).saturating_sub(1);
        let cost = self.jobs.len() + 1 + queues * QUEUE_COSTS;
        let fits = cost <= BATCH_JOBS && self.bytes + size(job) <= BATCH_BYTES;
        self.jobs.is_empty() || (fits && !self.large && !is_large(job))
    }

    fn add(&mut self, index: usize, job: &'a NewJob) {
        self.jobs.push(index);
        self.queues.insert(&job.queue);
        self.bytes += size(job);
        self.large = is_large(job);
    }
}

/// Whether its payload does not pass through the function, which would copy it twice while Redis serves no other call:
/// it is stored by a separate command first, in the same transaction. Such a job has its own call.
pub(crate) fn is_large(job: &NewJob) -> bool {
    job.payload.len() > LARGE
}

/// Approximate number of bytes of a job in a call.
pub(crate) fn size(job: &NewJob) -> usize {
    let trace = job.options.trace.as_ref().map_or(0, TraceContext::size);
    let webhook = job.webhook.as_ref().map_or(0, |webhook| webhook.url.len() + trace + 256);
    job.payload.len() + job.options.metadata.size() + trace + webhook + 256
}

/// Number of commands of a call that stores a large payload first: `MULTI`, `HSET`, `FCALL`, `EXEC`.
const PRESTORE_COMMANDS: usize = 4;

/// Writes one call: a command, or a transaction that also stores the payload. Redis runs all of it or nothing: if it is
/// full, it rejects the first command.
pub(crate) fn write_call(pipeline: &mut redis::Pipeline, settings: &Settings, jobs: &[&NewJob]) {
    let partition = jobs[0].id.partition();
    let mut call = settings.call(Function::Enqueue, partition);
    write_batch(&mut call, settings, jobs);
    if let [job] = jobs
        && is_large(job)
    {
        let key = settings.keys(partition).job(job.id);
        pipeline.cmd("MULTI").cmd("HSET").arg(key).arg(PAYLOAD_LARGE).arg(&job.payload[..]);
        pipeline.add_command(call).cmd("EXEC");
    } else {
        pipeline.add_command(call);
    }
}

/// Writes the arguments of one call.
fn write_batch(command: &mut redis::Cmd, settings: &Settings, jobs: &[&NewJob]) {
    command.arg(settings.memory_watermark).arg(settings.max_queue_depth).arg(settings.max_queues);
    let jobs: Vec<_> = jobs.iter().map(|&job| (job, extras(job))).collect();
    for run in jobs.chunk_by(|(a, of_a), (b, of_b)| a.queue == b.queue && of_a.len() == of_b.len())
    {
        let (first, extras) = &run[0];
        command.arg(first.queue.as_str()).arg(run.len()).arg(extras.len());
        run.iter().for_each(|(job, extras)| write_job(command, job, extras));
    }
}

/// Writes one job's arguments; `lua/enqueue.lua` reads them in the same order.
fn write_job(command: &mut redis::Cmd, job: &NewJob, extras: &[(&str, String)]) {
    let mut spec = format!("{} ", job.task).into_bytes();
    serde_json::to_writer(&mut spec, &job.options).expect("options are plain numbers and text");
    let payload = if is_large(job) { &[][..] } else { &job.payload[..] };
    command.arg(job.id.to_string()).arg(spec).arg(payload);
    for (name, value) in extras {
        command.arg(name).arg(value);
    }
}

/// The options of a job that most jobs do not have, by name.
fn extras(job: &NewJob) -> Vec<(&'static str, String)> {
    let mut extras = Vec::new();
    match job.start {
        Start::Now => {}
        Start::After(delay) => extras.push(("after", whole_ms(delay).to_string())),
        Start::At(time) => extras.push(("at", time.unix_ms().to_string())),
    }
    if let Some(deadline) = job.options.deadline {
        extras.push(("deadline", whole_ms(deadline).to_string()));
    }
    if job.priority != Priority::default() {
        extras.push(("priority", job.priority.as_str().to_owned()));
    }
    if let Some(retention) = job.retention {
        extras.push(("retention", whole_ms(retention).to_string()));
    }
    if let Some(key) = &job.idempotency {
        extras.push(("digest", hex(&key.digest)));
        extras.push(("fingerprint", hex(&key.fingerprint)));
        extras.push(("keep", whole_ms(IDEMPOTENCY_KEPT).to_string()));
    }
    if is_large(job) {
        extras.push(("prestored", "1".to_owned()));
    }
    if let Some(webhook) = &job.webhook {
        extras.push(("webhook", webhook.field()));
    }
    extras
}

fn read_reply(job: &NewJob, now: Timestamp, reply: Value) -> Result<Enqueued, Error> {
    let (code, mut parts) = match reply {
        Value::Array(parts) => {
            let mut parts = parts.into_iter();
            let code = parts.next().ok_or_else(|| Error::unreadable("no reply to a submission"))?;
            (reply::integer(&code)?, parts)
        }
        code => (reply::integer(&code)?, Vec::new().into_iter()),
    };
    let mut id =
        || parts.next().ok_or_else(|| Error::unreadable("reply to a submission without an id"));
    match code {
        1 => {
            let run_at = parts.next().as_ref().map(reply::unsigned).transpose()?;
            let labels = labels(job.task.as_str(), job.queue.as_str(), &[]);
            metrics::counter!(JOBS_SUBMITTED, labels).increment(1);
            Ok(Enqueued::Created(Box::new(created(job, now, run_at.map(Timestamp::from_unix_ms)))))
        }
        2 => reply::parsed(id()?).map(Enqueued::AlreadyCreated),
        3 => reply::parsed(id()?).map(Enqueued::Replayed),
        -1 => Ok(Enqueued::Conflict),
        -2 => Err(Error::Full),
        -3 => Err(Error::QueueFull { queue: job.queue.clone() }),
        -4 => Err(Error::TooManyQueues { queue: job.queue.clone() }),
        code => Err(Error::unreadable(format!("enqueue returned {code}"))),
    }
}

/// The record as Redis stored it, without reading it; scheduled if it has a due time.
fn created(job: &NewJob, now: Timestamp, run_at: Option<Timestamp>) -> JobRecord {
    JobRecord {
        id: job.id,
        task: job.task.clone(),
        queue: job.queue.clone(),
        priority: job.priority,
        status: if run_at.is_some() { Status::Scheduled } else { Status::Queued },
        options: job.options.clone(),
        version: 1,
        attempt: 0,
        losses: 0,
        epoch: None,
        worker: None,
        cancel_requested: false,
        progress: None,
        progress_message: None,
        created_at: now,
        run_at,
        started_at: None,
        finished_at: None,
        expires_at: None,
        error: None,
        waiting_for: None,
        result: None,
    }
}
