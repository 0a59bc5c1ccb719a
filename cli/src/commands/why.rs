//! `why`: what a job waits for. The API has the parts of the answer: the job, its queue, and the workers.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{Session, get};
use crate::client::{Client, Request};
use crate::documents::{Group, GroupPage, Job, Limit, Queue, Worker, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::format::{age, jobs, relative};
use crate::output::{Cell, Table};

/// Some jobs.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Jobs
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// One of the reasons why a job does not run, the most important one first.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Reason {
    id: String,
    /// A word for programs.
    reason: &'static str,
    detail: String,
}

pub(crate) fn run(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    get::each(&arguments.ids, |id| {
        let reasons = find(&session.client, id)?;
        if session.output.json {
            reasons.iter().try_for_each(|reason| session.output.own_document(reason))?;
            return Ok(Exit::Done);
        }
        let mut table = Table::new(&["ID", "REASON", "DETAIL"]);
        for Reason { id, reason, detail } in reasons {
            table.row([Cell::text(id), Cell::text(reason), Cell::text(detail)]);
        }
        session.output.whole_table(&table)?;
        Ok(Exit::Done)
    })
}

fn find(client: &Client, id: &str) -> Result<Vec<Reason>, Error> {
    let job: Job = client.read(&Request::get(&["jobs", id]))?;
    let mut reasons = of_job(&job);
    if !job.has_ended() && job.status != "running" {
        let queue: Queue = client.read(&Request::get(&["queues", &job.queue]))?;
        let workers = client.items(Request::get(&["workers"]));
        let workers: Vec<Worker> =
            workers.map(|item| item.and_then(|item| read(&item))).collect::<Result<_, _>>()?;
        reasons.extend(limit(client, &job)?.as_ref().and_then(of_limit));
        reasons.extend(group(client, &job)?.as_ref().and_then(of_group));
        reasons.extend(of_queue(&job, &queue, &workers));
    }
    let reasons = reasons.into_iter();
    Ok(reasons.map(|(reason, detail)| Reason { id: job.id.clone(), reason, detail }).collect())
}

/// Reads the limit of the queue of a job that is queued. An API of an earlier version has none.
fn limit(client: &Client, job: &Job) -> Result<Option<Limit>, Error> {
    if job.status != "queued" {
        return Ok(None);
    }
    match client.read(&Request::get(&["queues", &job.queue, "limit"])) {
        Ok(limit) => Ok(Some(limit)),
        Err(Error::Problem(problem)) if problem.status == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the limit of its queue lets it wait for.
fn of_limit(limit: &Limit) -> Option<Found> {
    let starts = || limit.next_start_at.map(relative).unwrap_or_default();
    let running = jobs(limit.running);
    Some(match (limit.state.as_str(), &limit.held_by) {
        ("delayed", None) => {
            ("queue_rate", format!("the limit of its queue allows the next start {}", starts()))
        }
        ("delayed", Some(name)) => {
            ("limit_rate", format!("the limit {name} allows the next start {}", starts()))
        }
        ("blocked", None) => {
            ("queue_concurrency", format!("{running} of its queue run, and no more may"))
        }
        ("blocked", Some(name)) => {
            ("limit_concurrency", format!("as many jobs that share the limit {name} run as may"))
        }
        _ => return None,
    })
}

/// Reads the group of a job that is queued, if it is among the first groups of its queue: there may be a million.
fn group(client: &Client, job: &Job) -> Result<Option<Group>, Error> {
    if job.group.is_none() || job.status != "queued" {
        return Ok(None);
    }
    let page: GroupPage = client.read(&Request::get(&["queues", &job.queue, "groups"]))?;
    Ok(page.items.into_iter().find(|group| group.name == job.group))
}

type Found = (&'static str, String);

/// What its group waits for.
fn of_group(group: &Group) -> Option<Found> {
    let name = group.name.as_deref().unwrap_or(&group.id);
    match group.state.as_str() {
        "delayed" => {
            let starts = group.next_start_at.map(relative).unwrap_or_default();
            Some((
                "group_rate",
                format!("the rate of its group {name} allows the next start {starts}"),
            ))
        }
        "blocked" => Some((
            "group_concurrency",
            format!("{} of its group {name} run, and no more may", jobs(group.running)),
        )),
        _ => None,
    }
}

/// What its own state says.
fn of_job(job: &Job) -> Vec<Found> {
    let note = Some(job.note()).filter(|note| !note.is_empty());
    let because = note.as_ref().map(|note| format!(": {note}")).unwrap_or_default();
    let starts = job.run_at.map(relative).unwrap_or_default();
    let found = match job.status.as_str() {
        "running" => {
            let since = job.started_at.map(relative).unwrap_or_default();
            let worker = job.worker.as_deref().unwrap_or("a worker");
            ("running", format!("it does not wait: it runs on {worker}, started {since}{because}"))
        }
        "scheduled" if job.waiting_for.as_ref().is_some_and(|it| it.reason == "snooze") => {
            ("snoozed", format!("it {}, and is tried again {starts}", note.unwrap_or_default()))
        }
        "scheduled" if job.waiting_for.as_ref().is_some_and(|it| it.reason == "lock") => {
            ("lock", format!("it {}", note.unwrap_or_default()))
        }
        "scheduled" | "queued" if job.waiting_for.is_some() => {
            ("released", format!("it {}", note.unwrap_or_default()))
        }
        "scheduled" => ("start_time", format!("it starts {starts}")),
        "retrying" => (
            "retry",
            format!(
                "attempt {} of {} failed, the next one starts {starts}{because}",
                job.attempt, job.max_attempts
            ),
        ),
        "queued" => return Vec::new(),
        status => {
            let when = job.finished_at.map(relative).unwrap_or_default();
            ("ended", format!("it does not wait: it is {status}, ended {when}{because}"))
        }
    };
    vec![found]
}

/// What keeps workers from it.
fn of_queue(job: &Job, queue: &Queue, workers: &[Worker]) -> Vec<Found> {
    let mut found = Vec::new();
    let name = &queue.name;
    if queue.paused {
        found.push(("paused", format!("its queue {name} is paused: crunch resume {name}")));
    }
    // An API serves the queue of deliveries.
    let serves = |worker: &&Worker| worker.queues.contains(name);
    let serving: Vec<_> = workers.iter().filter(serves).collect();
    if serving.is_empty() {
        found.push(("no_worker", format!("no worker serves its queue {name}")));
        return found;
    }
    // An API of an earlier version does not say it.
    let claims = |worker: &&Worker| ["", "running"].contains(&worker.state.as_str());
    let claiming: Vec<_> = serving.into_iter().filter(claims).collect();
    if claiming.is_empty() {
        found.push(("quiet", format!("all workers of its queue {name} are quiet or stopping")));
        return found;
    }
    let having: Vec<_> = claiming.into_iter().filter(|it| it.tasks.contains(&job.task)).collect();
    let suspended = |worker: &Worker| {
        let of_task = worker.suspended.iter().find(|it| it.task == job.task);
        of_task.map(|it| it.reason.clone())
    };
    let reasons: Vec<_> = having.iter().map_while(|worker| suspended(worker)).collect();
    if having.is_empty() {
        found.push(("no_task", format!("no worker of its queue {name} has the task {}", job.task)));
        return found;
    }
    if reasons.len() == having.len() {
        found.push(("suspended", format!("no machine can run {} now: {}", job.task, reasons[0])));
    }
    if job.status == "queued" {
        found.push(("others", others(queue, &having)));
    }
    found
}

/// How busy its workers are, and how much waits with it.
fn others(queue: &Queue, workers: &[&Worker]) -> String {
    let slots: u64 = workers.iter().map(|worker| worker.slots).sum();
    let busy: u64 = workers.iter().map(|worker| worker.busy).sum();
    let oldest = queue.oldest_age_ms.map(|ms| age(Duration::from_millis(ms)));
    let oldest = oldest.map(|oldest| format!(", the oldest for {oldest}")).unwrap_or_default();
    let waiting = queue.counts.queued;
    let rate = match queue.empty_in() {
        Some(left) => format!("at the rate of the last minute the queue is empty in {}", age(left)),
        None => "none ended in the last minute".to_owned(),
    };
    format!(
        "{busy} of {slots} slots are busy; {} wait in {}{oldest}; {rate}",
        jobs(waiting),
        queue.name
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job(status: &str, more: &Value) -> Job {
        let mut job = json!({ "id": "a", "task": "t", "queue": "q", "priority": "normal",
            "status": status, "attempt": 1, "max_attempts": 3, "payload_size": 1,
            "created_at": "2026-11-30T10:00:00Z", "run_at": "2999-01-01T00:00:00Z" });
        for (name, value) in more.as_object().unwrap() {
            job[name] = value.clone();
        }
        serde_json::from_value(job).unwrap()
    }

    fn queue(paused: bool, finished: u64) -> Queue {
        serde_json::from_value(json!({ "name": "q", "paused": paused, "workers": 1,
            "oldest_age_ms": 180_000, "finished_last_minute": finished, "counts": { "queued": 120,
            "scheduled": 0, "retrying": 0, "running": 1, "failed": 0 } }))
        .unwrap()
    }

    fn worker(state: &str, task: &str, suspended: &[&str]) -> Worker {
        let suspended: Vec<_> =
            suspended.iter().map(|task| json!({ "task": task, "reason": "no disk" })).collect();
        serde_json::from_value(json!({ "id": "w", "kind": "worker", "state": state, "host": "h",
            "pid": 1, "version": "1", "tasks": [task], "queues": ["q"], "slots": 4, "busy": 3,
            "started_at": "2026-11-30T10:00:00Z", "seen_at": "2026-11-30T10:00:00Z",
            "suspended": suspended }))
        .unwrap()
    }

    #[test]
    fn a_job_says_what_it_waits_for_itself() {
        let reason = |status: &str, more: Value| {
            of_job(&job(status, &more)).pop().map(|(reason, detail)| format!("{reason}: {detail}"))
        };
        assert_eq!(reason("queued", json!({})), None);
        assert!(reason("scheduled", json!({})).unwrap().starts_with("start_time: it starts in "));
        let error = json!({ "error": { "code": "task_failed", "message": "no" } });
        let retry = reason("retrying", error.clone()).unwrap();
        assert!(
            retry.starts_with("retry: attempt 1 of 3 failed, the next one starts in "),
            "{retry}"
        );
        assert!(retry.ends_with(": task_failed: no"), "{retry}");
        let waiting = json!({ "waiting_for": { "reason": "machine", "detail": "no disk" } });
        assert_eq!(
            reason("scheduled", waiting).as_deref(),
            Some("released: it waits for machine: no disk")
        );
        let snoozed =
            json!({ "waiting_for": { "reason": "snooze", "detail": null }, "snoozes": 2 });
        let snoozed = reason("scheduled", snoozed).unwrap();
        let start =
            "snoozed: it was put off by its handler, 2 times so far, and is tried again in ";
        assert!(snoozed.starts_with(start), "{snoozed}");
        let follows = json!({ "waiting_for": { "reason": "lock", "detail": "b" } });
        assert_eq!(
            reason("scheduled", follows).as_deref(),
            Some("lock: it waits for the end of job b, which holds its lock")
        );
        assert!(
            reason("failed", error).unwrap().starts_with("ended: it does not wait: it is failed")
        );
    }

    #[test]
    fn a_group_that_waits_says_for_what() {
        let of = |state: &str| {
            let group = json!({ "id": "0", "name": "acme", "state": state, "own_rule": true,
                "next_start_at": "2999-01-01T00:00:00Z", "queued": 1, "running": 2,
                "next_age_ms": 1, "weight": 1.0, "concurrency": 2, "rate": null, "max_queued": null });
            of_group(&serde_json::from_value(group).unwrap())
        };
        assert_eq!(of("runnable"), None);
        let (reason, detail) = of("delayed").unwrap();
        assert!(
            reason == "group_rate" && detail.contains("acme allows the next start in "),
            "{detail}"
        );
        let blocked = "2 jobs of its group acme run, and no more may".to_owned();
        assert_eq!(of("blocked"), Some(("group_concurrency", blocked)));
    }

    #[test]
    fn a_limit_says_what_its_queue_waits_for() {
        let of = |state: &str| {
            let limit = json!({ "concurrency": 2, "rate": null, "running": 2, "state": state,
                "next_start_at": "2999-01-01T00:00:00Z" });
            of_limit(&serde_json::from_value(limit).unwrap())
        };
        assert_eq!(of("open"), None);
        assert_eq!(of("delayed").unwrap().0, "queue_rate");
        let blocked = "2 jobs of its queue run, and no more may".to_owned();
        assert_eq!(of("blocked"), Some(("queue_concurrency", blocked)));
        let shared = json!({ "concurrency": null, "rate": null, "limits": ["openai"], "running": 0,
            "state": "blocked", "next_start_at": null, "held_by": "openai" });
        let found = of_limit(&serde_json::from_value(shared).unwrap());
        let shared = "as many jobs that share the limit openai run as may".to_owned();
        assert_eq!(found.unwrap(), ("limit_concurrency", shared));
    }

    #[test]
    fn a_queue_says_what_keeps_workers_from_it() {
        let found = |queue: &Queue, workers: &[Worker]| {
            let found = of_queue(&job("queued", &json!({})), queue, workers);
            found.into_iter().map(|(reason, _)| reason).collect::<Vec<_>>()
        };
        let open = queue(false, 40);
        assert_eq!(found(&queue(true, 0), &[]), ["paused", "no_worker"]);
        assert_eq!(found(&open, &[worker("quiet", "t", &[])]), ["quiet"]);
        assert_eq!(found(&open, &[worker("running", "other", &[])]), ["no_task"]);
        assert_eq!(found(&open, &[worker("running", "t", &["t"])]), ["suspended", "others"]);
        assert_eq!(found(&open, &[worker("running", "t", &["x"])]), ["others"]);
        let workers = [worker("running", "t", &[])];
        let (_, detail) = of_queue(&job("queued", &json!({})), &open, &workers).remove(0);
        assert_eq!(
            detail,
            "3 of 4 slots are busy; 120 jobs wait in q, the oldest for 3m; at the rate of the last minute the queue is empty in 3m"
        );
        assert!(of_queue(&job("retrying", &json!({})), &open, &workers).is_empty());
    }
}
