//! The worker side of Crunch: write handlers, and run them as jobs come in.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use crunch_worker::schemars::{self, JsonSchema};
//! use crunch_worker::{JobContext, Task, TaskError, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct CountPrimes {
//!     /// Where to stop.
//!     #[schemars(range(max = 10_000_000))]
//!     limit: u32,
//! }
//!
//! #[derive(Serialize)]
//! struct PrimeCount {
//!     primes: usize,
//! }
//!
//! /// Counts the primes below `limit`.
//! fn count_primes(job: JobContext, input: CountPrimes) -> Result<PrimeCount, TaskError> {
//!     job.progress(0.0, "counting");
//!     let is_prime = |n: &u32| (2..=n.isqrt()).all(|d| n % d != 0);
//!     Ok(PrimeCount { primes: (2..input.limit).filter(is_prime).count() })
//! }
//!
//! # async fn run() -> Result<(), crunch_worker::Error> {
//! Worker::from_env()?
//!     .task(
//!         Task::blocking("primes.count", count_primes)
//!             .payload_schema::<CountPrimes>()
//!             .timeout(Duration::from_secs(60)),
//!     )
//!     .run()
//!     .await
//! # }
//! ```
//!
//! An async function is a handler too ([`Task::new`]), and [`with_state`] gives handlers what they share, such as a
//! connection pool or a model. An error decides whether the job is retried: [`TaskError`].
//!
//! Execution is **at least once**: after a crash a job runs again. Use the job's id together with its epoch
//! ([`JobContext::id`], [`JobContext::epoch`]) as idempotency key or fencing token towards other systems.
//!
//! [`testing`] runs a task in a test, without Redis; so does the command `run` of every program that starts with
//! [`Worker::from_env`]: `my-worker run primes.count < payload`.

#![warn(missing_docs, clippy::missing_errors_doc)]

mod attempt;
mod availability;
mod batch;
mod check_channel;
mod commands;
mod config;
mod context;
mod control;
mod error;
mod executor;
mod handler;
mod health;
mod health_thread;
mod input;
mod limits;
mod metrics;
mod process;
mod quote;
mod registry;
mod reporter;
mod results;
mod run_task;
mod running;
mod schedules;
mod server;
mod services;
mod state;
mod stock;
mod stop;
mod supervisor;
mod suspension;
mod task;
mod task_values;
pub mod tasks;
pub mod testing;
mod worker;

pub use batch::Batch;
pub use check_channel::CheckError;
pub use commands::InvalidCommands;
pub use config::Queues;
/// A program with arguments of its own takes those of a worker beside them:
///
/// ```
/// use clap::Parser;
/// use crunch_worker::{Worker, WorkerConfig};
///
/// #[derive(Parser)]
/// struct Arguments {
///     #[command(flatten)]
///     worker: WorkerConfig,
///     /// A file with the weights of the model.
///     #[arg(long, default_value = "model.bin")]
///     model: std::path::PathBuf,
/// }
///
/// let arguments = Arguments::parse_from(["my-worker", "--model", "m.bin", "--concurrency", "2"]);
/// assert_eq!(arguments.worker.slots(), 2);
/// # let _ = || Worker::new(arguments.worker);
/// ```
pub use config::WorkerConfig;
/// What a program that starts with [`Worker::from_env`] was asked to do instead of working. One that prepares something
/// expensive for its handlers can ask first:
///
/// ```
/// use clap::Parser;
/// use crunch_worker::{CheckChannel, Command, RunTask, WorkerConfig};
///
/// fn needs_model(command: Option<&Command>) -> bool {
///     match command {
///         None => true,
///         Some(Command::Run(RunTask { task, .. })) => task == "image.describe",
///         Some(Command::Health { .. } | Command::CheckChannel(CheckChannel { .. })) => false,
///     }
/// }
///
/// let needs = |arguments| needs_model(WorkerConfig::parse_from(arguments).command.as_ref());
/// assert!(needs(vec!["my-worker"]));
/// assert!(!needs(vec!["my-worker", "run", "greet"]));
/// assert!(!needs(vec!["my-worker", "check-channel", "--", "./my-child"]));
/// ```
pub use config::{CheckChannel, Command, RunTask};
pub use context::JobContext;
pub use crunch_common::Shutdown;
pub use crunch_common::backoff::Backoff;
pub use crunch_common::broker::{Epoch, Progress, ReleaseCause};
/// A handler of bytes names what it returns:
///
/// ```
/// use crunch_worker::{ContentType, JobContext, Payload, TaskError};
///
/// async fn draw(_job: JobContext, _payload: Payload) -> Result<Payload, TaskError> {
///     let content_type: ContentType = "image/svg+xml".parse()?;
///     Ok(Payload { bytes: "<svg/>".into(), content_type })
/// }
/// ```
pub use crunch_common::job::ContentType;
/// What clients get when a job has failed, and tests in a report:
///
/// ```
/// use crunch_worker::testing::Attempt;
/// use crunch_worker::{JobContext, JobError, Task, TaskError};
///
/// async fn fail(_job: JobContext, (): ()) -> Result<(), TaskError> {
///     Err(TaskError::permanent("there is no such page"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let report = Attempt::of(Task::new("fail", fail)).run().await;
/// let error: &JobError = report.error().unwrap();
/// assert_eq!((error.code.as_str(), &*error.message), ("task_failed", "there is no such page"));
/// assert!(!error.retryable);
/// # }
/// ```
pub use crunch_common::job::JobError;
pub use crunch_common::job::{
    ErrorCode, JobId, Metadata, OnConflict, Payload, Priority, TraceContext, Unique, UniqueKey,
    Until,
};
pub use crunch_common::task::{TaskDescriptor, TaskName};
pub use crunch_common::time::Timestamp;
pub use error::Error;
pub use handler::{Handler, HandlerFuture, TaskError};
pub use registry::DuplicateTask;
pub use run_task::RunError;
/// Derives the schemas that tasks declare.
pub use schemars;
pub use state::with_state;
pub use stock::main;
pub use task::Task;
/// Fires when a job must stop.
pub use tokio_util::sync::CancellationToken;
pub use worker::Worker;
