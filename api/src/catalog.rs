//! What is known of tasks: learned from what workers declared, refreshed all the time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crunch_common::broker::{Broker, Error};
use crunch_common::job::ContentType;
use crunch_common::task::{TaskDescriptor, TaskName};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::UnknownTasks;

/// Whoever asks for an unknown task has the list read again at once, but not more often than this.
const MISS_INTERVAL: Duration = Duration::from_millis(100);

/// The declared tasks.
#[derive(Debug)]
pub(crate) struct Catalog {
    broker: Broker,
    unknown: UnknownTasks,
    /// `None` until Redis was read once: then nothing is known to be unknown.
    tasks: RwLock<Option<HashMap<TaskName, Arc<TaskDescriptor>>>>,
    last_miss: Mutex<Option<Miss>>,
}

/// The last reading that an unknown task caused.
#[derive(Debug)]
struct Miss {
    ended: Instant,
    outcome: Result<(), Error>,
}

impl Catalog {
    /// A new declaration is known within this time.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

    pub(crate) fn new(broker: Broker, unknown: UnknownTasks) -> Self {
        Self { broker, unknown, tasks: RwLock::default(), last_miss: Mutex::default() }
    }

    pub(crate) async fn tick(&self) -> Result<(), Error> {
        self.read().await.map(|_| ())
    }

    /// Reads all declarations, and learns them: whoever sees a task in a list can submit to it at once.
    pub(crate) async fn read(&self) -> Result<Vec<TaskDescriptor>, Error> {
        let tasks = self.broker.tasks().await?;
        let known = tasks.iter().map(|task| (task.name.clone(), Arc::new(task.clone()))).collect();
        *self.tasks.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(tasks)
    }

    /// What a worker declared about a task; `None` if none ever did.
    pub(crate) async fn find(&self, name: &TaskName) -> Result<Option<Arc<TaskDescriptor>>, Error> {
        if name.is_reserved() {
            return Ok(None);
        }
        if let Some(task) = self.known(name) {
            return Ok(Some(task));
        }
        self.read_after_miss().await?;
        Ok(self.known(name).or_else(|| match self.unknown {
            UnknownTasks::Refuse => None,
            UnknownTasks::Accept => Some(Arc::new(TaskDescriptor::new(name.clone()))),
        }))
    }

    /// The largest payload that any task takes as JSON inside an envelope; the largest there can be while nobody knows.
    pub(crate) fn largest_json_payload(&self) -> u64 {
        let tasks = self.tasks.read().unwrap_or_else(PoisonError::into_inner);
        let Some(tasks) = &*tasks else { return TaskDescriptor::MAX_PAYLOAD_LIMIT };
        let json = tasks.values().filter(|task| task.accepts.contains(&ContentType::json()));
        // An envelope whose task is not known is read as far as one that is: it is to hear what is wrong with it.
        let usual = TaskDescriptor::DEFAULT_MAX_PAYLOAD;
        json.map(|task| task.max_payload).fold(usual, u64::max)
    }

    fn known(&self, name: &TaskName) -> Option<Arc<TaskDescriptor>> {
        let tasks = self.tasks.read().unwrap_or_else(PoisonError::into_inner);
        tasks.as_ref()?.get(name).cloned()
    }

    /// One reader at a time. Those who waited for it hear what it heard; those who come soon after, only if that was good.
    async fn read_after_miss(&self) -> Result<(), Error> {
        let asked = Instant::now();
        let mut last = self.last_miss.lock().await;
        if let Some(miss) = &*last {
            let fresh = if miss.outcome.is_ok() { MISS_INTERVAL } else { Duration::ZERO };
            if miss.ended + fresh >= asked {
                return miss.outcome.clone();
            }
        }
        let outcome = self.tick().await;
        *last = Some(Miss { ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }
}
