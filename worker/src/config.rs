//! The worker's configuration, from command line and environment.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use crunch_common::broker::BrokerConfig;
use crunch_common::config::{comma_separated, milliseconds, socket_address, whole_number};
use crunch_common::job::ContentType;
use crunch_common::queue::QueueName;
use crunch_common::telemetry::LogConfig;
use crunch_otel::OtelConfig;

/// The default of [`WorkerConfig::max_result`]: 1 MiB.
pub(crate) const DEFAULT_MAX_RESULT: usize = 1024 * 1024;

/// Claims jobs from Redis and runs them.
#[derive(Debug, Clone, Parser)]
#[command(name = "crunch-worker", version)]
pub struct WorkerConfig {
    /// The Redis that stores the jobs.
    #[command(flatten)]
    pub broker: BrokerConfig,

    /// The log settings.
    #[command(flatten)]
    pub log: LogConfig,

    /// How many jobs run at once, 1 to 1024. Default: the number of CPUs.
    #[arg(long, env = "CRUNCH_WORKER_CONCURRENCY", value_name = "N",
        value_parser = whole_number::<u16>(1..=1024))]
    pub concurrency: Option<u16>,

    /// Queues to claim jobs from, separated by commas, in order of preference. Default: the queues
    /// of this worker's tasks, in turn.
    #[arg(long, env = "CRUNCH_WORKER_QUEUES", value_name = "NAMES", value_parser = queue_names)]
    pub queues: Option<Queues>,

    /// How long running jobs may take to finish after SIGTERM before they are released, in
    /// milliseconds, 0 to 86 400 000.
    #[arg(long = "grace-ms", env = "CRUNCH_WORKER_GRACE_MS", value_name = "MS",
        default_value = "25000", value_parser = milliseconds(0..=86_400_000))]
    pub grace: Duration,

    /// How long a lease lasts without a heartbeat, in milliseconds, 1000 to 3 600 000. A heartbeat is sent every
    /// quarter of it.
    #[arg(long = "lease-ms", env = "CRUNCH_LEASE_MS", value_name = "MS",
        default_value = "10000", value_parser = milliseconds(1000..=3_600_000))]
    pub lease: Duration,

    /// The largest result kept, in bytes, 1 to 67 108 864.
    #[arg(long, env = "CRUNCH_WORKER_MAX_RESULT", value_name = "BYTES",
        default_value_t = DEFAULT_MAX_RESULT, value_parser = whole_number::<usize>(1..=67_108_864))]
    pub max_result: usize,

    /// Runs this many workers as separate processes, 1 to 64, under a supervisor that immediately reclaims the jobs of
    /// a dead one and starts another.
    #[arg(long, env = "CRUNCH_WORKER_SUPERVISE", value_name = "N",
        value_parser = whole_number::<u16>(1..=64))]
    pub supervise: Option<u16>,

    /// Address of the health port, such as 127.0.0.1:9090. Default: none.
    #[arg(long, env = "CRUNCH_WORKER_ADDR", value_name = "ADDR", value_parser = socket_address)]
    pub addr: Option<SocketAddr>,

    /// A file that declares commands as tasks.
    #[arg(long, env = "CRUNCH_TASKS", value_name = "PATH", global = true)]
    pub tasks: Option<PathBuf>,

    /// Where spans and metrics are exported.
    #[command(flatten)]
    pub otel: OtelConfig,

    /// The command to run instead of the worker.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A command that runs instead of the worker.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Asks the health port of a running worker whether it is ready; exits with 0 if it is, with 1 if not.
    Health {
        /// Address of the health port. Default: CRUNCH_WORKER_ADDR.
        #[arg(long = "at", value_name = "ADDR", value_parser = socket_address)]
        at: Option<SocketAddr>,
    },
    /// Runs one task once, without Redis: payload from standard input, result to standard output, log and progress to
    /// standard error. Exits with 0 if it succeeded, 1 if it failed, 2 if the call is wrong, 130 if it was interrupted.
    Run(RunTask),
    /// Holds a child of a server against the specification of the channel, without Redis and tasks.toml; prints the
    /// outcome of each case. Exits with 0 if all passed, 1 if some failed, 2 if the call is wrong.
    CheckChannel(CheckChannel),
}

/// The child that the command `check-channel` checks.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckChannel {
    /// The name of its task that does what `echo`, `fail`, `wait` or `log` should; may be repeated. Default: the task
    /// of that name.
    #[arg(long = "task", id = "role", value_name = "ROLE=NAME", value_parser = role)]
    pub roles: Vec<(String, String)>,

    /// Runs only the cases whose line contains this text.
    #[arg(long = "only", value_name = "TEXT")]
    pub only: Option<String>,

    /// How long it may take for anything but its start, in milliseconds, 100 to 600 000.
    #[arg(long = "within-ms", value_name = "MS", default_value = "20000",
        value_parser = milliseconds(100..=600_000))]
    pub within: Duration,

    /// Its command, after `--`.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// The task that the command `run` runs, and what its job has besides a payload.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RunTask {
    /// Name of the task.
    #[arg(value_name = "TASK")]
    pub task: String,

    /// Content type of the payload. Default: application/json if the task accepts it, else the first that it accepts.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<ContentType>,

    /// A label of the job; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub metadata: Vec<(String, String)>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn role(text: &str) -> Result<(String, String), String> {
    let (role, name) = text.split_once('=').ok_or("expected ROLE=NAME")?;
    Ok((role.to_owned(), name.to_owned()))
}

/// Queues in order of preference.
///
/// ```
/// use clap::Parser;
/// use crunch_worker::WorkerConfig;
///
/// let config = WorkerConfig::parse_from(["my-worker", "--queues", "mail,reports"]);
/// let names: Vec<_> = config.queues.iter().flat_map(|queues| queues.iter()).collect();
/// assert_eq!(names[0].as_str(), "mail");
/// ```
pub type Queues = std::sync::Arc<[QueueName]>;

fn queue_names(text: &str) -> Result<Queues, String> {
    let each_once = |mut names: Vec<QueueName>| {
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names.into()
    };
    comma_separated::<QueueName>(text)
        .map(each_once)
        .map_err(|error| format!("expected queue names separated by commas: {error}"))
}

impl WorkerConfig {
    /// Returns how many jobs run at once.
    ///
    /// ```
    /// use clap::Parser;
    /// use crunch_worker::WorkerConfig;
    ///
    /// let config = WorkerConfig::parse_from(["my-worker", "--concurrency", "2"]);
    /// assert_eq!(config.slots(), 2);
    /// ```
    #[must_use]
    pub fn slots(&self) -> usize {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        self.concurrency.map_or_else(cpus, usize::from)
    }
}
