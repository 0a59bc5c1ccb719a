//! Which jobs and queues a caller may see. The way from a path to a job leads through here: every handler that takes an id
//! asks [`visible_id`] or [`find_job`] for it, so that none can forget whose it is.
//!
//! What is not the caller's does not exist for it: the answer is that to an id that names nothing, byte by byte.

use std::time::Duration;

use crunch_common::broker::{JobRecord, Lookup, Tombstone};
use crunch_common::job::JobId;
use crunch_common::queue::QueueName;

use crate::auth::Caller;
use crate::problem::{GONE, NOT_FOUND, Problem, TRIMMED};
use crate::state::App;
use crate::watching::Until;

/// The id of a job that the caller may see, if there is such a job at all. A job never changes its queue, so what is true
/// here stays true. Costs a round trip if the caller may not see every queue, and nothing if it may.
pub(crate) async fn visible_id(app: &App, caller: &Caller, text: &str) -> Result<JobId, Problem> {
    let id = job_id(text)?;
    if caller.queues().is_some() {
        seen(caller, app.broker.job_without_result(id).await?)?;
    }
    Ok(id)
}

/// Reads a job that must be found_or_problem, and be the caller's. One round trip.
pub(crate) async fn find_job(app: &App, caller: &Caller, text: &str) -> Result<JobRecord, Problem> {
    seen(caller, app.broker.job(job_id(text)?).await?)
}

/// The same, held back if so wished.
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

/// The queue in a path, if it may be the caller's.
pub(crate) fn queue_name(caller: &Caller, text: &str) -> Result<QueueName, Problem> {
    let name = text.parse().ok().filter(|name| caller.may_use(name));
    name.ok_or_else(no_such_queue)
}

/// Whether there is a queue of that name, and it may be the caller's. Like a job that is not the caller's, one that nobody knows
/// does not exist: a misspelled name is not answered with an empty list.
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

/// Anything that is not an id names a job that does not exist.
fn job_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|_| Problem::no_such_job())
}

fn seen(caller: &Caller, lookup: Lookup<JobRecord>) -> Result<JobRecord, Problem> {
    match &lookup {
        Lookup::Found(job) if caller.may_use(&job.queue) => found_or_problem(lookup),
        // What is left of a job does not tell its queue any more.
        Lookup::Gone(_) if caller.queues().is_none() => found_or_problem(lookup),
        Lookup::Found(_) | Lookup::Gone(_) | Lookup::Unknown => Err(Problem::no_such_job()),
    }
}

/// What was looked up, or the problem that says why it is not there.
pub(crate) fn found_or_problem<T>(lookup: Lookup<T>) -> Result<T, Problem> {
    match lookup {
        Lookup::Found(found) => Ok(found),
        Lookup::Gone(Tombstone::Deleted) => Err(Problem::new(GONE, "the job was deleted")),
        Lookup::Gone(Tombstone::Trimmed) => {
            Err(Problem::new(TRIMMED, "the job had ended and was forgotten to make room"))
        }
        Lookup::Unknown => Err(Problem::no_such_job()),
    }
}
