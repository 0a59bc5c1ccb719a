//! Which part of a worker has which task: names are unique in one worker, and servers declare theirs while it runs.

use std::collections::BTreeMap;

use crunch_common::task::{TaskDescriptor, TaskName};
use parking_lot::Mutex;

/// Who declared a task: the name of a server, or nothing for the worker's own tasks and commands.
#[derive(Debug, Default)]
pub(crate) struct TaskOwners(Mutex<BTreeMap<TaskName, Option<String>>>);

impl TaskOwners {
    /// Creates the owners of a worker with these tasks of its own.
    pub(crate) fn of(own: impl IntoIterator<Item = TaskName>) -> Self {
        Self(Mutex::new(own.into_iter().map(|name| (name, None)).collect()))
    }

    /// Returns whether a part of the worker has a task.
    pub(crate) fn has(&self, task: &TaskName) -> bool {
        self.0.lock().contains_key(task)
    }

    /// Records the tasks of a server.
    ///
    /// # Errors
    /// If another part of the worker has one of them.
    pub(super) fn claim(&self, server: &str, tasks: &[TaskDescriptor]) -> Result<(), String> {
        let mut owners = self.0.lock();
        if let Some((name, owner)) = tasks.iter().find_map(|task| owners.get_key_value(&task.name))
        {
            let name = name.as_str();
            return Err(match owner {
                Some(other) => format!("its task {name:?} is already a task of {other}"),
                None => format!(
                    "its task {name:?} is already a task of the worker itself or a [[task]] (if it ships with the worker: set builtin = false)"
                ),
            });
        }
        let claimed = tasks.iter().map(|task| (task.name.clone(), Some(server.to_owned())));
        owners.extend(claimed);
        Ok(())
    }
}
