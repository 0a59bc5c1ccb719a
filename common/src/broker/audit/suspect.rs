//! Suspects, and the verdicts of Redis: each suspect is judged by one function call, in one step, during which nothing
//! can change.

use redis::{Cmd, Value};

use super::kind::FindingKind;
use crate::broker::error::Error;
use crate::broker::functions::Function;
use crate::broker::keys::Lane;
use crate::broker::{ErrorGroupId, GroupId, IndexId, Settings, reply};
use crate::job::{JobId, Partition};
use crate::queue::QueueName;
use crate::schedule::ScheduleName;

/// A list or set of a queue that can contain an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Lane(Lane),
    Delayed,
    Running,
    Deadlines,
    Finished,
    Failed,
    Ghosts,
    Grouped,
    Group(GroupId),
    GroupRunning(GroupId),
    ErrorGroup(ErrorGroupId),
    Index(IndexId),
    Quarantine,
}

impl Place {
    fn as_text(&self) -> String {
        let name = match self {
            Self::Lane(lane) => return format!("ready:{}", lane.name()),
            Self::Delayed => "delayed",
            Self::Running => "running",
            Self::Deadlines => "deadlines",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Ghosts => "ghosts",
            Self::Grouped => "grouped",
            Self::Group(group) => return format!("group:{group}"),
            Self::GroupRunning(group) => return format!("grouped_running:{group}"),
            Self::ErrorGroup(group) => return format!("error:{group}"),
            Self::Index(index) => return format!("index:{index}"),
            Self::Quarantine => "quarantine",
        };
        name.to_owned()
    }
}

/// Where the walk found an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) queue: Option<QueueName>,
    pub(super) place: Place,
    /// Its index in the lane, from the left; in `finished`, when it expires.
    pub(super) index: Option<u64>,
    /// Whether it had been found in a lane before.
    pub(super) again: bool,
}

/// What the audit suspects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Suspect {
    Job {
        id: JobId,
        met: Option<Met>,
        /// Its version before the walk, once the walk is over: it was not found where it belongs.
        version: Option<u32>,
    },
    Queue(Partition, QueueName),
    Group(Partition, QueueName, GroupId),
    ErrorGroup(Partition, ErrorGroupId),
    Schedule(Partition, ScheduleName),
    Idempotency(Partition, String),
    Lock(Partition, String),
}

impl Suspect {
    pub(super) const fn job(id: JobId) -> Self {
        Self::Job { id, met: None, version: None }
    }

    pub(super) const fn met(id: JobId, met: Met) -> Self {
        Self::Job { id, met: Some(met), version: None }
    }

    /// Its name in the audit's report.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Job { id, .. } => id.to_string(),
            Self::Queue(_, name) => name.as_str().to_owned(),
            Self::Group(_, queue, group) => format!("{group} of {queue}"),
            Self::ErrorGroup(_, group) => group.to_string(),
            Self::Schedule(_, name) => name.to_string(),
            Self::Idempotency(_, digest) | Self::Lock(_, digest) => digest.clone(),
        }
    }

    pub(super) fn partition(&self) -> Partition {
        match self {
            Self::Job { id, .. } => id.partition(),
            Self::Queue(partition, _)
            | Self::Group(partition, ..)
            | Self::ErrorGroup(partition, _)
            | Self::Schedule(partition, _)
            | Self::Idempotency(partition, _)
            | Self::Lock(partition, _) => *partition,
        }
    }

    /// Builds the call that judges it, or judges and heals it. `removals`: the partition's count before the walk.
    pub(super) fn call(&self, function: Function, settings: &Settings, removals: &str) -> Cmd {
        let mut command = settings.call(function, self.partition());
        match self {
            Self::Job { id, met, version } => {
                let version = version.map(|version| version.to_string()).unwrap_or_default();
                command.arg("job").arg(id.to_string()).arg(version).arg(removals);
                write_met(&mut command, met.as_ref());
            }
            Self::Queue(_, name) => {
                command.arg("queue").arg(name.as_str());
            }
            Self::Group(_, queue, group) => {
                command.arg("group").arg(queue.as_str()).arg(group.to_string());
            }
            Self::ErrorGroup(_, group) => {
                command.arg("error").arg(group.to_string());
            }
            Self::Schedule(_, name) => {
                command.arg("schedule").arg(name.as_str());
            }
            Self::Idempotency(_, digest) => {
                command.arg("idempotency").arg(digest);
            }
            Self::Lock(_, digest) => {
                command.arg("lock").arg(digest);
            }
        }
        command
    }
}

fn write_met(command: &mut Cmd, met: Option<&Met>) {
    let Some(met) = met else {
        command.arg("").arg("").arg("").arg("");
        return;
    };
    command.arg(met.queue.as_ref().map_or("", QueueName::as_str)).arg(met.place.as_text());
    command.arg(met.index.map(|index| index.to_string()).unwrap_or_default());
    command.arg(if met.again { "1" } else { "" });
}

/// A confirmed suspect.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) suspect: Suspect,
    /// The kinds of findings it is counted as.
    pub(super) kinds: Vec<FindingKind>,
}

/// The verdict of Redis on a suspect.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kinds: Vec<FindingKind>,
    pub(super) undecided: bool,
}

impl Verdict {
    fn add(&mut self, name: &str) -> Result<(), Error> {
        match name.parse() {
            Ok(kind) => self.kinds.push(kind),
            Err(_) if name == "undecided" => self.undecided = true,
            Err(_) => {
                return Err(Error::unreadable(format!("unknown finding {name:?} of an audit")));
            }
        }
        Ok(())
    }
}

/// Parses the reply of `judge`.
pub(super) fn read_verdict(reply: Value) -> Result<Verdict, Error> {
    let mut verdict = Verdict::default();
    for name in reply::array(reply)? {
        verdict.add(&reply::text(name)?)?;
    }
    Ok(verdict)
}

/// Parses the reply of `heal`: the findings that could not be healed.
pub(super) fn read_left(reply: Value) -> Result<Verdict, Error> {
    let mut left = Verdict::default();
    for pair in reply::array(reply)?.chunks_exact(2) {
        if reply::integer(&pair[1])? == 0 {
            left.add(&reply::text(pair[0].clone())?)?;
        }
    }
    Ok(left)
}
