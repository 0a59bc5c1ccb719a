//! A job to submit: its payload, and all options of its submission.

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::bulk::LARGE;
use super::durability::Durability;
use super::index::IndexId;
use super::record::JobRecord;
use super::scheduled_by::ScheduledBy;
use super::webhook::Webhook;
use crate::job::{GroupName, JobId, JobOptions, Metadata, Priority, Status, TraceContext, Until};
use crate::queue::QueueName;
use crate::task::{TaskDescriptor, TaskName};
use crate::time::{Timestamp, whole_ms};

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

/// Identifies a request that has an idempotency key, so that the same request sent twice creates one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// Hash of the key and of all that it is valid for: Redis stores the job's id under it.
    pub(super) digest: [u8; 32],
    /// Hash of the whole request: another one with the same key is a conflict.
    pub(super) fingerprint: [u8; 32],
}

impl Idempotency {
    /// Hashes a key together with what it is valid for (which client, which route), and the whole request. Each part
    /// may contain any bytes; they are hashed with their lengths, so that two keys are never confused.
    #[must_use]
    pub fn new(key: &[&[u8]], request: &[&[u8]]) -> Self {
        Self { digest: hash(key), fingerprint: hash(request) }
    }
}

/// Identifies a lock: a hash of all that two jobs with the same lock have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockId([u8; 32]);

impl LockId {
    /// Hashes what a job is unique by together with its task, queue and group. The parts may contain any bytes.
    #[must_use]
    pub fn new(
        task: &TaskName,
        queue: &QueueName,
        group: Option<&GroupName>,
        parts: &[&[u8]],
    ) -> Self {
        let group = group.map_or(&[][..], |group| group.as_str().as_bytes());
        let scope = [task.as_str().as_bytes(), queue.as_str().as_bytes(), group];
        Self(hash(&[&scope, parts].concat()))
    }
}

/// Its digest, as keys contain it.
impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&half_as_hex(&self.0))
    }
}

/// A job to submit: all options are resolved and checked.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its id, from [`Broker::new_id`](super::Broker::new_id). Submitting the same id again is the same submission.
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
    /// The indexes that list it.
    pub indexes: Vec<IndexId>,
    /// Its lock, if it is [unique](JobOptions::unique).
    pub lock: Option<LockId>,
    /// The schedule and the tick that it is submitted for.
    pub schedule: Option<ScheduledBy>,
}

impl NewJob {
    /// Creates a job with the defaults of its task, to start now.
    #[must_use]
    pub fn of(task: &TaskDescriptor, id: JobId, payload: impl Into<Bytes>) -> Self {
        let payload = payload.into();
        Self {
            id,
            task: task.name.clone(),
            queue: task.queue.clone(),
            priority: task.priority,
            start: Start::Now,
            options: JobOptions {
                max_attempts: task.max_attempts,
                timeout: task.timeout,
                deadline: None,
                start_within: task.start_within_ms.map(Duration::from_millis),
                backoff: task.backoff,
                content_type: task.content_type.clone(),
                payload_size: payload.len() as u64,
                metadata: Metadata::default(),
                group: None,
                unique: None,
                trace: None,
            },
            payload,
            retention: task.retention_ms.map(Duration::from_millis),
            idempotency: None,
            durability: Durability::MEMORY,
            webhook: None,
            indexes: Vec::new(),
            lock: None,
            schedule: None,
        }
    }

    /// Returns its record as Redis creates it at that time; scheduled if it has a due time.
    #[must_use]
    pub fn record(&self, now: Timestamp, run_at: Option<Timestamp>) -> JobRecord {
        JobRecord {
            id: self.id,
            task: self.task.clone(),
            queue: self.queue.clone(),
            priority: self.priority,
            status: if run_at.is_some() { Status::Scheduled } else { Status::Queued },
            options: self.options.clone(),
            version: 1,
            attempt: 0,
            losses: 0,
            snoozes: 0,
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
            error_group: None,
            schedule: self.schedule.clone(),
            waiting_for: None,
            result: None,
        }
    }

    /// Makes the job, and the deliveries of its webhook, part of a trace.
    pub fn set_trace(&mut self, trace: &TraceContext) {
        self.options.trace = Some(trace.clone());
        if let Some(webhook) = &mut self.webhook {
            webhook.set_trace(trace.clone());
        }
    }

    /// Its lock as `lua/enqueue.lua` reads it: `<digest> <until> <on conflict> <ms>`.
    pub(super) fn unique(&self) -> Option<String> {
        let (lock, unique) = (self.lock.as_ref()?, self.options.unique.as_ref()?);
        let (until, time) = match unique.held_until() {
            Until::Start => ("start", unique.longest_wait()),
            Until::End => ("end", None),
            Until::Time(time) => ("time", Some(time)),
        };
        let ms = time.map_or(0, whole_ms);
        Some(format!("{lock} {until} {} {ms}", unique.conflict()))
    }

    /// Whether a separate command stores its payload, before the function and in the same transaction: the function
    /// would copy it twice while Redis serves no other call. Such a job is not submitted together with others.
    pub(crate) fn is_large(&self) -> bool {
        self.payload.len() > LARGE
    }

    /// Approximate number of bytes of the job in a call, with 256 for the fields that are not counted one by one, and
    /// as many for the options of a webhook.
    pub(crate) fn size(&self) -> usize {
        let trace = self.options.trace.as_ref().map_or(0, TraceContext::size);
        let webhook = self.webhook.as_ref().map_or(0, |webhook| webhook.url.len() + trace + 256);
        let group = self.options.group.as_ref().map_or(0, |group| group.as_str().len());
        self.payload.len() + self.options.metadata.size() + group + trace + webhook + 256
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
pub(super) fn half_as_hex(hash: &[u8; 32]) -> String {
    hash[..16].iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
