//! The tasks a worker has code for, by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crunch_common::broker::TaskNames;
use crunch_common::queue::QueueName;
use crunch_common::task::{TaskDescriptor, TaskName};

use crate::Task;

/// The error of two tasks with the same name.
///
/// ```no_run
/// use crunch_worker::{Error, JobContext, Task, TaskError, Worker};
///
/// async fn greet(_job: JobContext, name: String) -> Result<String, TaskError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// # async fn run() -> Result<(), Error> {
/// let worker = Worker::from_env()?.task(Task::new("greet", greet)).task(Task::new("greet", greet));
/// assert!(matches!(worker.run().await, Err(Error::DuplicateTask(error)) if error.name == "greet"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {name:?} is declared twice; names must be unique in one worker")]
pub struct DuplicateTask {
    /// The name.
    pub name: String,
}

/// Tasks by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    tasks: BTreeMap<TaskName, Arc<Task>>,
}

impl Registry {
    pub(crate) fn add(&mut self, task: Task) -> Result<(), DuplicateTask> {
        let name = task.descriptor.name.clone();
        match self.tasks.insert(name.clone(), Arc::new(task)) {
            None => Ok(()),
            Some(_) => Err(DuplicateTask { name: name.to_string() }),
        }
    }

    pub(crate) fn find(&self, name: &TaskName) -> Option<&Arc<Task>> {
        self.tasks.get(name)
    }

    /// Adds the tasks of another registry; their names are unique in a worker.
    pub(crate) fn adopt(&mut self, other: Self) {
        self.tasks.extend(other.tasks);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(crate) fn task_names(&self) -> impl Iterator<Item = &TaskName> {
        self.tasks.keys()
    }

    /// Returns all names, as exchanges carry them.
    pub(crate) fn names(&self) -> TaskNames {
        self.tasks.keys().collect()
    }

    /// Returns all names except those that `excluded` matches.
    pub(crate) fn names_except(&self, excluded: impl Fn(&TaskName) -> bool) -> TaskNames {
        self.tasks.keys().filter(|name| !excluded(name)).collect()
    }

    /// Sets the limit of results for tasks that have none; it is then declared with them.
    pub(crate) fn bound_results(&mut self, default: u64) {
        for task in self.tasks.values_mut() {
            Arc::make_mut(task).descriptor.max_result.get_or_insert(default);
        }
    }

    /// Lets batches have no more jobs than there are slots: no more can be collected.
    pub(crate) fn bound_batches(&self, slots: usize) {
        for task in self.tasks.values() {
            let Some(most) = &task.batch else { continue };
            if most.fetch_min(slots.max(1), Ordering::Relaxed) > slots {
                tracing::info!(task = %task.descriptor.name, slots, "batches have no more jobs than the worker has slots (CRUNCH_WORKER_CONCURRENCY)");
            }
        }
    }

    pub(crate) fn descriptors(&self) -> Vec<TaskDescriptor> {
        self.tasks.values().map(|task| task.descriptor.clone()).collect()
    }

    /// Returns the first name that is reserved for Crunch: of a task, of its queue, or of another queue.
    pub(crate) fn reserved(&self, others: impl Iterator<Item = QueueName>) -> Option<String> {
        let task = self.tasks.keys().find(|task| task.is_reserved()).map(ToString::to_string);
        let mut queues = self.queues().into_iter().chain(others);
        task.or_else(|| queues.find(QueueName::is_reserved).map(String::from))
    }

    /// Returns the queues in which jobs of these tasks wait, each once.
    pub(crate) fn queues(&self) -> Vec<QueueName> {
        let mut queues: Vec<_> =
            self.tasks.values().map(|task| task.descriptor.queue.clone()).collect();
        queues.sort();
        queues.dedup();
        queues
    }
}
