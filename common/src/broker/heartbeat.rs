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
    /// Tasks that its machine cannot run for now. Of many it names some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspended: Vec<SuspendedTask>,
}

/// A task of which a worker takes no jobs for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspendedTask {
    /// The task.
    pub task: TaskName,
    /// Why the worker's machine cannot run it.
    pub reason: String,
    /// When the worker takes its jobs again, by its own clock.
    pub until: Timestamp,
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

/// What one running job has reported and Redis has not confirmed. Sending it again writes nothing twice.
#[derive(Debug, Clone)]
pub struct Report {
    /// The lease it runs under.
    pub lease: LeaseKey,
    /// Its newest progress, if it is not confirmed, with its number: how many there were in this attempt.
    pub progress: Option<(u64, Progress)>,
    /// Number of the first line of `log`, counted from 1 in each attempt. Lines that were dropped before it leave a gap,
    /// which the log shows.
    pub first_line: u64,
    /// Log lines that are not confirmed.
    pub log: LogLines,
}

impl Report {
    /// How many bytes it carries.
    fn size(&self) -> usize {
        let progress = self.progress.as_ref().map_or(0, |(_, progress)| progress.message.len());
        progress + self.log.iter().map(|line| line.len() + 1).sum::<usize>()
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// Redis has it.
    Confirmed,
    /// The lease is lost or settled; nothing was written.
    Stale,
    /// Redis is nearly full; nothing was written.
    Full,
}

/// One call names no more leases, reports, queues or tasks than this.
const BATCH: usize = 50;
/// One call carries no more bytes of reports or tasks than this, so that it takes less than a millisecond of Redis' time; a single
/// larger one passes alone.
const BATCH_BYTES: usize = 128 * 1024;

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
    /// [`Error::Unavailable`] if Redis is away, [`Error::TooManyTasks`] if new tasks were not taken; all else was.
    pub async fn announce(
        &self,
        queues: &[QueueName],
        tasks: &[TaskDescriptor],
    ) -> Result<(), Error> {
        for partition in self.partitions() {
            self.initialize(partition).await?;
            for queues in queues.chunks(BATCH) {
                self.announce_some(partition, queues, &[]).await?;
            }
        }
        let mut refused = Vec::new();
        // Descriptors live in the first partition only: there are few, and everybody reads them.
        let mut left = tasks;
        while !left.is_empty() {
            let batch = first_batch(left, description_size);
            refused.extend(self.announce_some(Partition::default(), &[], batch).await?);
            left = &left[batch.len()..];
        }
        if refused.is_empty() { Ok(()) } else { Err(Error::TooManyTasks { tasks: refused }) }
    }

    /// Returns the tasks that were not taken.
    async fn announce_some(
        &self,
        partition: Partition,
        queues: &[QueueName],
        tasks: &[TaskDescriptor],
    ) -> Result<Vec<TaskName>, Error> {
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
        let bytes = tasks.iter().map(description_size).sum();
        let call = Call::new(Function::Announce, partition).carrying(bytes);
        let reply = self.link.call(call, arguments).await?;
        reply::array(reply)?.into_iter().map(reply::parsed).collect()
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

    /// Writes progress and log lines of running jobs of one partition. Returns what became of each, in their order. With
    /// `last` the attempts have ended: what Redis has no room for is then counted in the log and not asked for again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away: send the same again.
    pub async fn report(
        &self,
        partition: Partition,
        worker: WorkerId,
        reports: &[Report],
        last: bool,
    ) -> Result<Vec<Reported>, Error> {
        let mut outcomes = Vec::with_capacity(reports.len());
        while outcomes.len() < reports.len() {
            let batch = first_batch(&reports[outcomes.len()..], Report::size);
            let arguments = |command: &mut Cmd| {
                command.arg(worker.to_string()).arg(if last { "last" } else { "" });
                batch.iter().for_each(|report| write_report(command, report));
            };
            let bytes = batch.iter().map(Report::size).sum();
            let call = Call::new(Function::Report, partition).once().carrying(bytes);
            let codes = reply::array(self.link.call(call, arguments).await?)?;
            if codes.len() != batch.len() {
                return Err(Error::unreadable("report did not answer for each job"));
            }
            for code in codes {
                outcomes.push(read_reported(&code)?);
            }
        }
        Ok(outcomes)
    }
}

/// As many as one call carries.
fn first_batch<T>(all: &[T], size: impl Fn(&T) -> usize) -> &[T] {
    let mut bytes = 0;
    let fit = all.iter().take(BATCH).take_while(|one| {
        bytes += size(one);
        bytes <= BATCH_BYTES
    });
    &all[..fit.count().max(1)]
}

/// How many bytes a declared task takes.
fn description_size(task: &TaskDescriptor) -> usize {
    serde_json::to_vec(task).expect("a descriptor is plain text and numbers").len()
}

fn read_reported(code: &Value) -> Result<Reported, Error> {
    match reply::integer(code)? {
        1 => Ok(Reported::Confirmed),
        -1 => Ok(Reported::Stale),
        -2 => Ok(Reported::Full),
        code => Err(Error::unreadable(format!("report answered {code}"))),
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
        Some((number, Progress { fraction, message })) => {
            command.arg(fraction.to_string()).arg(message).arg(number)
        }
        None => command.arg("").arg("").arg(0),
    };
    let lines = report.log.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
    command.arg(report.first_line).arg(lines);
}
