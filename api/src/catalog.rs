//! The tasks that workers declared, refreshed continuously.
//!
//! A schema is compiled when its text is first read, and again only when the text changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error};
use crunch_common::job::ContentType;
use crunch_common::queue::QueueName;
use crunch_common::schema::{Schema, Validator};
use crunch_common::task::{TaskDescriptor, TaskName};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::UnknownTasks;

/// A request for an unknown task reads the list again at once, but not more often than this.
const MISS_INTERVAL: Duration = Duration::from_millis(100);

/// The declared tasks.
#[derive(Debug)]
pub(crate) struct Catalog {
    broker: Broker,
    unknown: UnknownTasks,
    declarations: RwLock<Declarations>,
    last_miss: Mutex<Option<Miss>>,
    last_read: Mutex<Option<Read>>,
}

/// All declarations are read again after this long even if their version is the same: workers of an earlier version
/// change them without a new version.
const READ_AGAIN: Duration = Duration::from_secs(30);

/// The last read.
#[derive(Debug)]
struct Read {
    version: Option<u64>,
    at: Instant,
}

#[derive(Debug, Default)]
struct Declarations {
    /// `None` until Redis was read once: until then no task counts as unknown.
    tasks: Option<HashMap<TaskName, Arc<Declared>>>,
    /// Increases with every change.
    revision: u64,
}

/// A declared task.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) task: TaskDescriptor,
    /// Validates JSON payloads; `None` if no schema was declared, or one that cannot be used.
    payload: Option<Arc<Validator>>,
}

impl Declared {
    /// Creates the entry of a task, with the compiled schema of `before` if the task still declares that schema.
    fn new(task: TaskDescriptor, before: Option<&Self>) -> Self {
        let unchanged = before.filter(|before| before.task.payload_schema == task.payload_schema);
        let payload = match (unchanged, &task.payload_schema) {
            (Some(before), _) => before.payload.clone(),
            (None, Some(schema)) => compiled(&task.name, schema),
            (None, None) => None,
        };
        Self { task, payload }
    }

    /// Returns the validator of JSON payloads.
    pub(crate) fn payload(&self) -> Option<&Arc<Validator>> {
        self.payload.as_ref()
    }
}

/// Compiles a schema. One that this version cannot use, such as a later version's, must not block submissions: the
/// worker checks, too.
fn compiled(task: &TaskName, schema: &Schema) -> Option<Arc<Validator>> {
    let compiled = schema.compile().inspect_err(|error| {
        tracing::warn!(job.task = %task, %error, "cannot use a declared payload_schema: payloads are not checked");
    });
    compiled.ok().map(Arc::new)
}

/// The last read that an unknown task caused.
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
            declarations: RwLock::default(),
            last_miss: Mutex::default(),
            last_read: Mutex::default(),
        }
    }

    /// Reads the declarations. Costs one small read while nothing changes.
    pub(crate) async fn tick(&self) -> Result<(), Error> {
        let version = self.broker.tasks_version().await?;
        let mut last = self.last_read.lock().await;
        let unchanged = |read: &Read| read.version == version && read.at.elapsed() < READ_AGAIN;
        if version.is_some() && last.as_ref().is_some_and(unchanged) {
            return Ok(());
        }
        // The version is read first: a change meanwhile has another version, and is read next time.
        let tasks = self.broker.tasks().await?;
        self.declarations.write().update(&tasks);
        *last = Some(Read { version, at: Instant::now() });
        Ok(())
    }

    /// Reads, stores and returns all declarations by name: a client that gets a task in a list can submit at once.
    pub(crate) async fn read(&self) -> Result<Vec<Arc<Declared>>, Error> {
        self.tick().await?;
        Ok(self.snapshot().1)
    }

    /// Whether the queue is the default of a declared task. Deliveries of webhooks are a task of Crunch: their queue
    /// can be paused before the first of them.
    pub(crate) fn declares_queue(&self, queue: &QueueName) -> bool {
        if queue.is_reserved() {
            return true;
        }
        let declarations = self.declarations.read();
        declarations.tasks.iter().flatten().any(|(_, declared)| declared.task.queue == *queue)
    }

    /// Returns the last read declarations by name, and a number that increases when they change.
    pub(crate) fn snapshot(&self) -> (u64, Vec<Arc<Declared>>) {
        let declarations = self.declarations.read();
        let mut tasks: Vec<_> =
            declarations.tasks.iter().flatten().map(|(_, task)| task.clone()).collect();
        tasks.sort_by(|a, b| a.task.name.cmp(&b.task.name));
        (declarations.revision, tasks)
    }

    /// Finds the declaration of a task; `None` if no worker ever declared it and unknown tasks are refused.
    pub(crate) async fn find(&self, name: &TaskName) -> Result<Option<Arc<Declared>>, Error> {
        if name.is_reserved() {
            return Ok(None);
        }
        if let Some(task) = self.declared(name) {
            return Ok(Some(task));
        }
        self.read_after_miss().await?;
        Ok(self.declared(name).or_else(|| match self.unknown {
            UnknownTasks::Refuse => None,
            UnknownTasks::Accept => {
                Some(Arc::new(Declared::new(TaskDescriptor::new(name.clone()), None)))
            }
        }))
    }

    /// Returns the largest payload that any task accepts as JSON in an envelope; the upper limit while the tasks are
    /// not known.
    pub(crate) fn largest_json_payload(&self) -> u64 {
        let declarations = self.declarations.read();
        let Some(tasks) = &declarations.tasks else { return TaskDescriptor::MAX_PAYLOAD_LIMIT };
        let tasks = tasks.values().map(|declared| &declared.task);
        let json = tasks.filter(|task| task.accepts.contains(&ContentType::json()));
        // An envelope for an unknown task is read up to the default limit, so that its answer names the error.
        let usual = TaskDescriptor::DEFAULT_MAX_PAYLOAD;
        json.map(|task| task.max_payload).fold(usual, u64::max)
    }

    fn declared(&self, name: &TaskName) -> Option<Arc<Declared>> {
        let declarations = self.declarations.read();
        declarations.tasks.as_ref()?.get(name).cloned()
    }

    /// Reads again, one caller at a time. Callers that waited get the same outcome; callers soon after, only if it was
    /// a success.
    async fn read_after_miss(&self) -> Result<(), Error> {
        let requested = Instant::now();
        let mut last = self.last_miss.lock().await;
        if let Some(miss) = &*last {
            let fresh = if miss.outcome.is_ok() { MISS_INTERVAL } else { Duration::ZERO };
            if miss.ended + fresh >= requested {
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

impl Declarations {
    fn update(&mut self, tasks: &[TaskDescriptor]) {
        let before = self.tasks.take().unwrap_or_default();
        let mut changed = before.len() != tasks.len();
        let updated = tasks.iter().map(|task| {
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
        self.tasks = Some(updated.collect());
        self.revision += u64::from(changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaring(schema: Option<&str>) -> TaskDescriptor {
        let mut task = TaskDescriptor::new("t".parse().unwrap());
        // As read from Redis: not checked yet.
        task.payload_schema = schema.map(|text| serde_json::from_str(text).unwrap());
        task
    }

    fn validator(declarations: &Declarations) -> Option<Arc<Validator>> {
        declarations.tasks.as_ref().unwrap().values().next().unwrap().payload.clone()
    }

    #[test]
    fn a_schema_is_compiled_again_only_when_its_text_changed() {
        let mut declarations = Declarations::default();
        declarations.update(&[declaring(Some("{\"type\":\"object\"}"))]);
        let first = validator(&declarations).unwrap();
        let mut other = declaring(Some("{\"type\":\"object\"}"));
        other.max_attempts = 7;
        declarations.update(&[other]);
        assert!(Arc::ptr_eq(&first, &validator(&declarations).unwrap()));
        declarations.update(&[declaring(Some("{\"type\":\"array\"}"))]);
        assert!(!Arc::ptr_eq(&first, &validator(&declarations).unwrap()));
        declarations.update(&[declaring(None)]);
        assert!(validator(&declarations).is_none());
    }

    #[test]
    fn the_revision_changes_with_what_is_declared() {
        let mut declarations = Declarations::default();
        let mut revision_after = |tasks: &[TaskDescriptor]| {
            declarations.update(tasks);
            declarations.revision
        };
        assert_eq!(revision_after(&[declaring(None)]), 1);
        assert_eq!(revision_after(&[declaring(None)]), 1);
        assert_eq!(revision_after(&[declaring(Some("true"))]), 2);
        assert_eq!(revision_after(&[]), 3);
        assert_eq!(revision_after(&[]), 3);
    }

    #[test]
    fn a_schema_of_a_later_version_checks_nothing_and_stops_nobody() {
        let mut declarations = Declarations::default();
        declarations.update(&[declaring(Some("{\"$schema\":\"https://example.com/2030\"}"))]);
        assert!(validator(&declarations).is_none());
    }
}
