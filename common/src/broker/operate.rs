//! The operators' actions: cancel, retry, redrive, delete, pause, resume, purge. Rare, so they share the pool.

use std::collections::BTreeMap;

use redis::{Cmd, Value};

use super::error::Error;
use super::functions::Function;
use super::record::Lookup;
use super::{Broker, reply};
use crate::job::{JobId, Partition, Status};
use crate::queue::QueueName;
use crate::task::TaskName;

/// The outcome of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The job is now canceled.
    Canceled,
    /// The job was already canceled.
    AlreadyCanceled,
    /// The job is running; cancellation was requested from its worker.
    Requested,
    /// The job had already ended otherwise.
    AlreadyEnded,
}

/// The outcome of a retry by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOutcome {
    /// The job is queued again.
    Queued,
    /// The job had neither failed nor been canceled.
    NotEnded,
    /// Its queue has a limit since, and the job is not where the jobs of that queue are.
    Elsewhere,
    /// This job holds its lock.
    Locked(JobId),
}

/// The outcome of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// Only a tombstone is left.
    Deleted,
    /// The job has not ended yet.
    NotEnded,
}

crate::word_enum! {
    /// What to do with many jobs.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum BulkAction {
        /// As [`Broker::cancel`].
        Cancel = "cancel",
        /// As [`Broker::retry`].
        Retry = "retry",
        /// As [`Broker::delete`].
        Delete = "delete",
    }
}

impl BulkAction {
    /// Whether it changes jobs with that status.
    #[must_use]
    pub const fn applies_to(self, status: Status) -> bool {
        match self {
            Self::Cancel => !status.is_terminal(),
            Self::Retry => matches!(status, Status::Failed | Status::Canceled),
            Self::Delete => status.is_terminal(),
        }
    }

    const fn function(self) -> Function {
        match self {
            Self::Cancel => Function::Cancel,
            Self::Retry => Function::Retry,
            Self::Delete => Function::Delete,
        }
    }
}

/// What an action on many jobs did with one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acted {
    /// It is canceled, queued again, or deleted.
    Done,
    /// It runs, and its worker was asked to cancel it.
    Requested,
    /// It was left as it was: it does not exist, or its status does not allow the action.
    Left,
}

/// How many calls are sent at once: Redis serves no other client until it has run them.
const CALLS_AT_ONCE: usize = 32;

impl Broker {
    /// Applies an action to each of these jobs, each in a step of its own. Returns what it did with each, in their order.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable, [`Error::Full`] if it accepts no new jobs; some may have been
    /// changed.
    pub async fn act_on(&self, action: BulkAction, ids: &[JobId]) -> Result<Vec<Acted>, Error> {
        let mut acted = vec![Acted::Left; ids.len()];
        let mut places: BTreeMap<Partition, Vec<usize>> = BTreeMap::new();
        for (place, id) in ids.iter().enumerate().filter(|(_, id)| self.may_contain(**id)) {
            places.entry(id.partition()).or_default().push(place);
        }
        for (partition, places) in places {
            for places in places.chunks(CALLS_AT_ONCE) {
                let mut calls = redis::pipe();
                for &place in places {
                    let mut call = self.settings.call(action.function(), partition);
                    call.arg(ids[place].to_string());
                    calls.add_command(call);
                }
                let codes = self.pooled(partition, &calls).await?;
                for (&place, code) in places.iter().zip(codes) {
                    acted[place] = match code {
                        Value::Int(1) => Acted::Done,
                        Value::Int(2) => Acted::Requested,
                        _ => Acted::Left,
                    };
                }
            }
        }
        Ok(acted)
    }

    /// Cancels a waiting job, or requests cancellation of a running one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; retry.
    pub async fn cancel(&self, id: JobId) -> Result<Lookup<CancelOutcome>, Error> {
        self.on_job(Function::Cancel, id).await?.try_map(|code| match code {
            1 => Ok(CancelOutcome::Canceled),
            3 => Ok(CancelOutcome::AlreadyCanceled),
            2 => Ok(CancelOutcome::Requested),
            0 => Ok(CancelOutcome::AlreadyEnded),
            code => Err(Error::unreadable(format!("cancel returned {code}"))),
        })
    }

    /// Queues a failed or canceled job again, under the same id.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable, [`Error::Full`] if it accepts no new jobs.
    pub async fn retry(&self, id: JobId) -> Result<Lookup<RetryOutcome>, Error> {
        self.reply_of(Function::Retry, id).await?.try_map(|reply| match reply {
            Value::Int(1) => Ok(RetryOutcome::Queued),
            Value::Int(0) => Ok(RetryOutcome::NotEnded),
            Value::Int(-1) => Ok(RetryOutcome::Elsewhere),
            reply => {
                let [_locked, holder] = reply::fields(reply)?;
                reply::parsed(holder).map(RetryOutcome::Locked)
            }
        })
    }

    /// Deletes a finished job; a tombstone remains for 24 h.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; retry.
    pub async fn delete(&self, id: JobId) -> Result<Lookup<DeleteOutcome>, Error> {
        self.on_job(Function::Delete, id).await?.try_map(|code| match code {
            1 => Ok(DeleteOutcome::Deleted),
            0 => Ok(DeleteOutcome::NotEnded),
            code => Err(Error::unreadable(format!("delete returned {code}"))),
        })
    }

    /// Queues up to `limit` dead letters of a queue again, the oldest first; of all tasks, or of one. A job that fails
    /// again meanwhile is skipped. Returns their number; `None` if the queue does not exist.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; some may have been redriven.
    pub async fn redrive(
        &self,
        queue: &QueueName,
        task: Option<&TaskName>,
        limit: u64,
    ) -> Result<Option<u64>, Error> {
        let mut total = None;
        for partition in self.partitions() {
            let remaining = limit - total.unwrap_or(0);
            if let Some(redriven) = self.redrive_in(partition, queue, task, remaining).await? {
                total = Some(total.unwrap_or(0) + redriven);
            }
        }
        Ok(total)
    }

    async fn redrive_in(
        &self,
        partition: Partition,
        queue: &QueueName,
        task: Option<&TaskName>,
        limit: u64,
    ) -> Result<Option<u64>, Error> {
        let (mut total, mut skip, mut since) = (0, 0, String::new());
        loop {
            let arguments = |command: &mut Cmd| {
                command
                    .arg(queue.as_str())
                    .arg(limit - total)
                    .arg(task.map_or("", TaskName::as_str))
                    .arg(skip)
                    .arg(&since);
            };
            let reply = self.operate(Function::Redrive, partition, arguments).await?;
            let [redriven, skipped, read, first] = reply::fields(reply)?;
            match reply::integer(&redriven)? {
                -1 => return Ok(None),
                -2 => return Ok(Some(total)),
                _ => {}
            }
            since = reply::text(first)?;
            total += reply::unsigned(&redriven)?;
            skip += reply::unsigned(&skipped)?;
            if reply::unsigned(&read)? == 0 || total >= limit {
                return Ok(Some(total));
            }
        }
    }

    /// Pauses a queue: none of its jobs are claimed. Running ones continue, new ones are still accepted. Returns
    /// whether the queue exists; one that is `declared` by a task exists before its first job.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; retry.
    pub async fn pause(&self, queue: &QueueName, declared: bool) -> Result<bool, Error> {
        let (mut known, mut missing) = (declared, Vec::new());
        for partition in self.partitions() {
            match self.on_queue(Function::Pause, partition, queue, known).await? {
                true => known = true,
                false => missing.push(partition),
            }
        }
        // Its jobs may be in any partition: if one knows the queue, it is paused in all.
        for partition in missing.into_iter().filter(|_| known) {
            self.on_queue(Function::Pause, partition, queue, true).await?;
        }
        Ok(known)
    }

    /// Resumes a queue: its jobs can be claimed again. Returns whether Redis has any data of that queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; retry.
    pub async fn resume(&self, queue: &QueueName) -> Result<bool, Error> {
        let mut known = false;
        for partition in self.partitions() {
            known |= self.on_queue(Function::Resume, partition, queue, false).await?;
        }
        Ok(known)
    }

    /// Cancels the jobs that wait in a queue, except those that wait for another attempt and those submitted meanwhile.
    /// Returns their number; `None` if the queue does not exist.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; some may have been canceled.
    pub async fn purge(&self, queue: &QueueName) -> Result<Option<u64>, Error> {
        let mut total = None;
        for partition in self.partitions() {
            if let Some(canceled) = self.purge_in(partition, queue).await? {
                total = Some(total.unwrap_or(0) + canceled);
            }
        }
        Ok(total)
    }

    async fn purge_in(
        &self,
        partition: Partition,
        queue: &QueueName,
    ) -> Result<Option<u64>, Error> {
        let (mut total, mut passed, mut since) = (0, String::new(), String::new());
        loop {
            let arguments = |command: &mut Cmd| {
                command.arg(queue.as_str()).arg(&passed).arg(&since);
            };
            let reply = self.operate(Function::Purge, partition, arguments).await?;
            let [canceled, now_passed, more, first] = reply::fields(reply)?;
            if reply::integer(&canceled)? < 0 {
                return Ok(None);
            }
            since = reply::text(first)?;
            total += reply::unsigned(&canceled)?;
            passed = reply::text(now_passed)?;
            if reply::unsigned(&more)? == 0 {
                return Ok(Some(total));
            }
        }
    }

    /// Pauses or resumes a queue in one partition. Returns whether it is known there.
    async fn on_queue(
        &self,
        function: Function,
        partition: Partition,
        queue: &QueueName,
        known: bool,
    ) -> Result<bool, Error> {
        let arguments = |command: &mut Cmd| {
            command.arg(queue.as_str()).arg(if known { "1" } else { "" });
        };
        Ok(reply::integer(&self.operate(function, partition, arguments).await?)? == 1)
    }

    /// Calls a function on one job. Only if the job does not exist, a second call reads whether it was deleted.
    async fn on_job(&self, function: Function, id: JobId) -> Result<Lookup<i64>, Error> {
        self.reply_of(function, id).await?.try_map(|reply| reply::integer(&reply))
    }

    async fn reply_of(&self, function: Function, id: JobId) -> Result<Lookup<Value>, Error> {
        if !self.may_contain(id) {
            return Ok(Lookup::Unknown);
        }
        let arguments = |command: &mut Cmd| {
            command.arg(id.to_string());
        };
        match self.operate(function, id.partition(), arguments).await? {
            Value::Int(-2) => Ok(match self.job(id).await? {
                Lookup::Gone(how) => Lookup::Gone(how),
                Lookup::Found(_) | Lookup::Unknown => Lookup::Unknown,
            }),
            reply => Ok(Lookup::Found(reply)),
        }
    }

    async fn operate(
        &self,
        function: Function,
        partition: Partition,
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<Value, Error> {
        let mut command = self.settings.call(function, partition);
        arguments(&mut command);
        self.pooled(partition, redis::pipe().add_command(command))
            .await?
            .pop()
            .ok_or_else(|| Error::unreadable("no reply"))
    }
}
