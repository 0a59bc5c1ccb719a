//! Which jobs and queues a caller may see. Every handler with an id in its path calls [`visible_id`] or [`find_job`],
//! so that none can omit the check.
//!
//! What a caller may not see does not exist for it: the answer is byte by byte that for an unknown id.

use std::time::Duration;

use crunch_common::broker::{JobRecord, Lookup, Tombstone};
use crunch_common::job::JobId;
use crunch_common::queue::QueueName;

use crate::auth::Caller;
use crate::problem::{GONE, NOT_FOUND, Problem, TRIMMED};
use crate::state::App;
use crate::watching::Until;

/// Returns the id of a job that the caller may see, if the job exists. A job never changes its queue, so the result
/// stays valid. Costs a round trip if the caller may not see all queues, and nothing if it may.
pub(crate) async fn visible_id(app: &App, caller: &Caller, text: &str) -> Result<JobId, Problem> {
    let id = job_id(text)?;
    if caller.queues().is_some() {
        visible(caller, app.broker.job_without_result(id).await?)?;
    }
    Ok(id)
}

/// Reads a job that must exist and be visible to the caller. One round trip.
pub(crate) async fn find_job(app: &App, caller: &Caller, text: &str) -> Result<JobRecord, Problem> {
    visible(caller, app.broker.job(job_id(text)?).await?)
}

/// Reads such a job, after waiting for it if requested.
pub(crate) async fn wait_for_job(
    app: &App,
    caller: &Caller,
    text: &str,
    wait: Option<(Until, Duration)>,
) -> Result<JobRecord, Problem> {
    let Some((until, time_limit)) = wait else { return find_job(app, caller, text).await };
    let id = visible_id(app, caller, text).await?;
    found_or_problem(app.watchers.wait(id, until, time_limit).await?)
}

/// Returns the queue in a path, if the caller may use it.
pub(crate) fn queue_name(caller: &Caller, text: &str) -> Result<QueueName, Problem> {
    let name = text.parse().ok().filter(|name| caller.may_use(name));
    name.ok_or_else(no_such_queue)
}

/// Checks that a queue exists, and that the caller may use it. An unknown queue is an error, as is a job that the
/// caller may not see: a misspelled name is not answered with an empty list.
pub(crate) async fn known_queue(
    app: &App,
    caller: &Caller,
    name: &QueueName,
) -> Result<(), Problem> {
    let known = caller.may_use(name)
        && (app.catalog.declares_queue(name) || app.broker.knows(name).await?);
    if known { Ok(()) } else { Err(no_such_queue()) }
}

pub(crate) fn no_such_queue() -> Problem {
    Problem::new(NOT_FOUND, "there is no such queue")
}

/// Text that is not an id is treated as the id of a job that does not exist.
fn job_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|_| Problem::no_such_job())
}

fn visible(caller: &Caller, lookup: Lookup<JobRecord>) -> Result<JobRecord, Problem> {
    match &lookup {
        Lookup::Found(job) if caller.may_use(&job.queue) => found_or_problem(lookup),
        // The tombstone of a job does not contain its queue.
        Lookup::Gone(_) if caller.queues().is_none() => found_or_problem(lookup),
        Lookup::Found(_) | Lookup::Gone(_) | Lookup::Unknown => Err(Problem::no_such_job()),
    }
}

/// Returns what was looked up, or the problem that explains why it does not exist.
pub(crate) fn found_or_problem<T>(lookup: Lookup<T>) -> Result<T, Problem> {
    match lookup {
        Lookup::Found(found) => Ok(found),
        Lookup::Gone(Tombstone::Deleted) => Err(Problem::new(GONE, "the job was deleted")),
        Lookup::Gone(Tombstone::Trimmed) => {
            Err(Problem::new(TRIMMED, "the job had ended and was deleted early to free memory"))
        }
        Lookup::Unknown => Err(Problem::no_such_job()),
    }
}
