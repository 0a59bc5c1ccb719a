//! What a task declares: its queue, limits, retries, content types and schemas.

use std::time::Duration;

use crunch_common::Pointer;
use crunch_common::backoff::Backoff;
use crunch_common::job::{ContentType, MAX_DURATION, Priority, Unique};
use crunch_common::queue::QueueName;
use crunch_common::schema::Schema;
use crunch_common::task::{Indexes, TaskDescriptor};
use crunch_common::time::whole_ms;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use super::Task;

impl Task {
    /// Puts its jobs into that queue instead of the one with the task's name.
    ///
    /// ```
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    /// // Both wait in one queue, which a worker on a large machine may serve alone.
    /// let tasks = [Task::new("image.resize", resize), Task::new("video.resize", resize)];
    /// let tasks = tasks.map(|task| task.queue("media"));
    /// ```
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
    ///
    /// ```
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    /// let task = Task::new("resize", resize).description("Resizes the logo to a width in pixels.");
    /// ```
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.descriptor.description = description.into();
        self
    }

    /// Limits the time of one attempt. Default 10 min.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use crunch_worker::testing::Attempt;
    /// use crunch_worker::{JobContext, Task, TaskError};
    ///
    /// async fn hang(job: JobContext, (): ()) -> Result<(), TaskError> {
    ///     job.cancellation().cancelled().await;
    ///     Err(TaskError::retryable("stopped"))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let task = Task::new("hang", hang).timeout(Duration::from_millis(10));
    /// let report = Attempt::of(task).run().await;
    /// assert_eq!(report.error().unwrap().code.as_str(), "timeout");
    /// # }
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.descriptor.timeout = timeout;
        self
    }

    /// Limits the charged attempts, the first included. Default 3.
    ///
    /// ```
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    /// // Never retried.
    /// let task = Task::new("resize", resize).max_attempts(1);
    /// ```
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.descriptor.max_attempts = attempts.max(1);
        self
    }

    /// Sets the wait after a failed attempt. Default: 0 to `min(10 min, 1 s · 2ⁿ)`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use crunch_worker::Backoff;
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    ///
    /// // The first retry waits up to 20 s, the second up to 40 s, later ones up to a minute.
    /// let backoff = Backoff { base: Duration::from_secs(10), max: Duration::from_secs(60) };
    /// let task = Task::new("resize", resize).max_attempts(8).backoff(backoff);
    /// ```
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.descriptor.backoff = backoff;
        self
    }

    /// Sets the priority of its jobs. Default normal.
    ///
    /// ```
    /// use crunch_worker::Priority;
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    ///
    /// let task = Task::new("resize", resize).priority(Priority::Low);
    /// ```
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.descriptor.priority = priority;
        self
    }

    /// Sets how long its finished jobs are kept, however they ended.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    ///
    /// let task = Task::new("resize", resize).retention(Duration::from_secs(7 * 24 * 3600));
    /// ```
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        let retention = retention.min(MAX_DURATION);
        self.descriptor.retention_ms = Some(whole_ms(retention));
        self
    }

    /// Sets within which time a job must start, from its submission or, if it has a delay, from the end of that: a job that
    /// is not claimed by then is canceled, with the code `expired`. A job that sets its own `start_within_ms` has that.
    /// Default: no limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn remind(_job: JobContext, _user: u32) -> Result<(), TaskError> {
    /// #     Ok(())
    /// # }
    ///
    /// let task = Task::new("remind", remind).start_within(Duration::from_secs(600));
    /// ```
    #[must_use]
    pub fn start_within(mut self, time: Duration) -> Self {
        self.descriptor.start_within_ms = Some(whole_ms(time.min(MAX_DURATION)));
        self
    }

    /// Indexes labels of its jobs, at most three: `GET /jobs?metadata.customer=acme` then finds the jobs with that label
    /// among millions. Values above 64 bytes are not indexed. Default none.
    ///
    /// ```
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    /// let task = Task::new("resize", resize).indexes(&["customer", "region"]);
    /// ```
    ///
    /// # Panics
    /// If there are more than three, or one is listed twice or not the name of a label.
    #[must_use]
    pub fn indexes(mut self, labels: &[&str]) -> Self {
        self.descriptor.indexes =
            Indexes::new(labels.iter().copied()).expect("indexes in code are valid");
        self
    }

    /// Puts its jobs into groups, by a value in their JSON payload: a JSON Pointer (RFC 6901) to a string, a number or a
    /// boolean. The groups of a queue take turns, so that one customer with many jobs delays no other. A job whose
    /// payload has nothing or null there is in no group, and one that names a group itself is in that. Default none.
    ///
    /// ```
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    /// let task = Task::new("resize", resize).group("/customer/id");
    /// ```
    ///
    /// # Panics
    /// If it is not a JSON Pointer, or longer than 256 bytes.
    #[must_use]
    pub fn group(mut self, pointer: &str) -> Self {
        let pointer: Pointer = pointer.parse().expect("a JSON Pointer in code is valid");
        self.descriptor.group = Some(pointer);
        self
    }

    /// Makes its jobs unique, unless they say otherwise: while one holds its lock, another one of the same queue and group that
    /// is unique by the same is not simply added. Default: they are not.
    ///
    /// ```
    /// use crunch_worker::{OnConflict, Unique};
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn import(_job: JobContext, _customer: u32) -> Result<(), TaskError> {
    /// #     Ok(())
    /// # }
    ///
    /// let unique = Unique::by_fields(["/customer".parse().unwrap()]).on_conflict(OnConflict::KeepLatest);
    /// let task = Task::new("import", import).unique(unique);
    /// ```
    #[must_use]
    pub fn unique(mut self, unique: Unique) -> Self {
        self.descriptor.unique = Some(unique);
        self
    }

    /// Sets the content types it accepts. Default JSON.
    ///
    /// ```
    /// use crunch_worker::{JobContext, Payload, Task, TaskError};
    ///
    /// async fn measure(job: JobContext, image: Payload) -> Result<Payload, TaskError> {
    ///     let is_png = job.content_type().as_str() == "image/png";
    ///     Ok(Payload::json(format!("[{is_png}, {}]", image.bytes.len())))
    /// }
    ///
    /// let task = Task::raw("image.measure", measure).accepts(&["image/png", "image/jpeg"]);
    /// ```
    ///
    /// # Panics
    /// If one is not a media type.
    #[must_use]
    pub fn accepts(mut self, types: &[&str]) -> Self {
        self.descriptor.accepts = types.iter().copied().map(media_type).collect();
        self
    }

    /// Declares the content type of its results; a raw handler sets it for each result too. Default JSON.
    ///
    /// ```
    /// use crunch_worker::{JobContext, Payload, Task, TaskError};
    ///
    /// async fn report(_job: JobContext, _: Payload) -> Result<Payload, TaskError> {
    ///     Ok(Payload { bytes: "<h1>All is well</h1>".into(), content_type: "text/html".parse()? })
    /// }
    ///
    /// let task = Task::raw("report", report).content_type("text/html");
    /// ```
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
    /// ```
    /// use crunch_worker::schemars::{self, JsonSchema};
    /// use crunch_worker::testing::{Attempt, Outcome};
    /// use crunch_worker::{JobContext, Task, TaskError};
    /// use serde::Deserialize;
    ///
    /// #[derive(Deserialize, JsonSchema)]
    /// struct Resize {
    ///     /// In pixels.
    ///     #[schemars(range(min = 1, max = 4096))]
    ///     width: u32,
    /// }
    ///
    /// async fn resize(_job: JobContext, input: Resize) -> Result<u32, TaskError> {
    ///     Ok(input.width)
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let task = Task::new("resize", resize).payload_schema::<Resize>();
    /// let report = Attempt::of(task).payload(serde_json::json!({"width": 0})).run().await;
    /// assert!(matches!(report.outcome, Outcome::Rejected(reason) if reason.starts_with("/width")));
    /// # }
    /// ```
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
    /// ```
    /// use crunch_worker::schemars::{self, JsonSchema};
    /// use crunch_worker::testing::Attempt;
    /// use crunch_worker::{JobContext, Task, TaskError};
    /// use serde::Serialize;
    ///
    /// #[derive(Serialize, JsonSchema)]
    /// struct Resized {
    ///     #[schemars(range(max = 4096))]
    ///     width: u32,
    /// }
    ///
    /// async fn resize(_job: JobContext, width: u32) -> Result<Resized, TaskError> {
    ///     Ok(Resized { width })
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let task = Task::new("resize", resize).result_schema::<Resized>();
    /// let report = Attempt::of(task).payload(5000).run().await;
    /// assert_eq!(report.error().unwrap().code.as_str(), "result_invalid");
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    /// let task = Task::new("resize", resize).max_payload(16 * 1024 * 1024);
    /// ```
    #[must_use]
    pub fn max_payload(mut self, bytes: u64) -> Self {
        self.descriptor.max_payload = bytes.min(TaskDescriptor::MAX_PAYLOAD_LIMIT);
        self
    }

    /// Limits its results, in bytes. A larger one fails its job with `result_too_large`. Default
    /// `CRUNCH_WORKER_MAX_RESULT`, at most 64 MiB.
    ///
    /// ```
    /// use crunch_worker::testing::Attempt;
    /// use crunch_worker::{JobContext, Task, TaskError};
    ///
    /// async fn repeat(_job: JobContext, times: usize) -> Result<String, TaskError> {
    ///     Ok("ha".repeat(times))
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let report = Attempt::of(Task::new("laugh", repeat).max_result(100)).payload(50).run().await;
    /// assert_eq!(report.error().unwrap().code.as_str(), "result_too_large");
    /// # }
    /// ```
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
