//! Why a job waits, in a sentence: what its own state says, and what keeps workers from it.

use crunch_common::broker::{
    GroupState, JobRecord, LimitState, LimitStatus, QueueSummary, WorkerSummary,
};
use crunch_common::job::Status;

use super::text;

/// Returns why a job that waits does not run, the most important reason first.
pub(super) fn reasons(
    job: &JobRecord,
    queue: Option<&QueueSummary>,
    workers: &[WorkerSummary],
    limit: Option<LimitStatus>,
    group: GroupState,
) -> Vec<String> {
    let mut found: Vec<_> = released(job).into_iter().collect();
    if queue.is_some_and(|queue| queue.paused) {
        found.push("its queue is paused".to_owned());
    }
    if job.status == Status::Queued {
        found.extend(limit.and_then(limit_waits));
    }
    found.extend(group_waits(group));
    found.extend(without_worker(job, workers).or_else(|| all_busy(job, queue?, workers)));
    found
}

/// Why a worker released it.
fn released(job: &JobRecord) -> Option<String> {
    let waiting = job.waiting_for.as_ref()?;
    let detail = waiting.detail.as_deref().unwrap_or_default();
    Some(match waiting.reason.as_str() {
        "worker_with_task" => "a worker without its task released it".to_owned(),
        "newer_worker" => format!("a worker could not read it; a newer one may: {detail}"),
        "machine" => format!("the machine of a worker cannot run it now: {detail}"),
        "snooze" => "its handler put it off".to_owned(),
        "lock" => "it waits for the end of the job that holds its lock".to_owned(),
        "receiver" => format!("its receiver does not accept deliveries now: {detail}"),
        other => format!("{other}: {detail}"),
    })
}

/// Why no job of its queue starts now.
fn limit_waits(limit: LimitStatus) -> Option<String> {
    let state = limit.state;
    let (limit, jobs) = match limit.held_by {
        Some(name) => (format!("limit {name}"), format!("jobs that share the limit {name}")),
        None => ("limit of its queue".to_owned(), "jobs of its queue".to_owned()),
    };
    match state {
        LimitState::Open => None,
        LimitState::Delayed(until) => Some(format!("the {limit} allows the next start at {until}")),
        LimitState::Blocked => Some(format!("as many {jobs} run as may")),
    }
}

/// Why no job of its group starts now.
fn group_waits(group: GroupState) -> Option<String> {
    match group {
        GroupState::Runnable | GroupState::Idle => None,
        GroupState::Delayed(until) => {
            Some(format!("the rate of its group allows the next start at {until}"))
        }
        GroupState::Blocked => Some("as many jobs of its group run as may".to_owned()),
    }
}

/// Why no live worker can claim it.
fn without_worker(job: &JobRecord, workers: &[WorkerSummary]) -> Option<String> {
    let serving = workers.iter().any(|worker| worker.info.queues.contains(&job.queue));
    let claiming = || workers.iter().filter(|worker| worker.claims_from(&job.queue));
    // An API delivers webhooks, and declares no task.
    let has_task =
        |worker: &WorkerSummary| job.task.is_reserved() || worker.info.tasks.contains(&job.task);
    let reason = if !serving {
        "no live worker claims from its queue"
    } else if claiming().next().is_none() {
        "all workers of its queue are quiet or stopping"
    } else if !claiming().any(has_task) {
        "no worker of its queue has its task"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// How busy the workers are that could run it, if it could run now.
fn all_busy(job: &JobRecord, queue: &QueueSummary, workers: &[WorkerSummary]) -> Option<String> {
    if job.status != Status::Queued || queue.paused {
        return None;
    }
    let workers: Vec<_> = workers.iter().filter(|it| it.claims_from(&job.queue)).collect();
    let slots: u64 = workers.iter().map(|worker| worker.info.slots as u64).sum();
    let busy: u64 = workers.iter().map(|worker| worker.busy).sum();
    Some(format!(
        "{} of {} slots of its queue's workers are busy; {} jobs are queued",
        text::count(busy),
        text::count(slots),
        text::count(queue.queued)
    ))
}
