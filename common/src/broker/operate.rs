//! The operators' verbs: cancel, retry, redrive, delete, pause, resume, purge. Rare, so they share the pool.

use redis::{Cmd, Value};

use super::error::Error;
use super::functions::Function;
use super::record::Lookup;
use super::{Broker, reply};
use crate::job::{JobId, Partition};
use crate::queue::QueueName;
use crate::task::TaskName;

/// What a cancel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It is canceled now.
    Canceled,
    /// It was canceled before.
    AlreadyCanceled,
    /// It runs; its worker has been told.
    Requested,
    /// It ended otherwise before.
    AlreadyEnded,
}

/// What a retry by hand did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOutcome {
    /// It is queued again.
    Queued,
    /// It had neither failed nor been canceled.
    NotEnded,
}

/// What a delete did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// Only a tombstone is left.
    Deleted,
    /// It has not ended yet.
    NotEnded,
}

impl Broker {
    /// Ends a waiting job, or asks a running one to stop.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; ask again.
    pub async fn cancel(&self, id: JobId) -> Result<Lookup<CancelOutcome>, Error> {
        self.on_job(Function::Cancel, id).await?.try_map(|code| match code {
            1 => Ok(CancelOutcome::Canceled),
            3 => Ok(CancelOutcome::AlreadyCanceled),
            2 => Ok(CancelOutcome::Requested),
            0 => Ok(CancelOutcome::AlreadyEnded),
            code => Err(Error::unreadable(format!("cancel answered {code}"))),
        })
    }

    /// Gives a failed or canceled job a second life under the same id.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away, [`Error::Full`] if it takes no new work.
    pub async fn retry(&self, id: JobId) -> Result<Lookup<RetryOutcome>, Error> {
        self.on_job(Function::Retry, id).await?.try_map(|code| match code {
            1 => Ok(RetryOutcome::Queued),
            0 => Ok(RetryOutcome::NotEnded),
            code => Err(Error::unreadable(format!("retry answered {code}"))),
        })
    }

    /// Forgets a finished job but for a tombstone, which stays 24 h.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; ask again.
    pub async fn delete(&self, id: JobId) -> Result<Lookup<DeleteOutcome>, Error> {
        self.on_job(Function::Delete, id).await?.try_map(|code| match code {
            1 => Ok(DeleteOutcome::Deleted),
            0 => Ok(DeleteOutcome::NotEnded),
            code => Err(Error::unreadable(format!("delete answered {code}"))),
        })
    }

    /// Gives up to `limit` dead letters of a queue a second life, the oldest first; all tasks', or only one's. One that
    /// fails again meanwhile is left. Returns how many; `None` if there is no such queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; some may have been redriven.
    pub async fn redrive(
        &self,
        queue: &QueueName,
        task: Option<&TaskName>,
        limit: u64,
    ) -> Result<Option<u64>, Error> {
        let mut total = None;
        for partition in self.partitions() {
            let left = limit - total.unwrap_or(0);
            if let Some(redriven) = self.redrive_in(partition, queue, task, left).await? {
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
            let [redriven, passed, looked, first] = reply::fields(reply)?;
            if reply::integer(&redriven)? < 0 {
                return Ok(None);
            }
            since = reply::text(first)?;
            total += reply::unsigned(&redriven)?;
            skip += reply::unsigned(&passed)?;
            if reply::unsigned(&looked)? == 0 || total >= limit {
                return Ok(Some(total));
            }
        }
    }

    /// Stops handing out a queue's jobs. Running ones go on, new ones are still taken. Returns whether there is such a queue;
    /// one that is `declared` by a task is there before its first job.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; ask again.
    pub async fn pause(&self, queue: &QueueName, declared: bool) -> Result<bool, Error> {
        let (mut known, mut missing) = (declared, Vec::new());
        for partition in self.partitions() {
            match self.on_queue(Function::Pause, partition, queue, known).await? {
                true => known = true,
                false => missing.push(partition),
            }
        }
        // Its jobs may come to any partition, so where one knows it, it is paused in all.
        for partition in missing.into_iter().filter(|_| known) {
            self.on_queue(Function::Pause, partition, queue, true).await?;
        }
        Ok(known)
    }

    /// Hands out a queue's jobs again. Returns whether anything of that queue is in Redis.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; ask again.
    pub async fn resume(&self, queue: &QueueName) -> Result<bool, Error> {
        let mut known = false;
        for partition in self.partitions() {
            known |= self.on_queue(Function::Resume, partition, queue, false).await?;
        }
        Ok(known)
    }

    /// Cancels what waits in a queue, but for jobs that wait for another attempt. What comes meanwhile is left. Returns how
    /// many; `None` if there is no such queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; some may have been canceled.
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
        let (mut total, mut skip, mut since) = (0, 0, String::new());
        loop {
            let arguments = |command: &mut Cmd| {
                command.arg(queue.as_str()).arg(skip).arg(&since);
            };
            let reply = self.operate(Function::Purge, partition, arguments).await?;
            let [canceled, passed, more, first] = reply::fields(reply)?;
            if reply::integer(&canceled)? < 0 {
                return Ok(None);
            }
            since = reply::text(first)?;
            total += reply::unsigned(&canceled)?;
            skip += reply::unsigned(&passed)?;
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

    /// Calls a verb on one job. Whether an id that is not there was deleted is asked only then.
    async fn on_job(&self, function: Function, id: JobId) -> Result<Lookup<i64>, Error> {
        if !self.holds(id) {
            return Ok(Lookup::Unknown);
        }
        let arguments = |command: &mut Cmd| {
            command.arg(id.to_string());
        };
        match reply::integer(&self.operate(function, id.partition(), arguments).await?)? {
            -2 => Ok(match self.job(id).await? {
                Lookup::Gone(how) => Lookup::Gone(how),
                Lookup::Found(_) | Lookup::Unknown => Lookup::Unknown,
            }),
            code => Ok(Lookup::Found(code)),
        }
    }

    async fn operate(
        &self,
        function: Function,
        partition: Partition,
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<Value, Error> {
        let mut command = redis::cmd("FCALL");
        let name = self.settings.library.name_of(function);
        command.arg(name).arg(1).arg(self.settings.keys(partition).root());
        arguments(&mut command);
        self.pooled(redis::pipe().add_command(command))
            .await?
            .pop()
            .ok_or_else(|| Error::unreadable("no reply"))
    }
}
