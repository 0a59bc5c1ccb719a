//! What an operator should look at, from the state of queues, workers and Redis.

use std::time::Duration;

use crunch_common::broker::{NodeHealth, QueueSummary, WorkerState, WorkerSummary};

use super::{place_of, text};
use crate::auth::Caller;
use crate::dashboard::paused_schedules::Paused;

/// All slots of a queue may be busy for as long as this without a warning: short peaks are normal.
const PEAK: Duration = Duration::from_secs(60);

/// Something that an operator should look at.
pub(super) struct Warning {
    pub(super) subject: String,
    /// A page about it.
    pub(super) link: String,
    pub(super) text: String,
}

/// Returns all warnings, those about Redis first.
pub(super) fn of(
    queues: &[QueueSummary],
    workers: &[WorkerSummary],
    nodes: &[NodeHealth],
) -> Vec<Warning> {
    let mut all: Vec<_> = nodes.iter().flat_map(of_node).collect();
    all.extend(queues.iter().flat_map(|queue| of_queue(queue, workers)));
    all.extend(workers.iter().flat_map(of_worker));
    all
}

/// Why jobs of a queue wait.
fn of_queue(queue: &QueueSummary, workers: &[WorkerSummary]) -> Vec<Warning> {
    let waiting = queue.queued + queue.scheduled + queue.retrying;
    let link = || format!("/dashboard/queues/{}", queue.name);
    let about =
        |text: String| vec![Warning { subject: queue.name.to_string(), link: link(), text }];
    if queue.paused {
        return about(format!("is paused; {}", jobs_wait(waiting, None)));
    }
    if waiting == 0 {
        return Vec::new();
    }
    if !workers.iter().any(|worker| worker.info.queues.contains(&queue.name)) {
        return about(format!("has no worker; {}", jobs_wait(waiting, None)));
    }
    let claiming: Vec<_> = workers.iter().filter(|it| it.claims_from(&queue.name)).collect();
    if claiming.is_empty() {
        let waiting = jobs_wait(waiting, None);
        return about(format!("has only workers that are quiet or stop; {waiting}"));
    }
    let lacks = |task| !claiming.iter().any(|worker| worker.info.tasks.contains(task));
    let mut all: Vec<_> = queue.parked.iter().filter(|(task, _)| lacks(task)).collect();
    all.sort_by_key(|(_, parked)| std::cmp::Reverse(parked.jobs));
    let mut all: Vec<_> = all
        .into_iter()
        .map(|(task, parked)| Warning {
            subject: task.to_string(),
            link: format!("/dashboard/jobs?status=queued&queue={}&task={task}", queue.name),
            text: format!(
                "is run by no worker of the queue {}; {}",
                queue.name,
                jobs_wait(parked.jobs, parked.oldest_age)
            ),
        })
        .collect();
    all.extend(all_busy(queue, &claiming).into_iter().flat_map(about));
    all
}

/// What keeps its jobs waiting if no slot of its workers is free.
fn all_busy(queue: &QueueSummary, claiming: &[&WorkerSummary]) -> Option<String> {
    let parked: u64 = queue.parked.values().map(|parked| parked.jobs).sum();
    let ready = queue.queued.saturating_sub(parked);
    let slots: u64 = claiming.iter().map(|worker| worker.info.slots as u64).sum();
    let busy: u64 = claiming.iter().map(|worker| worker.busy).sum();
    let is_long = queue.oldest_age.is_some_and(|age| age >= PEAK);
    (ready > 0 && busy >= slots && is_long).then(|| {
        let slots = match slots {
            1 => "the only slot of its workers is".to_owned(),
            _ => format!("all {} slots of its workers are", text::count(slots)),
        };
        format!("waits: {slots} busy; {}", jobs_wait(queue.queued, queue.oldest_age))
    })
}

fn jobs_wait(count: u64, oldest: Option<Duration>) -> String {
    let jobs = match count {
        1 => "1 job waits".to_owned(),
        _ => format!("{} jobs wait", text::count(count)),
    };
    match oldest {
        Some(age) => format!("{jobs}, the oldest for {}", text::span(age)),
        None => jobs,
    }
}

/// That it takes no jobs, and what its machine cannot run.
fn of_worker(worker: &WorkerSummary) -> Vec<Warning> {
    let mut all = Vec::new();
    if worker.info.state == WorkerState::Quiet {
        all.push(Warning {
            subject: place_of(worker),
            link: format!("/dashboard/workers#{}", worker.id),
            text: "is quiet: it takes no jobs".to_owned(),
        });
    }
    all.extend(worker.info.suspended.iter().map(|suspended| Warning {
        subject: suspended.task.to_string(),
        link: "/dashboard/workers".to_owned(),
        text: format!("cannot run on {}: {}", worker.info.host, suspended.reason),
    }));
    all
}

/// That schedules are paused which nobody paused; the first one is named.
pub(super) fn of_schedules(paused: &[Paused], caller: &Caller) -> Option<Warning> {
    let visible: Vec<_> = paused.iter().filter(|it| caller.may_use(&it.queue)).collect();
    let first = visible.first()?;
    let (subject, link) = match visible.len() {
        1 => (first.name.to_string(), format!("/dashboard/schedules/{}", first.name)),
        many => (format!("{} schedules", text::count(many)), "/dashboard/schedules".to_owned()),
    };
    let text = match visible.len() {
        1 => format!("is paused, not by a request: {}", first.reason),
        _ => format!("are paused, not by a request; the first is {}: {}", first.name, first.reason),
    };
    Some(Warning { subject, link, text })
}

/// What Redis should be looked at for.
fn of_node(node: &NodeHealth) -> Vec<Warning> {
    let of_node = |text: String| Warning {
        subject: node.address.clone().unwrap_or_else(|| "Redis".to_owned()),
        link: "/dashboard/system".to_owned(),
        text,
    };
    let state = match &node.state {
        Ok(state) => state,
        Err(error) => return vec![of_node(format!("does not answer: {error}"))],
    };
    let mut all = Vec::new();
    if state.memory_policy != "noeviction" {
        all.push(of_node(format!("may delete jobs: its memory policy is {}", state.memory_policy)));
    }
    if let Some(max) = state.max_memory.filter(|&max| state.used_memory / 4 >= max / 5) {
        let share = text::percent(state.used_memory as f64 / max as f64);
        all.push(of_node(format!("uses {share} of its memory")));
    }
    if !state.disk_ok {
        all.push(of_node("could not write to its disk".to_owned()));
    }
    all
}

#[cfg(test)]
mod tests {
    use crunch_common::broker::{Parked, WorkerId, WorkerInfo};
    use crunch_common::time::Timestamp;

    use super::*;

    fn queue(queued: u64, oldest: u64) -> QueueSummary {
        let oldest_age = Some(Duration::from_secs(oldest));
        QueueSummary { queued, oldest_age, ..QueueSummary::empty("q".parse().unwrap()) }
    }

    fn worker(task: &str, busy: u64) -> WorkerSummary {
        let (tasks, queues) = (vec![task.parse().unwrap()], vec!["q".parse().unwrap()]);
        WorkerSummary {
            id: WorkerId::generate(),
            info: WorkerInfo { tasks, queues, slots: 2, ..WorkerInfo::of_this_process() },
            wanted: None,
            busy,
            seen_at: Timestamp::from_unix_ms(0),
            running: Vec::new(),
        }
    }

    fn texts(queue: &QueueSummary, workers: &[WorkerSummary]) -> Vec<String> {
        let all = of_queue(queue, workers).into_iter();
        all.map(|it| format!("{} {}", it.subject, it.text).replace('\u{202f}', " ")).collect()
    }

    #[test]
    fn a_queue_waits_if_no_slot_of_its_workers_is_free_for_a_minute() {
        let busy = [worker("a", 2), worker("a", 2)];
        let waits =
            "q waits: all 4 slots of its workers are busy; 7 jobs wait, the oldest for 2 min";
        assert_eq!(texts(&queue(7, 120), &busy), [waits]);
        assert!(texts(&queue(7, 59), &busy).is_empty(), "a short peak");
        assert!(texts(&queue(7, 120), &[worker("a", 2), worker("a", 1)]).is_empty(), "a free slot");
    }

    #[test]
    fn a_task_without_worker_is_named_although_the_queue_has_workers() {
        let parked = Parked { jobs: 1, oldest_age: Some(Duration::from_secs(3)) };
        let mut queue = queue(1, 120);
        queue.parked.insert("b".parse().unwrap(), parked);
        let lacks = "b is run by no worker of the queue q; 1 job waits, the oldest for 3.0 s";
        assert_eq!(texts(&queue, &[worker("a", 2)]), [lacks]);
        assert!(texts(&queue, &[worker("a", 0), worker("b", 0)]).is_empty());
        let mut quiet = worker("b", 0);
        quiet.info.state = WorkerState::Quiet;
        let only_quiet = "q has only workers that are quiet or stop; 1 job waits";
        assert_eq!(texts(&queue, &[quiet]), [only_quiet]);
        assert_eq!(texts(&queue, &[]), ["q has no worker; 1 job waits"]);
    }
}
