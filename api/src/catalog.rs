//! The tasks that workers declared, read again every second.
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
use crate::nearest::nearest;

/// A misspelled name is compared with no more than this many, since anybody may send one.
const MAX_CANDIDATES: usize = 200;
/// A request for an unknown task reads the list again at once, but not more often than this.
const MISS_INTERVAL: Duration = Duration::from_millis(100);

/// The declared tasks.
#[derive(Debug)]
pub(crate) struct Catalog {
    broker: Broker,
    unknown_tasks: UnknownTasks,
    declarations: RwLock<Declarations>,
    last_miss: Mutex<Option<Miss>>,
    last_read: Mutex<Option<Read>>,
}

/// All declarations are read again after this long even if their version did not change: workers that run an earlier
/// release of Crunch declare tasks without increasing it.
const MAX_AGE: Duration = Duration::from_secs(30);

/// A read of all declarations.
#[derive(Debug)]
struct Read {
    /// The version of the declarations in Redis, which increases with every change; `None` if Redis has none.
    version: Option<u64>,
    at: Instant,
}

#[derive(Debug, Default)]
struct Declarations {
    /// `None` until Redis was read once: until then no task counts as unknown.
    tasks: Option<HashMap<TaskName, Arc<DeclaredTask>>>,
    /// Increases with every change that this process reads.
    revision: u64,
}

/// A declared task.
#[derive(Debug)]
pub(crate) struct DeclaredTask {
    pub(crate) task: TaskDescriptor,
    /// Validates JSON payloads; `None` if no schema was declared, or one that cannot be used.
    payload_validator: Option<Arc<Validator>>,
}

impl DeclaredTask {
    /// Creates the entry of a task, with the validator of its previous entry if the task still declares that schema.
    fn new(task: TaskDescriptor, previous: Option<&Self>) -> Self {
        let unchanged = previous.filter(|it| it.task.payload_schema == task.payload_schema);
        let payload_validator = match (unchanged, &task.payload_schema) {
            (Some(previous), _) => previous.payload_validator.clone(),
            (None, Some(schema)) => compile_or_warn(&task.name, schema),
            (None, None) => None,
        };
        Self { task, payload_validator }
    }

    pub(crate) fn payload_validator(&self) -> Option<&Arc<Validator>> {
        self.payload_validator.as_ref()
    }
}

/// Compiles a schema. One that this release cannot use, such as a later one's, must not block submissions: the
/// worker checks them, too.
fn compile_or_warn(task: &TaskName, schema: &Schema) -> Option<Arc<Validator>> {
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

    pub(crate) fn new(broker: Broker, unknown_tasks: UnknownTasks) -> Self {
        Self {
            broker,
            unknown_tasks,
            declarations: RwLock::default(),
            last_miss: Mutex::default(),
            last_read: Mutex::default(),
        }
    }

    /// Reads the declarations if they may have changed; otherwise this costs one small read.
    pub(crate) async fn tick(&self) -> Result<(), Error> {
        let version = self.broker.tasks_version().await?;
        let mut last = self.last_read.lock().await;
        let unchanged = |read: &Read| read.version == version && read.at.elapsed() < MAX_AGE;
        if version.is_some() && last.as_ref().is_some_and(unchanged) {
            return Ok(());
        }
        // The version was read first: a change meanwhile leads to another version, and is read next time.
        let tasks = self.broker.tasks().await?;
        self.declarations.write().update(&tasks);
        *last = Some(Read { version, at: Instant::now() });
        Ok(())
    }

    /// Reads, stores and returns all declarations, sorted by name: a client that gets a task in a list can submit at
    /// once.
    pub(crate) async fn read(&self) -> Result<Vec<Arc<DeclaredTask>>, Error> {
        self.tick().await?;
        Ok(self.snapshot().1)
    }

    /// Whether the queue is the default of a declared task. That of webhook deliveries is reserved and counts as
    /// declared: it can be paused before the first delivery.
    pub(crate) fn declares_queue(&self, queue: &QueueName) -> bool {
        if queue.is_reserved() {
            return true;
        }
        let declarations = self.declarations.read();
        declarations.tasks.iter().flatten().any(|(_, declared)| declared.task.queue == *queue)
    }

    /// Whether the jobs with such a label are found by an index: if the task declares it, or without a task any task.
    pub(crate) fn indexes(&self, task: Option<&TaskName>, label: &str) -> bool {
        let declarations = self.declarations.read();
        let mut tasks = declarations.tasks.iter().flatten();
        tasks.any(|(name, declared)| {
            task.is_none_or(|task| task == name) && declared.task.indexes.contains(label)
        })
    }

    /// Returns the declarations of the last read, sorted by name, and a number that increases when they change.
    pub(crate) fn snapshot(&self) -> (u64, Vec<Arc<DeclaredTask>>) {
        let declarations = self.declarations.read();
        let mut tasks: Vec<_> =
            declarations.tasks.iter().flatten().map(|(_, task)| task.clone()).collect();
        tasks.sort_by(|a, b| a.task.name.cmp(&b.task.name));
        (declarations.revision, tasks)
    }

    /// Finds the declaration of a task; `None` if the name is reserved, or if no worker declared the task in the last
    /// 30 days and unknown tasks are refused.
    pub(crate) async fn find(&self, name: &TaskName) -> Result<Option<Arc<DeclaredTask>>, Error> {
        if name.is_reserved() {
            return Ok(None);
        }
        if let Some(task) = self.declared(name) {
            return Ok(Some(task));
        }
        self.read_after_miss().await?;
        Ok(self.declared(name).or_else(|| match self.unknown_tasks {
            UnknownTasks::Refuse => None,
            UnknownTasks::Accept => {
                Some(Arc::new(DeclaredTask::new(TaskDescriptor::new(name.clone()), None)))
            }
        }))
    }

    /// Returns the declared task that was perhaps meant by `name`.
    pub(crate) fn nearest(&self, name: &TaskName) -> Option<TaskName> {
        let declarations = self.declarations.read();
        let names = declarations.tasks.iter().flatten().map(|(name, _)| name.as_str());
        nearest(name.as_str(), names.take(MAX_CANDIDATES))?.parse().ok()
    }

    /// Returns the largest payload that any task accepts as JSON in an envelope; the upper limit while the tasks are
    /// not known.
    pub(crate) fn largest_json_payload(&self) -> u64 {
        let declarations = self.declarations.read();
        let Some(tasks) = &declarations.tasks else { return TaskDescriptor::MAX_PAYLOAD_LIMIT };
        let tasks = tasks.values().map(|declared| &declared.task);
        let json = tasks.filter(|task| task.accepts.contains(&ContentType::json()));
        // An envelope for an unknown task is read up to the default limit, so that its answer names the error.
        let default = TaskDescriptor::DEFAULT_MAX_PAYLOAD;
        json.map(|task| task.max_payload).fold(default, u64::max)
    }

    fn declared(&self, name: &TaskName) -> Option<Arc<DeclaredTask>> {
        let declarations = self.declarations.read();
        declarations.tasks.as_ref()?.get(name).cloned()
    }

    /// Reads again, one caller at a time. Callers that waited get the same outcome; callers soon after, only if it was
    /// a success.
    async fn read_after_miss(&self) -> Result<(), Error> {
        let requested = Instant::now();
        let mut last = self.last_miss.lock().await;
        if let Some(miss) = &*last {
            let valid_for = if miss.outcome.is_ok() { MISS_INTERVAL } else { Duration::ZERO };
            if miss.ended + valid_for >= requested {
                return miss.outcome.clone();
            }
        }
        // The version does not suffice: a worker of an earlier release may just have declared the task.
        *self.last_read.lock().await = None;
        let outcome = self.tick().await;
        *last = Some(Miss { ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }
}

impl Declarations {
    fn update(&mut self, tasks: &[TaskDescriptor]) {
        let previous = self.tasks.take().unwrap_or_default();
        let mut changed = previous.len() != tasks.len();
        let updated = tasks.iter().map(|task| {
            let old = previous.get(&task.name);
            let declared = match old.filter(|old| old.task == *task) {
                Some(old) => old.clone(),
                None => {
                    changed = true;
                    Arc::new(DeclaredTask::new(task.clone(), old.map(Arc::as_ref)))
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
        declarations.tasks.as_ref().unwrap().values().next().unwrap().payload_validator.clone()
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
    fn a_schema_of_a_later_release_is_not_used_and_blocks_no_submission() {
        let mut declarations = Declarations::default();
        declarations.update(&[declaring(Some("{\"$schema\":\"https://example.com/2030\"}"))]);
        assert!(validator(&declarations).is_none());
    }
}
