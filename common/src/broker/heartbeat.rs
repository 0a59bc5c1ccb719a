//! What a worker says while it works: that it lives, what it knows how to do, and how far its jobs are.

use std::time::Duration;

use redis::{Cmd, Value};
use serde::{Deserialize, Serialize};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::lease::{LeaseKey, WorkerId};
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;
use crate::task::{TaskDescriptor, TaskName};
use crate::time::{Timestamp, whole_ms};

/// Who a worker is, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Host name; a label only.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// Version of the worker library.
    pub version: String,
    /// Tasks it has code for.
    pub tasks: Vec<TaskName>,
    /// Queues it claims from.
    pub queues: Vec<QueueName>,
    /// How many jobs it runs at once.
    pub slots: usize,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
}

/// One beat.
#[derive(Debug)]
pub struct Heartbeat<'a> {
    /// Who beats.
    pub worker: WorkerId,
    /// How long each lease is held from now.
    pub lease: Duration,
    /// Who that is.
    pub info: &'a WorkerInfo,
    /// How many of its slots run a job, over all partitions.
    pub busy: usize,
    /// Leases to extend; all of one partition.
    pub leases: &'a [LeaseKey],
}

/// What came back of a beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beaten {
    /// What became of each lease, in their order.
    pub verdicts: Vec<Verdict>,
    /// Whether Redis lost its memory: it must be told again what this worker knows, by [`Broker::announce`].
    pub forgotten: bool,
    /// Whether a sweep was due and is not done: it goes on with [`Broker::sweep`].
    pub sweep_on: bool,
}

/// What a beat says of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Extended.
    Held,
    /// Extended, and somebody wants the job to stop.
    Cancel,
    /// Not ours any more.
    Lost,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// 0 to 1.
    pub fraction: f64,
    /// What it does right now; at most 1 KiB, may be empty.
    pub message: String,
}

/// Log lines of a job, oldest first. None holds a line break; each is at most 4 KiB.
pub type LogLines = Vec<String>;

/// What one running job has to say since its last report.
#[derive(Debug, Clone)]
pub struct Report {
    /// The lease it runs under.
    pub lease: LeaseKey,
    /// Its newest progress, if there is any.
    pub progress: Option<Progress>,
    /// New log lines.
    pub log: LogLines,
}

/// One call names no more leases or reports than this.
const BATCH: usize = 50;

impl Broker {
    /// Extends leases and tells which were lost or should be canceled; sweeps when a sweep is due.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; beat again.
    pub async fn heartbeat(
        &self,
        partition: Partition,
        beat: &Heartbeat<'_>,
    ) -> Result<Beaten, Error> {
        let info = serde_json::to_vec(beat.info).expect("a worker's description is plain text");
        let mut beaten = Beaten {
            verdicts: Vec::with_capacity(beat.leases.len()),
            forgotten: false,
            sweep_on: false,
        };
        let mut batches: Vec<_> = beat.leases.chunks(BATCH).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        let mut first = true;
        for leases in batches {
            let arguments = |command: &mut Cmd| {
                command
                    .arg(beat.worker.to_string())
                    .arg(whole_ms(beat.lease))
                    .arg(&info[..])
                    .arg(beat.busy)
                    .arg(if first { "" } else { "more" });
                first = false;
                for lease in leases {
                    command.arg(lease.id.to_string()).arg(lease.epoch.number());
                }
            };
            let call = Call::new(Function::Heartbeat, partition).once();
            let reply = self.link.call(call, arguments).await?;
            read_beat(reply, &mut beaten)?;
        }
        Ok(beaten)
    }

    /// Declares tasks to every API, and the queues this worker serves. Founds the key space again if Redis lost it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn announce(
        &self,
        queues: &[QueueName],
        tasks: &[TaskDescriptor],
    ) -> Result<(), Error> {
        for partition in self.partitions() {
            self.found(partition).await?;
            // Descriptors live in the first partition only: there are few, and everybody reads them.
            let tasks = if partition == Partition::default() { tasks } else { &[] };
            let arguments = |command: &mut Cmd| {
                command.arg(queues.len());
                queues.iter().for_each(|queue| {
                    command.arg(queue.as_str());
                });
                for task in tasks {
                    let json =
                        serde_json::to_vec(task).expect("a descriptor is plain text and numbers");
                    command.arg(task.name.as_str()).arg(json);
                }
            };
            self.link.call(Call::new(Function::Announce, partition), arguments).await?;
        }
        Ok(())
    }

    /// Says goodbye: this worker holds no lease any more.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; the worker is then forgotten 30 s after its last beat.
    pub async fn leave(&self, worker: WorkerId) -> Result<(), Error> {
        for partition in self.partitions() {
            let arguments = |command: &mut Cmd| {
                command.arg(worker.to_string());
            };
            self.link.call(Call::new(Function::Leave, partition), arguments).await?;
        }
        Ok(())
    }

    /// Writes progress and log lines of running jobs of one partition. Returns which leases were stale.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away, [`Error::Full`] if it is full; the report is then lost, and the next one
    /// tells more.
    pub async fn report(
        &self,
        partition: Partition,
        worker: WorkerId,
        reports: &[Report],
    ) -> Result<Vec<LeaseKey>, Error> {
        let mut stale = Vec::new();
        for batch in reports.chunks(BATCH) {
            let arguments = |command: &mut Cmd| {
                command.arg(worker.to_string());
                batch.iter().for_each(|report| write_report(command, report));
            };
            let reply =
                self.link.call(Call::new(Function::Report, partition).once(), arguments).await?;
            for (report, code) in batch.iter().zip(reply::array(reply)?) {
                if reply::integer(&code)? < 0 {
                    stale.push(report.lease);
                }
            }
        }
        Ok(stale)
    }
}

fn read_beat(reply: Value, beaten: &mut Beaten) -> Result<(), Error> {
    let mut replies = reply::array(reply)?.into_iter();
    let (Some(founded), Some(more)) = (replies.next(), replies.next()) else {
        return Err(Error::unreadable("a short reply to heartbeat"));
    };
    beaten.forgotten |= reply::integer(&founded)? == 0;
    beaten.sweep_on |= reply::integer(&more)? == 1;
    for verdict in replies {
        beaten.verdicts.push(match reply::integer(&verdict)? {
            1 => Verdict::Held,
            2 => Verdict::Cancel,
            _ => Verdict::Lost,
        });
    }
    Ok(())
}

fn write_report(command: &mut Cmd, report: &Report) {
    command.arg(report.lease.id.to_string()).arg(report.lease.epoch.number());
    match &report.progress {
        Some(progress) => command.arg(progress.fraction.to_string()).arg(&progress.message),
        None => command.arg("").arg(""),
    };
    command.arg(report.log.join("\n"));
}
