//! What is known of tasks: learned from what workers declared, refreshed all the time.
//!
//! A schema is compiled when its text is seen first, and again only when that changed.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crunch_common::broker::{Broker, Error};
use crunch_common::job::ContentType;
use crunch_common::queue::QueueName;
use crunch_common::schema::{Schema, Validator};
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
    known: RwLock<Known>,
    last_miss: Mutex<Option<Miss>>,
    last_read: Mutex<Option<Read>>,
}

/// All declarations are read again after this long even if nothing seems to have changed: workers of an earlier version change
/// them without a word.
const READ_AGAIN: Duration = Duration::from_secs(30);

/// What was read last.
#[derive(Debug)]
struct Read {
    version: Option<u64>,
    at: Instant,
}

#[derive(Debug, Default)]
struct Known {
    /// `None` until Redis was read once: then nothing is known to be unknown.
    tasks: Option<HashMap<TaskName, Arc<Declared>>>,
    /// Grows with every change.
    revision: u64,
}

/// A task as it was declared.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) task: TaskDescriptor,
    /// What JSON payloads are held against; `None` if no schema was declared, or one that cannot be used.
    payload: Option<Arc<Validator>>,
}

impl Declared {
    /// A task, with what was compiled before if that is still what it declares.
    fn new(task: TaskDescriptor, before: Option<&Self>) -> Self {
        let unchanged = before.filter(|before| before.task.payload_schema == task.payload_schema);
        let payload = match (unchanged, &task.payload_schema) {
            (Some(before), _) => before.payload.clone(),
            (None, Some(schema)) => compiled(&task.name, schema),
            (None, None) => None,
        };
        Self { task, payload }
    }

    /// What JSON payloads are held against.
    pub(crate) fn payload(&self) -> Option<&Arc<Validator>> {
        self.payload.as_ref()
    }
}

/// A schema that this version cannot use, be it a later one's, must not stop submissions: the worker checks, too.
fn compiled(task: &TaskName, schema: &Schema) -> Option<Arc<Validator>> {
    let compiled = schema.compile().inspect_err(|error| {
        tracing::warn!(job.task = %task, %error, "a declared payload_schema cannot be used: payloads are not checked");
    });
    compiled.ok().map(Arc::new)
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
        Self {
            broker,
            unknown,
            known: RwLock::default(),
            last_miss: Mutex::default(),
            last_read: Mutex::default(),
        }
    }

    /// Learns what was declared. Costs one small read while nothing changes.
    pub(crate) async fn tick(&self) -> Result<(), Error> {
        let version = self.broker.tasks_version().await?;
        let mut last = self.last_read.lock().await;
        let known = |read: &Read| read.version == version && read.at.elapsed() < READ_AGAIN;
        if version.is_some() && last.as_ref().is_some_and(known) {
            return Ok(());
        }
        // The version was read first: what changes meanwhile has another one, and is read next time.
        let tasks = self.broker.tasks().await?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).learn(&tasks);
        *last = Some(Read { version, at: Instant::now() });
        Ok(())
    }

    /// All declarations as they are now, by name, and learns them: whoever sees a task in a list can submit to it at once.
    pub(crate) async fn read(&self) -> Result<Vec<Arc<Declared>>, Error> {
        self.tick().await?;
        Ok(self.snapshot().1)
    }

    /// Whether jobs of a declared task wait in that queue unless told otherwise. Deliveries of webhooks are Crunch's own task:
    /// their queue can be paused before the first of them.
    pub(crate) fn declares_queue(&self, queue: &QueueName) -> bool {
        if queue.is_reserved() {
            return true;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.tasks.iter().flatten().any(|(_, declared)| declared.task.queue == *queue)
    }

    /// What is known without asking anybody, by name, and a number that grows when it changes.
    pub(crate) fn snapshot(&self) -> (u64, Vec<Arc<Declared>>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut tasks: Vec<_> =
            known.tasks.iter().flatten().map(|(_, task)| task.clone()).collect();
        tasks.sort_by(|a, b| a.task.name.cmp(&b.task.name));
        (known.revision, tasks)
    }

    /// What a worker declared about a task; `None` if none ever did.
    pub(crate) async fn find(&self, name: &TaskName) -> Result<Option<Arc<Declared>>, Error> {
        if name.is_reserved() {
            return Ok(None);
        }
        if let Some(task) = self.known(name) {
            return Ok(Some(task));
        }
        self.read_after_miss().await?;
        Ok(self.known(name).or_else(|| match self.unknown {
            UnknownTasks::Refuse => None,
            UnknownTasks::Accept => {
                Some(Arc::new(Declared::new(TaskDescriptor::new(name.clone()), None)))
            }
        }))
    }

    /// The largest payload that any task takes as JSON inside an envelope; the largest there can be while nobody knows.
    pub(crate) fn largest_json_payload(&self) -> u64 {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(tasks) = &known.tasks else { return TaskDescriptor::MAX_PAYLOAD_LIMIT };
        let tasks = tasks.values().map(|declared| &declared.task);
        let json = tasks.filter(|task| task.accepts.contains(&ContentType::json()));
        // An envelope whose task is not known is read as far as one that is: it is to hear what is wrong with it.
        let usual = TaskDescriptor::DEFAULT_MAX_PAYLOAD;
        json.map(|task| task.max_payload).fold(usual, u64::max)
    }

    fn known(&self, name: &TaskName) -> Option<Arc<Declared>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.tasks.as_ref()?.get(name).cloned()
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
        // A worker of an earlier version may just have declared it.
        *self.last_read.lock().await = None;
        let outcome = self.tick().await;
        *last = Some(Miss { ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }
}

impl Known {
    fn learn(&mut self, tasks: &[TaskDescriptor]) {
        let before = self.tasks.take().unwrap_or_default();
        let mut changed = before.len() != tasks.len();
        let learned = tasks.iter().map(|task| {
            let old = before.get(&task.name);
            let declared = match old.filter(|old| old.task == *task) {
                Some(old) => old.clone(),
                None => {
                    changed = true;
                    Arc::new(Declared::new(task.clone(), old.map(Arc::as_ref)))
                }
            };
            (task.name.clone(), declared)
        });
        self.tasks = Some(learned.collect());
        self.revision += u64::from(changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaring(schema: Option<&str>) -> TaskDescriptor {
        let mut task = TaskDescriptor::new("t".parse().unwrap());
        // As it comes from Redis: nobody has looked at it yet.
        task.payload_schema = schema.map(|text| serde_json::from_str(text).unwrap());
        task
    }

    fn validator(known: &Known) -> Option<Arc<Validator>> {
        known.tasks.as_ref().unwrap().values().next().unwrap().payload.clone()
    }

    #[test]
    fn a_schema_is_compiled_again_only_when_its_text_changed() {
        let mut known = Known::default();
        known.learn(&[declaring(Some("{\"type\":\"object\"}"))]);
        let first = validator(&known).unwrap();
        let mut other = declaring(Some("{\"type\":\"object\"}"));
        other.max_attempts = 7;
        known.learn(&[other]);
        assert!(Arc::ptr_eq(&first, &validator(&known).unwrap()));
        known.learn(&[declaring(Some("{\"type\":\"array\"}"))]);
        assert!(!Arc::ptr_eq(&first, &validator(&known).unwrap()));
        known.learn(&[declaring(None)]);
        assert!(validator(&known).is_none());
    }

    #[test]
    fn the_revision_tells_whether_anything_changed() {
        let mut known = Known::default();
        let mut revision_after = |tasks: &[TaskDescriptor]| {
            known.learn(tasks);
            known.revision
        };
        assert_eq!(revision_after(&[declaring(None)]), 1);
        assert_eq!(revision_after(&[declaring(None)]), 1);
        assert_eq!(revision_after(&[declaring(Some("true"))]), 2);
        assert_eq!(revision_after(&[]), 3);
        assert_eq!(revision_after(&[]), 3);
    }

    #[test]
    fn a_schema_of_a_later_version_checks_nothing_and_stops_nobody() {
        let mut known = Known::default();
        known.learn(&[declaring(Some("{\"$schema\":\"https://example.com/2030\"}"))]);
        assert!(validator(&known).is_none());
    }
}
