//! Which part of a worker has which task: names are unique in one worker, and servers declare theirs while it runs.

use std::collections::{BTreeMap, BTreeSet};

use crunch_common::queue::QueueName;
use crunch_common::task::{TaskDescriptor, TaskName};
use parking_lot::Mutex;

/// A part of a worker: a server by its name, or nothing for the worker's own tasks and commands.
type Part = Option<String>;

/// The parts of a worker by the tasks that they declared, with the queues of these tasks.
#[derive(Debug, Default)]
pub(crate) struct TaskOwners(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    owners: BTreeMap<TaskName, Part>,
    queues: BTreeMap<Part, BTreeSet<QueueName>>,
}

impl State {
    fn extend(&mut self, part: &Part, tasks: &[TaskDescriptor]) {
        self.owners.extend(tasks.iter().map(|task| (task.name.clone(), part.clone())));
        let queues = tasks.iter().map(|task| task.queue.clone());
        self.queues.entry(part.clone()).or_default().extend(queues);
    }
}

impl TaskOwners {
    /// Creates the owners of a worker with these tasks of its own.
    pub(crate) fn of(own: &[TaskDescriptor]) -> Self {
        let mut state = State::default();
        state.extend(&None, own);
        Self(Mutex::new(state))
    }

    /// Returns whether the part of the worker with this task reads the queue, unless `CRUNCH_WORKER_QUEUES` lists others;
    /// `None` if no part has the task.
    pub(crate) fn reads(&self, task: &TaskName, queue: &QueueName) -> Option<bool> {
        let state = self.0.lock();
        let part = state.owners.get(task)?;
        Some(state.queues.get(part).is_some_and(|queues| queues.contains(queue)))
    }

    /// Records the tasks of a server.
    ///
    /// # Errors
    /// If another part of the worker has one of them.
    pub(super) fn claim(&self, server: &str, tasks: &[TaskDescriptor]) -> Result<(), String> {
        let mut state = self.0.lock();
        let taken = tasks.iter().find_map(|task| state.owners.get_key_value(&task.name));
        if let Some((name, owner)) = taken {
            let name = name.as_str();
            return Err(match owner {
                Some(other) => format!("its task {name:?} is already a task of {other}"),
                None => format!(
                    "its task {name:?} is already a task of the worker itself or a [[task]] (if it ships with the worker: set builtin = false)"
                ),
            });
        }
        state.extend(&Some(server.to_owned()), tasks);
        Ok(())
    }
}
