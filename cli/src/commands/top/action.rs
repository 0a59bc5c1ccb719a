//! What a key does to jobs and queues.

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::client::{Client, Request};
use crate::commands::bulk::{self, Horizon, Verb};
use crate::commands::filter::Filter;
use crate::error::Error;
use crate::format::jobs;

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Runs the failed jobs of a queue again.
    RedriveQueue(String),
    /// Runs the failed jobs of a kind again.
    RedriveError(String),
    Cancel(String),
    Pause(String),
    Resume(String),
}

/// The jobs that a question is about: no others are acted on, although some may come before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) jobs: u64,
    /// They were created before.
    pub(super) before: Option<Timestamp>,
}

impl Counted {
    /// The one job or queue that an action names.
    pub(super) const ONE: Self = Self { jobs: 1, before: None };
}

impl Action {
    fn filter(&self, before: Option<Timestamp>) -> Filter {
        let filter = match self {
            Self::RedriveQueue(queue) => Filter::of_queue(queue, "failed"),
            Self::RedriveError(id) => Filter { error: Some(id.clone()), ..Filter::default() },
            Self::Cancel(_) | Self::Pause(_) | Self::Resume(_) => Filter::default(),
        };
        Filter { before, ..filter }
    }

    /// What it does to this many jobs.
    pub(super) fn question(&self, count: u64) -> String {
        match self {
            Self::RedriveQueue(queue) => format!("Run {} of {queue} again?", jobs(count)),
            Self::RedriveError(id) => format!("Run {} that failed by {id} again?", jobs(count)),
            Self::Cancel(id) => format!("Cancel job {id}?"),
            Self::Pause(queue) => format!("Pause {queue}?"),
            Self::Resume(queue) => format!("Resume {queue}?"),
        }
    }

    /// Counts the jobs that it is about.
    pub(super) fn count(&self, client: &Client) -> Result<Counted, Error> {
        match self {
            Self::RedriveQueue(_) | Self::RedriveError(_) => {
                let horizon = Horizon::take(client)?;
                horizon.pass();
                let before = Some(horizon.time);
                let filter = self.filter(before);
                let acted = bulk::act(client, (Verb::Retry, &filter), u64::MAX, true, |_| ())?;
                Ok(Counted { jobs: acted.matched, before })
            }
            Self::Cancel(_) | Self::Pause(_) | Self::Resume(_) => Ok(Counted::ONE),
        }
    }

    /// Does it to the jobs that were counted; returns what was done.
    pub(super) fn execute(&self, client: &Client, counted: Counted) -> Result<String, Error> {
        let Counted { jobs: count, before } = counted;
        match self {
            Self::RedriveQueue(_) | Self::RedriveError(_) => {
                let filter = self.filter(before);
                let acted = bulk::act(client, (Verb::Retry, &filter), count, false, |_| ())?;
                Ok(format!("{} queued again", jobs(acted.changed)))
            }
            Self::Cancel(id) => {
                post(client, &["jobs", id, "cancel"])?;
                Ok(format!("job {id} canceled"))
            }
            Self::Pause(queue) => {
                post(client, &["queues", queue, "pause"])?;
                Ok(format!("{queue} paused"))
            }
            Self::Resume(queue) => {
                post(client, &["queues", queue, "resume"])?;
                Ok(format!("{queue} resumed"))
            }
        }
    }
}

fn post(client: &Client, path: &[&str]) -> Result<(), Error> {
    client.read::<Box<RawValue>>(&Request::post(path)).map(drop)
}
