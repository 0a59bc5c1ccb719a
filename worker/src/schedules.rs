//! Puts the schedules of a `tasks.toml` into Redis: once after the start, and again when Redis lost its data.
//!
//! What is in Redis as it is in the file is left as it is, so workers with the same file do not disturb each other; of two
//! files the one of the worker that started last counts. Never removes a schedule, and never submits a job: APIs do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crunch_common::broker::{
    Broker, Condition, Error, PutOutcome, PutSchedule, ScheduleOrigin, ScheduleSpec,
};
use crunch_common::job::GroupName;
use crunch_common::queue::QueueName;
use crunch_common::schedule::{Missed, Overlap, ScheduleName, Timing};
use crunch_common::task::{TaskDescriptor, TaskName};
use crunch_common::telemetry::LogLimit;
use crunch_consumer::{Announced, Reachability};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Enough to notice; an operator must act.
static NO_ROOM: LogLimit = LogLimit::new(Duration::from_secs(60));
/// How soon a schedule for which there is no room is tried again.
const WHILE_NO_ROOM: Duration = Duration::from_secs(10);
/// APIs read declarations of tasks every second: one that does not know the newest would pause a new schedule whose jobs
/// fit only that.
const UNTIL_APIS_KNOW: Duration = Duration::from_secs(2);
/// Long enough: what is waited for wakes up the loop.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A schedule as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSchedule {
    pub(crate) name: ScheduleName,
    pub(crate) task: TaskName,
    /// The queue of its jobs; `None`: that of the task.
    pub(crate) queue: Option<QueueName>,
    pub(crate) group: Option<GroupName>,
    /// The options of its jobs: a JSON object.
    pub(crate) job: String,
    /// The payload of its jobs: JSON.
    pub(crate) payload: String,
    pub(crate) timing: Timing,
    pub(crate) missed: Missed,
    pub(crate) overlap: Overlap,
}

/// The tasks of the worker, as far as they are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownTasks {
    /// The queue of each.
    queues: BTreeMap<TaskName, QueueName>,
    /// Of how many pools they are.
    pools: usize,
    /// Whether there are no others: those of servers are known when a child is ready.
    is_complete: bool,
}

impl KnownTasks {
    pub(crate) fn add(&mut self, tasks: &[TaskDescriptor]) {
        let queues = tasks.iter().map(|task| (task.name.clone(), task.queue.clone()));
        self.queues.extend(queues);
        self.pools += 1;
    }

    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }
}

/// Puts schedules into Redis.
pub(crate) struct Publisher {
    broker: Broker,
    schedules: Vec<FileSchedule>,
    announced: watch::Receiver<Announced>,
    tasks: watch::Receiver<KnownTasks>,
    /// Those that are still to be put, by their index.
    due: BTreeSet<usize>,
    /// Those that were put once, or found to be of a request.
    settled: BTreeSet<usize>,
}

impl Publisher {
    pub(crate) fn new(
        broker: &Broker,
        schedules: Vec<FileSchedule>,
        announced: watch::Receiver<Announced>,
        tasks: watch::Receiver<KnownTasks>,
    ) -> Self {
        let broker = broker.with_own_connection();
        let (due, settled) = Default::default();
        Self { broker, schedules, announced, tasks, due, settled }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        if !self.schedules.is_empty() {
            shutdown.run_until_cancelled(Box::pin(self.publish())).await;
        }
    }

    async fn publish(&mut self) {
        let mut reachability = Reachability::of("schedules");
        let mut before = Announced::default();
        loop {
            let announced = *self.announced.borrow_and_update();
            if announced.anew > before.anew {
                self.due = (0..self.schedules.len()).collect();
            }
            if announced != before && !self.due.is_empty() {
                tokio::time::sleep(UNTIL_APIS_KNOW).await;
            }
            before = announced;
            let pause = match self.put_due(announced).await {
                Ok(has_room) => {
                    reachability.succeeded();
                    if has_room { NEVER } else { WHILE_NO_ROOM }
                }
                Err(error) => reachability.failed(&error),
            };
            let goes_on = tokio::select! {
                () = tokio::time::sleep(pause) => Ok(()),
                changed = self.announced.changed() => changed,
                changed = self.tasks.changed() => changed,
            };
            // The worker ends.
            if goes_on.is_err() {
                return;
            }
        }
    }

    /// Puts what is due; returns whether there was room for all of it. A schedule whose task is not known yet stays due until
    /// all tasks are known.
    async fn put_due(&mut self, announced: Announced) -> Result<bool, Error> {
        let known = self.tasks.borrow_and_update().clone();
        if self.due.is_empty() || announced.pools < known.pools {
            return Ok(true);
        }
        let is_own = |index: &usize| known.queues.contains_key(&self.schedules[*index].task);
        let (own, others): (Vec<_>, Vec<_>) = self.due.iter().copied().partition(is_own);
        let mut has_room = true;
        for index in own {
            let task = &self.schedules[index].task;
            has_room &= self.put(index, known.queues[task].clone()).await?;
        }
        if others.is_empty() || !known.is_complete {
            return Ok(has_room);
        }
        let declared = self.broker.tasks().await?;
        for index in others {
            let FileSchedule { name, task, .. } = &self.schedules[index];
            if !self.settled.contains(&index) {
                tracing::warn!(schedule = %name, %task, "the task of a schedule of the tasks file is none of this worker");
            }
            let found = declared.iter().find(|it| it.name == *task);
            let queue = found.map_or_else(|| task.default_queue(), |it| it.queue.clone());
            has_room &= self.put(index, queue).await?;
        }
        Ok(has_room)
    }

    /// Puts a schedule whose task has that queue; returns whether there was room.
    async fn put(&mut self, index: usize, queue: QueueName) -> Result<bool, Error> {
        // Later ones are only for what was lost: a schedule that was removed, or that another worker replaced, stays so.
        let is_repeated = self.settled.contains(&index);
        let condition = if is_repeated { Condition::New } else { Condition::None };
        let put = self.schedules[index].to_put(queue, condition);
        let now = self.broker.redis_time().await?;
        let first = put.timing.first_after(now).ok();
        let outcome = match self.broker.put_schedule(&put, first).await {
            Err(error @ Error::Unreadable { .. }) => {
                tracing::error!(schedule = %put.name, %error, "cannot put a schedule of the tasks file");
                self.due.remove(&index);
                return Ok(true);
            }
            outcome => outcome?,
        };
        log(&put, outcome, first.is_none());
        let has_room = outcome != PutOutcome::TooMany;
        if has_room {
            self.due.remove(&index);
            self.settled.insert(index);
        }
        Ok(has_room)
    }
}

impl FileSchedule {
    fn to_put(&self, task_queue: QueueName, condition: Condition) -> PutSchedule {
        let spec = ScheduleSpec {
            task: self.task.clone(),
            queue: self.queue.clone().unwrap_or(task_queue),
            group: self.group.clone(),
            job: self.job.clone(),
            missed: self.missed,
            overlap: self.overlap,
            owner: None,
        };
        PutSchedule {
            name: self.name.clone(),
            timing: self.timing.clone(),
            spec,
            payload: self.payload.clone().into_bytes(),
            origin: ScheduleOrigin::File,
            condition,
        }
    }
}

fn log(PutSchedule { name, .. }: &PutSchedule, outcome: PutOutcome, has_ended: bool) {
    match outcome {
        PutOutcome::Created => {
            tracing::info!(schedule = %name, has_ended, "a schedule of the tasks file was created");
        }
        PutOutcome::Changed => {
            tracing::info!(schedule = %name, has_ended, "a schedule was replaced: it was not as in the tasks file of this worker");
        }
        PutOutcome::Unchanged | PutOutcome::ConditionFailed => {
            tracing::debug!(schedule = %name, "a schedule of the tasks file was there already");
        }
        PutOutcome::OtherOrigin => {
            tracing::warn!(schedule = %name, "a schedule of the tasks file is left as it is: one of that name was made by a request");
        }
        PutOutcome::TooMany => {
            if let Some(left_out) = NO_ROOM.admit() {
                tracing::warn!(schedule = %name, left_out, "there are too many schedules for one of the tasks file, retrying");
            }
        }
    }
}
