//! A task and its code: what a worker declares, and what it runs.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::job::{ContentType, Payload, Priority};
use crunch_common::queue::QueueName;
use crunch_common::schema::{Schema, Validator};
use crunch_common::task::{TaskDescriptor, TaskName};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::JobContext;
use crate::handler::{Handler, HandlerFuture, TaskError};

/// A task and the handler that runs it.
#[derive(Clone)]
pub struct Task {
    pub(crate) descriptor: TaskDescriptor,
    pub(crate) handler: Arc<dyn Handler>,
    /// The declared schema of results, compiled.
    pub(crate) result: Option<Arc<Validator>>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

impl Task {
    /// Creates a task that an async function runs: JSON in, JSON out.
    ///
    /// # Panics
    /// If `name` is not a task name: 1–64 characters of `[a-z0-9_.-]`, starting with a letter or digit.
    pub fn new<I, O, Run, Running>(name: &str, run: Run) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        Run: Fn(JobContext, I) -> Running + Send + Sync + 'static,
        Running: Future<Output = Result<O, TaskError>> + Send + 'static,
    {
        let run = Arc::new(run);
        Self::of(name, move |job: JobContext, payload: Payload| -> HandlerFuture {
            let run = run.clone();
            Box::pin(async move { encode(&run(job, input(&payload)?).await?) })
        })
    }

    /// Creates a CPU-bound task: the function runs on a separate thread, never in the async runtime. JSON in, JSON out.
    ///
    /// # Panics
    /// As [`Task::new`].
    pub fn blocking<I, O, Run>(name: &str, run: Run) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
        Run: Fn(JobContext, I) -> Result<O, TaskError> + Send + Sync + 'static,
    {
        Self::raw_blocking(name, move |job, payload| encode(&run(job, input(&payload)?)?))
    }

    /// Creates a task that an async function runs on raw bytes. Declare with [`Task::accepts`] and
    /// [`Task::content_type`] what it takes and returns, if that is not JSON.
    ///
    /// # Panics
    /// As [`Task::new`].
    pub fn raw<Run, Running>(name: &str, run: Run) -> Self
    where
        Run: Fn(JobContext, Payload) -> Running + Send + Sync + 'static,
        Running: Future<Output = Result<Payload, TaskError>> + Send + 'static,
    {
        Self::of(name, move |job, payload| -> HandlerFuture { Box::pin(run(job, payload)) })
    }

    /// Creates a CPU-bound task on raw bytes.
    ///
    /// # Panics
    /// As [`Task::new`].
    pub fn raw_blocking<Run>(name: &str, run: Run) -> Self
    where
        Run: Fn(JobContext, Payload) -> Result<Payload, TaskError> + Send + Sync + 'static,
    {
        let run = Arc::new(run);
        Self::of(name, move |job, payload| -> HandlerFuture {
            let run = run.clone();
            Box::pin(on_own_thread(move || run(job, payload)))
        })
    }

    fn of<Run>(name: &str, run: Run) -> Self
    where
        Run: Fn(JobContext, Payload) -> HandlerFuture + Send + Sync + 'static,
    {
        let name: TaskName = name.parse().expect("a task name in code is valid");
        Self::from_handler(TaskDescriptor::new(name), Arc::new(Function(run)))
    }

    /// Creates a task with a custom handler.
    #[must_use]
    pub fn from_handler(descriptor: TaskDescriptor, handler: Arc<dyn Handler>) -> Self {
        let schema = descriptor.result_schema.as_ref();
        // A schema that was parsed compiles; one that was not is declared unchanged, and nothing is checked here.
        let result = schema.and_then(|schema| schema.compile().ok()).map(Arc::new);
        Self { descriptor, handler, result }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &TaskName {
        &self.descriptor.name
    }

    /// Puts its jobs into that queue instead of the one with the task's name.
    ///
    /// # Panics
    /// If `queue` is not a queue name.
    #[must_use]
    pub fn queue(mut self, queue: &str) -> Self {
        let queue: QueueName = queue.parse().expect("a queue name in code is valid");
        self.descriptor.queue = queue;
        self
    }

    /// Describes what it does, in a sentence.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.descriptor.description = description.into();
        self
    }

    /// Limits the time of one attempt. Default 10 min.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.descriptor.timeout = timeout;
        self
    }

    /// Limits the charged attempts, the first included. Default 3.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.descriptor.max_attempts = attempts.max(1);
        self
    }

    /// Sets the wait after a failed attempt. Default: 0 to `min(10 min, 1 s · 2ⁿ)`.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.descriptor.backoff = backoff;
        self
    }

    /// Sets the priority of its jobs. Default normal.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.descriptor.priority = priority;
        self
    }

    /// Sets how long its finished jobs are kept, however they ended.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        let retention = retention.min(crunch_common::job::MAX_DURATION);
        self.descriptor.retention_ms = Some(crunch_common::time::whole_ms(retention));
        self
    }

    /// Sets the content types it accepts. Default JSON.
    ///
    /// # Panics
    /// If one is not a media type.
    #[must_use]
    pub fn accepts(mut self, types: &[&str]) -> Self {
        self.descriptor.accepts = types.iter().copied().map(media_type).collect();
        self
    }

    /// Sets the content type of its results. Default JSON.
    ///
    /// # Panics
    /// If it is not a media type.
    #[must_use]
    pub fn content_type(mut self, content_type: &str) -> Self {
        self.descriptor.content_type = media_type(content_type);
        self
    }

    /// Declares the schema of its payloads, by the type that the handler takes: APIs reject payloads that do not match
    /// before they are queued, and clients see it in `GET /tasks/{task}` and `/openapi.json`. The handler still checks
    /// its input: a job may be older than the schema.
    ///
    /// # Panics
    /// If the type's schema cannot be declared; its derived one can, unless it is larger than 64 KiB.
    #[must_use]
    pub fn payload_schema<I: JsonSchema>(mut self) -> Self {
        let settings = SchemaSettings::draft2020_12().for_deserialize();
        self.descriptor.payload_schema = Some(schema_of::<I>(settings));
        self
    }

    /// Declares the schema of its results, by the type that the handler returns. A result that does not match fails its
    /// job with `result_invalid`.
    ///
    /// # Panics
    /// As [`Task::payload_schema`].
    #[must_use]
    pub fn result_schema<O: JsonSchema>(mut self) -> Self {
        let settings = SchemaSettings::draft2020_12().for_serialize();
        self.descriptor.result_schema = Some(schema_of::<O>(settings));
        Self::from_handler(self.descriptor, self.handler)
    }

    /// Limits its payloads, in bytes. Default 256 KiB, at most 64 MiB.
    #[must_use]
    pub fn max_payload(mut self, bytes: u64) -> Self {
        self.descriptor.max_payload = bytes.min(TaskDescriptor::MAX_PAYLOAD_LIMIT);
        self
    }

    /// Limits its results, in bytes. A larger one fails its job with `result_too_large`. Default
    /// `CRUNCH_WORKER_MAX_RESULT`, at most 64 MiB.
    #[must_use]
    pub fn max_result(mut self, bytes: u64) -> Self {
        self.descriptor.max_result = Some(bytes.clamp(1, TaskDescriptor::MAX_RESULT_LIMIT));
        self
    }
}

fn schema_of<T: JsonSchema>(settings: SchemaSettings) -> Schema {
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let parsed = schema.as_value().to_string().parse();
    parsed.unwrap_or_else(|error| panic!("the schema of {}: {error}", std::any::type_name::<T>()))
}

fn media_type(text: &str) -> ContentType {
    text.parse().expect("a media type in code is valid")
}

fn input<I: DeserializeOwned>(payload: &Payload) -> Result<I, TaskError> {
    let mut json = serde_json::Deserializer::from_slice(&payload.bytes);
    let input = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| TaskError::payload_invalid(error.to_string()))?;
    json.end().map_err(|error| TaskError::payload_invalid(error.to_string()))?;
    Ok(input)
}

fn encode<O: Serialize>(output: &O) -> Result<Payload, TaskError> {
    Ok(Payload::json(serde_json::to_vec(output)?))
}

/// Runs `work` on a separate thread, so that it cannot block the async runtime or its thread pool. A panic there is
/// resumed here.
async fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, TaskError> {
    let (sender, receiver) =
        oneshot::channel::<Result<Result<T, TaskError>, Box<dyn Any + Send>>>();
    let thread = std::thread::Builder::new().name("crunch-task".to_owned()).spawn(move || {
        // The receiver is dropped if the attempt was abandoned.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    });
    thread.map_err(|error| TaskError::no_thread(&error))?;
    match receiver.await? {
        Ok(result) => result,
        Err(panic) => resume_unwind(panic),
    }
}

struct Function<Run>(Run);

impl<Run> Handler for Function<Run>
where
    Run: Fn(JobContext, Payload) -> HandlerFuture + Send + Sync + 'static,
{
    fn run(&self, job: JobContext, payload: Payload) -> HandlerFuture {
        (self.0)(job, payload)
    }
}
