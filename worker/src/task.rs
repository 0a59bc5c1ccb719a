//! A task and its code: what a worker declares, and what it runs.

mod declaration;

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crunch_common::job::Payload;
use crunch_common::schema::Validator;
use crunch_common::task::{TaskDescriptor, TaskName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::JobContext;
use crate::batch::{Batch, Call, Collector};
use crate::handler::{Handler, HandlerFuture, TaskError};

/// A task and the handler that runs it.
///
/// ```
/// use std::time::Duration;
///
/// use crunch_worker::{JobContext, Priority, Task, TaskError};
///
/// async fn greet(_job: JobContext, name: String) -> Result<String, TaskError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// let task = Task::new("greet", greet)
///     .description("Greets somebody.")
///     .queue("greetings")
///     .priority(Priority::High)
///     .timeout(Duration::from_secs(5))
///     .max_attempts(2);
/// assert_eq!(task.name().as_str(), "greet");
/// ```
#[derive(Clone)]
pub struct Task {
    pub(crate) descriptor: TaskDescriptor,
    pub(crate) handler: Arc<dyn Handler>,
    /// The declared schema of results, compiled.
    pub(crate) result: Option<Arc<Validator>>,
    /// With how many jobs a batch is full, if it runs in batches.
    pub(crate) batch: Option<Arc<AtomicUsize>>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

impl Task {
    /// Creates a task that an async function runs: JSON in, JSON out.
    ///
    /// ```
    /// use crunch_worker::{JobContext, Task, TaskError};
    ///
    /// /// Waits for a service, without a thread of its own.
    /// async fn ping(_job: JobContext, address: String) -> Result<u128, TaskError> {
    ///     let start = std::time::Instant::now();
    ///     tokio::net::TcpStream::connect(address).await?;
    ///     Ok(start.elapsed().as_millis())
    /// }
    ///
    /// let task = Task::new("service.ping", ping);
    /// ```
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
    /// ```
    /// use crunch_worker::{JobContext, Task, TaskError};
    ///
    /// /// Computes, and may also block, for example on a file.
    /// fn fibonacci(_job: JobContext, n: u32) -> Result<u64, TaskError> {
    ///     let (mut current, mut next) = (0_u64, 1_u64);
    ///     for _ in 0..n {
    ///         let sum = current.checked_add(next).ok_or_else(|| TaskError::permanent("too large"))?;
    ///         (current, next) = (next, sum);
    ///     }
    ///     Ok(current)
    /// }
    ///
    /// let task = Task::blocking("fibonacci", fibonacci);
    /// ```
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
    /// ```
    /// use crunch_worker::testing::Attempt;
    /// use crunch_worker::{ContentType, JobContext, Payload, Task, TaskError};
    ///
    /// async fn shout(_job: JobContext, text: Payload) -> Result<Payload, TaskError> {
    ///     let content_type: ContentType = "text/plain".parse()?;
    ///     Ok(Payload { bytes: text.bytes.to_ascii_uppercase().into(), content_type })
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let task = Task::raw("shout", shout).accepts(&["text/plain"]).content_type("text/plain");
    ///
    /// let report = Attempt::of(task).raw_payload("hey", "text/plain").run().await;
    /// assert_eq!(&report.result.unwrap().bytes[..], b"HEY");
    /// # }
    /// ```
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
    /// ```
    /// use crunch_worker::{JobContext, Payload, Task, TaskError};
    ///
    /// fn count_bytes(_job: JobContext, file: Payload) -> Result<Payload, TaskError> {
    ///     Ok(Payload::json(file.bytes.len().to_string()))
    /// }
    ///
    /// let task = Task::raw_blocking("bytes.count", count_bytes).accepts(&["application/octet-stream"]);
    /// ```
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

    /// Creates a task whose async function is called with many jobs at once: for what costs as much for many as for one,
    /// such as a statement of a database. JSON in, JSON out.
    ///
    /// It returns an outcome for each job, in their order, or an error with which all of them end. A job that must stop
    /// leaves the batch if that has not begun; see [`JobContext::cancellation`] of each otherwise.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use crunch_worker::testing::Attempt;
    /// use crunch_worker::{Batch, JobContext, Task, TaskError};
    ///
    /// /// Inserts all rows with one statement.
    /// async fn insert(
    ///     jobs: Vec<(JobContext, String)>,
    /// ) -> Result<Vec<Result<usize, TaskError>>, TaskError> {
    ///     let outcome = |(_, row): (JobContext, String)| match row.as_str() {
    ///         "" => Err(TaskError::permanent("an empty row")),
    ///         row => Ok(row.len()),
    ///     };
    ///     Ok(jobs.into_iter().map(outcome).collect())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let batch = Batch::of(100).linger(Duration::from_millis(20));
    /// let attempt = Attempt::of(Task::batched("rows.insert", batch, insert));
    /// let (one, other) = (attempt.clone().payload("a"), attempt.payload(""));
    /// // One call, after 20 ms.
    /// let (one, other) = tokio::join!(one.run(), other.run());
    /// assert_eq!(one.json::<usize>(), 1);
    /// assert!(!other.error().unwrap().retryable);
    /// # }
    /// ```
    ///
    /// # Panics
    /// As [`Task::new`].
    pub fn batched<I, O, Run, Running>(name: &str, batch: Batch, run: Run) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + 'static,
        Run: Fn(Vec<(JobContext, I)>) -> Running + Send + Sync + 'static,
        Running: Future<Output = Result<Vec<Result<O, TaskError>>, TaskError>> + Send + 'static,
    {
        let run = Arc::new(run);
        Self::collecting(name, batch, move |jobs| {
            let run = run.clone();
            Box::pin(async move { run(jobs).await.map(encode_all) })
        })
    }

    /// Creates a CPU-bound task that runs many jobs in one call, such as a model: the function runs on a separate thread.
    /// Otherwise like [`Task::batched`].
    ///
    /// ```
    /// use crunch_worker::{Batch, JobContext, Task, TaskError};
    ///
    /// fn classify(
    ///     jobs: Vec<(JobContext, Vec<f32>)>,
    /// ) -> Result<Vec<Result<u8, TaskError>>, TaskError> {
    ///     Ok(jobs.iter().map(|(_, pixels)| Ok((pixels.iter().sum::<f32>() > 0.5).into())).collect())
    /// }
    ///
    /// let task = Task::batched_blocking("digits.classify", Batch::of(64), classify);
    /// ```
    ///
    /// # Panics
    /// As [`Task::new`].
    pub fn batched_blocking<I, O, Run>(name: &str, batch: Batch, run: Run) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize,
        Run: Fn(Vec<(JobContext, I)>) -> Result<Vec<Result<O, TaskError>>, TaskError>
            + Send
            + Sync
            + 'static,
    {
        let run = Arc::new(run);
        Self::collecting(name, batch, move |jobs| {
            let run = run.clone();
            Box::pin(on_own_thread(move || run(jobs).map(encode_all)))
        })
    }

    fn collecting<I: DeserializeOwned + Send + 'static>(
        name: &str,
        batch: Batch,
        call: impl Fn(Vec<(JobContext, I)>) -> Call + Send + Sync + 'static,
    ) -> Self {
        let collector = Arc::new(Collector::new(batch, call));
        let most = Some(collector.most());
        let task = Self::of(name, move |job, payload| {
            let collector = collector.clone();
            Box::pin(async move { collector.run(job, input(&payload)?).await })
        });
        Self { batch: most, ..task }
    }

    fn of<Run>(name: &str, run: Run) -> Self
    where
        Run: Fn(JobContext, Payload) -> HandlerFuture + Send + Sync + 'static,
    {
        let name: TaskName = name.parse().expect("a task name in code is valid");
        Self::from_handler(TaskDescriptor::new(name), Arc::new(Function(run)))
    }

    /// Creates a task with a custom handler.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use crunch_worker::{Handler, HandlerFuture, JobContext, Payload, Task, TaskDescriptor};
    ///
    /// struct Echo;
    ///
    /// impl Handler for Echo {
    ///     fn run(&self, _job: JobContext, payload: Payload) -> HandlerFuture {
    ///         Box::pin(async move { Ok(payload) })
    ///     }
    /// }
    ///
    /// let descriptor = TaskDescriptor::new("echo".parse().expect("a valid name"));
    /// let task = Task::from_handler(descriptor, Arc::new(Echo)).queue("tests");
    /// ```
    #[must_use]
    pub fn from_handler(descriptor: TaskDescriptor, handler: Arc<dyn Handler>) -> Self {
        let schema = descriptor.result_schema.as_ref();
        // A schema that was parsed compiles; one that was not is declared unchanged, and nothing is checked here.
        let result = schema.and_then(|schema| schema.compile().ok()).map(Arc::new);
        Self { descriptor, handler, result, batch: None }
    }

    /// Returns its name.
    ///
    /// ```
    /// # use crunch_worker::{JobContext, Task, TaskError};
    /// # async fn resize(_job: JobContext, width: u32) -> Result<u32, TaskError> {
    /// #     Ok(width)
    /// # }
    /// assert_eq!(Task::new("resize", resize).name().as_str(), "resize");
    /// ```
    #[must_use]
    pub fn name(&self) -> &TaskName {
        &self.descriptor.name
    }
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

/// Encodes the outcome of each job of a batch.
fn encode_all<O: Serialize>(
    outcomes: Vec<Result<O, TaskError>>,
) -> Vec<Result<Payload, TaskError>> {
    outcomes.into_iter().map(|outcome| outcome.and_then(|output| encode(&output))).collect()
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
