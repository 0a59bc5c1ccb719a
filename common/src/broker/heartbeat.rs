//! What a worker reports while it runs: its heartbeats, its tasks, and the progress of its jobs.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use redis::{Cmd, Value};
use serde::{Deserialize, Serialize};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::history::NumberedCounts;
use super::lease::LeaseKey;
use super::sweep::{Swept, in_ms};
use super::worker_id::{WorkerId, host_name};
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;
use crate::task::{TaskDescriptor, TaskName};
use crate::time::{Timestamp, whole_ms};

/// Description of a worker, for operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Host name; a label only.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// Version of the worker library.
    pub version: String,
    /// Tasks it has handlers for.
    pub tasks: Vec<TaskName>,
    /// Queues it claims from.
    pub queues: Vec<QueueName>,
    /// Maximum number of jobs it runs at once.
    pub slots: usize,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
    /// Tasks that its machine cannot run for now. If there are many, only some are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspended: Vec<SuspendedTask>,
    /// Its servers: the pools of long-lived processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerInfo>,
    /// What it does; one of a later version that this one does not know counts as running.
    #[serde(default, deserialize_with = "known_state")]
    pub state: WorkerState,
}

impl WorkerInfo {
    /// Describes a worker in this process, which starts now and has no tasks, queues and slots yet.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            host: host_name(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            tasks: Vec::new(),
            queues: Vec::new(),
            slots: 0,
            started_at: Timestamp::now(),
            suspended: Vec::new(),
            servers: Vec::new(),
            state: WorkerState::Running,
        }
    }
}

/// What a worker does, and what an operator may request that it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// It claims jobs and runs them.
    #[default]
    Running,
    /// It claims no more jobs; those it has continue.
    Quiet,
    /// It claims no more jobs, and ends.
    Stopping,
}

impl WorkerState {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Quiet => "quiet",
            Self::Stopping => "stopping",
        }
    }

    /// Returns the one with this name; a later version may have others.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Running, Self::Quiet, Self::Stopping].into_iter().find(|it| it.as_str() == name)
    }
}

fn known_state<'de, D: serde::Deserializer<'de>>(reader: D) -> Result<WorkerState, D::Error> {
    let name = String::deserialize(reader)?;
    Ok(WorkerState::named(&name).unwrap_or_default())
}

/// The state of a server of a worker: of its pool of long-lived processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its name.
    pub name: String,
    /// How many processes it should have.
    pub processes: usize,
    /// How many are ready to run jobs.
    pub ready: usize,
    /// How many jobs those can run at once.
    pub slots: usize,
    /// Why it has fewer than it should have; at most [`ServerInfo::MAX_PROBLEM_BYTES`].
    pub problem: Option<String>,
}

impl ServerInfo {
    /// The length of a problem: enough for a reason with the last lines of an error output, in a heartbeat of a few
    /// kilobytes.
    pub const MAX_PROBLEM_BYTES: usize = 1024;
}

/// A task of which a worker claims no jobs for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspendedTask {
    /// The task.
    pub task: TaskName,
    /// Why the worker's machine cannot run it.
    pub reason: String,
    /// When the worker claims its jobs again, by its own clock.
    pub until: Timestamp,
}

/// One heartbeat.
#[derive(Debug)]
pub struct Heartbeat<'a> {
    /// The worker that sends it.
    pub worker: WorkerId,
    /// How long each lease is held from now.
    pub lease: Duration,
    /// Its description.
    pub info: &'a WorkerInfo,
    /// How many of its slots run a job, over all partitions.
    pub busy: usize,
    /// Leases to extend; all of one partition.
    pub leases: &'a [LeaseKey],
    /// When this process saw that nothing was due there, if it did: see [`Looks`](super::Looks).
    pub quiet_at: Option<Timestamp>,
    /// How attempts ended, for the history; to the first partition only.
    pub counts: Option<&'a NumberedCounts>,
}

impl<'a> Heartbeat<'a> {
    /// That of a worker which runs nothing.
    #[must_use]
    pub fn idle(worker: WorkerId, lease: Duration, info: &'a WorkerInfo) -> Self {
        Self { worker, lease, info, busy: 0, leases: &[], quiet_at: None, counts: None }
    }
}

/// The reply to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beaten {
    /// The state of each lease, in their order.
    pub verdicts: Vec<Verdict>,
    /// Whether Redis did not know this worker. Unless this is its first heartbeat, Redis may have lost its data, and
    /// [`Broker::announce`] must declare the tasks and queues of the worker again.
    pub forgotten: bool,
    /// Whether a sweep was due and is not finished: [`Broker::sweep`] continues it.
    pub sweep_on: bool,
    /// What an operator requested last, if anything; only the first partition has it.
    pub wanted: Option<WorkerState>,
}

/// The state of one lease after a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Extended.
    Held,
    /// Extended, and cancellation of the job was requested.
    Cancel,
    /// No longer held by this worker.
    Lost,
}

/// Progress of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// 0 to 1.
    pub fraction: f64,
    /// What the job does now; at most 1 KiB, may be empty.
    pub message: String,
}

/// Log lines of a job, oldest first. None contains a line break; each is at most 4 KiB.
pub type LogLines = Vec<String>;

/// What one running job has reported and Redis has not confirmed. Sending it again is idempotent.
#[derive(Debug, Clone)]
pub struct Report {
    /// The lease it runs under.
    pub lease: LeaseKey,
    /// Its newest progress, if it is not confirmed, with its number, counted from 1 in each attempt.
    pub progress: Option<(u64, Progress)>,
    /// Number of the first line of `log`, counted from 1 in each attempt. Lines that were dropped before it leave a
    /// gap, which the log shows.
    pub first_line: u64,
    /// Log lines that are not confirmed.
    pub log: LogLines,
}

impl Report {
    /// Number of bytes it contains.
    fn size(&self) -> usize {
        let progress = self.progress.as_ref().map_or(0, |(_, progress)| progress.message.len());
        progress + self.log.iter().map(|line| line.len() + 1).sum::<usize>()
    }
}

/// The outcome of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// Redis has it.
    Confirmed,
    /// The lease was lost or settled; nothing was written.
    Stale,
    /// Redis is nearly full; nothing was written.
    Full,
}

/// Maximum number of leases, reports, queues or tasks in one call.
const BATCH: usize = 50;
/// Maximum number of bytes of reports or tasks in one call, so that it takes less than a millisecond of Redis' time; a
/// single larger one is sent alone.
const BATCH_BYTES: usize = 128 * 1024;

/// What became of the tasks of an announcement, if it is not all as it was.
#[derive(Debug, Default)]
struct Declared {
    rejected: Vec<TaskName>,
    /// Their declaration was another one.
    replaced: Vec<TaskName>,
}

/// How many partitions get an announcement at once.
const AT_ONCE: usize = 16;

impl Broker {
    /// Extends leases and returns which were lost or should be canceled; sweeps when a sweep is due.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; send another heartbeat.
    pub async fn heartbeat(
        &self,
        partition: Partition,
        heartbeat: &Heartbeat<'_>,
    ) -> Result<Beaten, Error> {
        let info =
            serde_json::to_vec(heartbeat.info).expect("a worker's description is plain text");
        let mut outcome = Beaten {
            verdicts: Vec::with_capacity(heartbeat.leases.len()),
            forgotten: false,
            sweep_on: false,
            wanted: None,
        };
        let mut batches: Vec<_> = heartbeat.leases.chunks(BATCH).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        let mut counts = heartbeat.counts.map(ToString::to_string);
        let mut first = true;
        for leases in batches {
            let arguments = |command: &mut Cmd| {
                command
                    .arg(heartbeat.worker.to_string())
                    .arg(whole_ms(heartbeat.lease))
                    .arg(&info[..])
                    .arg(heartbeat.busy)
                    .arg(if first { "" } else { "more" })
                    .arg(in_ms(heartbeat.quiet_at))
                    .arg(counts.take().unwrap_or_default());
                first = false;
                for lease in leases {
                    command.arg(lease.id.to_string()).arg(lease.epoch.number());
                }
            };
            let call = Call::new(Function::Heartbeat, partition).once();
            let reply = self.link.call(call, arguments).await?;
            let (features, swept) = read_heartbeat(reply, &mut outcome)?;
            swept.report(partition);
            self.settings.check_features(&features)?;
        }
        Ok(outcome)
    }

    /// Declares tasks to every API, and the queues this worker serves. Initializes the key space again if Redis lost
    /// it. Returns the tasks whose declaration in Redis was another one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable, [`Error::TooManyTasks`] if new tasks were rejected; all else was
    /// accepted.
    pub async fn announce(
        &self,
        queues: &[QueueName],
        tasks: &[TaskDescriptor],
    ) -> Result<Vec<TaskName>, Error> {
        let declared = self.declare(tasks).await;
        // A partition that cannot be reached does not hold up the others.
        let announced = stream::iter(self.partitions())
            .map(|partition| self.announce_queues(partition, queues))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>();
        let announced: Result<(), Error> = announced.await.into_iter().collect();
        let Declared { rejected, replaced } = declared?;
        match rejected.is_empty() {
            true => announced.map(|()| replaced),
            false => Err(Error::TooManyTasks { tasks: rejected }),
        }
    }

    /// Declares tasks. Descriptors are in the first partition only: there are few, and every API reads them.
    async fn declare(&self, tasks: &[TaskDescriptor]) -> Result<Declared, Error> {
        let (mut all, mut left) = (Declared::default(), tasks);
        if !tasks.is_empty() {
            self.initialize(Partition::default()).await?;
        }
        while !left.is_empty() {
            let batch = first_batch(left, description_size);
            let declared = self.announce_some(Partition::default(), &[], batch).await?;
            all.rejected.extend(declared.rejected);
            all.replaced.extend(declared.replaced);
            left = &left[batch.len()..];
        }
        Ok(all)
    }

    async fn announce_queues(
        &self,
        partition: Partition,
        queues: &[QueueName],
    ) -> Result<(), Error> {
        self.initialize(partition).await?;
        for queues in queues.chunks(BATCH) {
            self.announce_some(partition, queues, &[]).await?;
        }
        Ok(())
    }

    /// Declares some.
    async fn announce_some(
        &self,
        partition: Partition,
        queues: &[QueueName],
        tasks: &[TaskDescriptor],
    ) -> Result<Declared, Error> {
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
        let [rejected, replaced] = reply::fields(reply)?;
        Ok(Declared { rejected: names(rejected)?, replaced: names(replaced)? })
    }

    /// Removes a worker, which holds no lease any more.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; the worker is then removed 30 s after its last heartbeat.
    pub async fn leave(&self, worker: WorkerId) -> Result<(), Error> {
        let leave = |partition| {
            let arguments = |command: &mut Cmd| {
                command.arg(worker.to_string());
            };
            self.link.call(Call::new(Function::Leave, partition), arguments)
        };
        let left = join_all(self.partitions().map(leave)).await;
        left.into_iter().try_for_each(|outcome| outcome.map(|_| ()))
    }

    /// Writes progress and log lines of running jobs of one partition. Returns the outcome of each, in their order.
    /// With `last` the attempts have ended: lines for which Redis has no memory are then counted in the log and not
    /// requested again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable: send the same again.
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
                return Err(Error::unreadable("report did not return a code for each job"));
            }
            for code in codes {
                outcomes.push(read_reported(&code)?);
            }
        }
        Ok(outcomes)
    }
}

/// Returns as many as fit in one call.
fn first_batch<T>(all: &[T], size: impl Fn(&T) -> usize) -> &[T] {
    let mut bytes = 0;
    let fit = all.iter().take(BATCH).take_while(|one| {
        bytes += size(one);
        bytes <= BATCH_BYTES
    });
    &all[..fit.count().max(1)]
}

fn names(value: Value) -> Result<Vec<TaskName>, Error> {
    reply::array(value)?.into_iter().map(reply::parsed).collect()
}

/// Number of bytes of a declared task.
fn description_size(task: &TaskDescriptor) -> usize {
    serde_json::to_vec(task).expect("a descriptor is plain text and numbers").len()
}

fn read_reported(code: &Value) -> Result<Reported, Error> {
    match reply::integer(code)? {
        1 => Ok(Reported::Confirmed),
        -1 => Ok(Reported::Stale),
        -2 => Ok(Reported::Full),
        code => Err(Error::unreadable(format!("unexpected code {code} from report"))),
    }
}

/// Returns the features in use, and what the sweep ended or took back.
fn read_heartbeat(reply: Value, outcome: &mut Beaten) -> Result<(String, Swept), Error> {
    let mut replies = reply::array(reply)?.into_iter();
    let mut next =
        || replies.next().ok_or_else(|| Error::unreadable("incomplete reply to heartbeat"));
    let (known, more, features, wanted) = (next()?, next()?, next()?, next()?);
    let mut count = || reply::unsigned(&next()?);
    let (requeued, failed, overdue, expired) = (count()?, count()?, count()?, count()?);
    outcome.forgotten |= reply::integer(&known)? == 0;
    outcome.sweep_on |= reply::integer(&more)? == 1;
    outcome.wanted = WorkerState::named(&reply::text(wanted)?);
    for verdict in replies {
        outcome.verdicts.push(match reply::integer(&verdict)? {
            1 => Verdict::Held,
            2 => Verdict::Cancel,
            _ => Verdict::Lost,
        });
    }
    Ok((reply::text(features)?, Swept { requeued, failed, overdue, expired, ..Swept::default() }))
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
