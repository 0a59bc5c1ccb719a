//! Workers, tasks and queues: is there somebody for every job?

use std::collections::BTreeSet;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::Findings;
use crate::client::{Client, Request};
use crate::clock;
use crate::documents::{ErrorGroup, Job, Queue, Task, Worker, read};
use crate::error::Error;
use crate::format::{age, jobs};

/// A job that has waited for longer waits too long, unless its operator knows better.
const LONG: Duration = Duration::from_secs(600);

/// The part of its task's timeout after which a job seems stuck.
const MOST_OF_A_TIMEOUT: f64 = 0.8;
/// How many running jobs are looked at.
const MOST_JOBS: usize = 1000;

pub(super) fn examine(client: &Client, findings: &mut Findings) {
    if let Err(error) = all(client, findings) {
        findings.error("work", &error);
    }
}

fn all(client: &Client, findings: &mut Findings) -> Result<(), Error> {
    let all: Vec<Worker> = items(client, "workers")?;
    let own: Vec<&Worker> = all.iter().filter(|worker| worker.kind == "worker").collect();
    workers(&own, findings);
    versions(&own, findings);
    machines(&own, findings);
    let declared = items(client, "tasks")?;
    tasks(&declared, findings);
    running(client, &declared, findings)?;
    queues(&items(client, "queues")?, findings);
    errors(&items(client, "errors")?, findings);
    Ok(())
}

fn items<T: DeserializeOwned>(client: &Client, list: &str) -> Result<Vec<T>, Error> {
    client.items(Request::get(&[list])).map(|item| item.and_then(|item| read(&item))).collect()
}

fn workers(workers: &[&Worker], findings: &mut Findings) {
    if workers.is_empty() {
        return findings.fault(
            "workers",
            "no worker is running",
            "start crunch-worker, with the CRUNCH_REDIS_URL and CRUNCH_KEY_PREFIX of the API",
        );
    }
    let slots: u64 = workers.iter().map(|worker| worker.slots).sum();
    if slots == 0 {
        return findings.fault(
            "workers",
            "no worker has a slot",
            "raise CRUNCH_WORKER_CONCURRENCY",
        );
    }
    let busy: u64 = workers.iter().map(|worker| worker.busy).sum();
    findings.ok("workers", format!("{} with {slots} slots, {busy} of them busy", workers.len()));
}

fn versions(workers: &[&Worker], findings: &mut Findings) {
    let own = env!("CARGO_PKG_VERSION");
    let versions: BTreeSet<_> = workers.iter().map(|worker| worker.version.as_str()).collect();
    if versions.iter().any(|version| *version != own) {
        let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
        findings.warning(
            "versions",
            format!("workers have {versions}, this program {own}"),
            "finish the upgrade; see docs/upgrade.md",
        );
    }
}

/// What a worker's machine cannot run.
fn machines(workers: &[&Worker], findings: &mut Findings) {
    for worker in workers {
        let place = format!("{} (process {})", worker.host, worker.pid);
        for suspended in &worker.suspended {
            findings.fault(
                "machines",
                format!("{place} cannot run {}: {}", suspended.task, suspended.reason),
                "repair that machine; other workers run the jobs meanwhile",
            );
        }
        for server in worker.servers.iter().filter(|server| server.ready < server.processes) {
            let problem = server.problem.as_deref().unwrap_or("they are starting");
            findings.warning(
                "machines",
                format!(
                    "{place}: {} of {} processes of {} are ready: {problem}",
                    server.ready, server.processes, server.name
                ),
                "see the log of that worker",
            );
        }
    }
}

fn tasks(tasks: &[Task], findings: &mut Findings) {
    let before = findings.0.len();
    for task in tasks.iter().filter(|task| task.workers == 0) {
        findings.warning(
            "tasks",
            format!("no worker has the task {}", task.name),
            "start a worker that has it; if it is retired, it disappears after 30 days",
        );
    }
    if tasks.is_empty() {
        let remedy = "start a worker: it declares its tasks";
        return findings.fault("tasks", "no task is declared", remedy);
    }
    findings.ok_unless_found(
        before,
        "tasks",
        format!("{} declared, each has a worker", tasks.len()),
    );
}

/// Jobs that have run for so long that they seem stuck.
fn running(client: &Client, tasks: &[Task], findings: &mut Findings) -> Result<(), Error> {
    let request = Request::get(&["jobs"]).query("status", "running").query("limit", &100);
    let mut longest: Option<(Job, Duration, Duration)> = None;
    let mut stuck = 0;
    for document in client.items(request).take(MOST_JOBS) {
        let job: Job = read(&document?)?;
        let task = tasks.iter().find(|task| task.name == job.task);
        let Some((started, task)) = job.started_at.zip(task) else { continue };
        let (time, limit) = (clock::since(started), Duration::from_millis(task.timeout_ms));
        if time < limit.mul_f64(MOST_OF_A_TIMEOUT) {
            continue;
        }
        stuck += 1;
        if longest.as_ref().is_none_or(|(_, known, _)| time > *known) {
            longest = Some((job, time, limit));
        }
    }
    let Some((job, time, limit)) = longest else {
        findings.ok("running", "no job seems stuck");
        return Ok(());
    };
    let (id, worker) = (&job.id, job.worker.as_deref().unwrap_or("a worker"));
    findings.warning(
        "running",
        format!(
            "{} near the timeout: {id} runs {} for {} of {} on {worker}",
            jobs(stuck),
            job.task,
            age(time),
            age(limit)
        ),
        format!(
            "crunch logs {id}; crunch workers {worker} --jobs; if it is stuck: crunch cancel {id}"
        ),
    );
    Ok(())
}

fn queues(queues: &[Queue], findings: &mut Findings) {
    let before = findings.0.len();
    for queue in queues {
        let name = &queue.name;
        let waiting = queue.counts.queued + queue.counts.retrying;
        let oldest = queue.oldest_age_ms.map(Duration::from_millis).unwrap_or_default();
        if waiting == 0 {
            continue;
        }
        if queue.workers > 0 {
            parked(queue, findings);
        }
        if queue.paused {
            findings.warning(
                "queues",
                format!("{name} is paused, and {} wait in it", jobs(waiting)),
                format!("if it should not be: crunch resume {name}"),
            );
        } else if queue.workers == 0 {
            findings.fault(
                "queues",
                format!("no worker serves {name}, and {} wait in it", jobs(waiting)),
                format!("start a worker with a task of this queue; see CRUNCH_WORKER_QUEUES, and crunch jobs --queue {name}"),
            );
        } else if oldest > LONG {
            findings.warning(
                "queues",
                format!("the oldest job in {name} has waited for {}", age(oldest)),
                "add workers, or see whether some job blocks them: crunch jobs --status running",
            );
        }
    }
    findings.ok_unless_found(before, "queues", format!("{}; no job waits in vain", queues.len()));
}

/// Jobs whose task none of the queue's workers can run.
fn parked(queue: &Queue, findings: &mut Findings) {
    for parked in queue.parked.iter().filter(|parked| parked.workers == 0) {
        let oldest = Duration::from_millis(parked.oldest_age_ms.unwrap_or_default());
        let (name, task, waiting) = (&queue.name, &parked.task, jobs(parked.jobs));
        findings.fault(
            "queues",
            format!(
                "no worker of {name} can run {task}, and {waiting} wait for one, the oldest for {}",
                age(oldest)
            ),
            format!("start a worker with that task; see crunch jobs --queue {name} --task {task}"),
        );
    }
}

fn errors(groups: &[ErrorGroup], findings: &mut Findings) {
    let recent = |group: &&ErrorGroup| clock::since(group.last_at) < LONG && group.failed_jobs > 0;
    let recent: Vec<_> = groups.iter().filter(recent).collect();
    let Some(newest) = recent.first() else {
        return findings.ok("errors", "no job failed in the last ten minutes");
    };
    findings.warning(
        "errors",
        format!(
            "{} of {} failed, the newest {} ago: {}: {}",
            jobs(recent.iter().map(|group| group.failed_jobs).sum()),
            if recent.len() == 1 {
                "one kind".to_owned()
            } else {
                format!("{} kinds", recent.len())
            },
            age(clock::since(newest.last_at)),
            newest.error.code,
            newest.error.message
        ),
        format!("crunch errors {}; then: crunch retry --error {}", newest.id, newest.id),
    );
}
