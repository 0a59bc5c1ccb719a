//! The life cycle of a worker: what is started, in which order it is stopped, and why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{self, Broker, WorkerId, WorkerInfo};
use crunch_common::config::{self, Exit};
use crunch_common::{Shutdown, init, machine, telemetry};
use crunch_consumer::{Consumer, Reachability, Rotation, Settings, Threads};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::commands::Commands;
use crate::config::{Command, RunTask, WorkerConfig};
use crate::control::Control;
use crate::executor::{Executor, LogLimiters};
use crate::health::{self, Health};
use crate::health_thread::HealthThread;
use crate::input::Input;
use crate::process::{OPEN_FILES, become_launcher_if_marked};
use crate::registry::{DuplicateTask, Registry};
use crate::reporter::Reporter;
use crate::running::{RunningJobs, STOP_GRACE, StopOnDrop, StopReason};
use crate::supervisor::{Lifeline, become_supervisor_if_configured};
use crate::suspension::Suspensions;
use crate::{Error, Task, metrics, run_task, tasks};

/// Open files for everything except commands: connections to Redis, the health port, the runtime, and the ends of a
/// command's pipes that are open only while it is started.
const OTHER_OPEN_FILES: u64 = 128;

/// Claims jobs from Redis and runs them.
///
/// ```no_run
/// use crunch_worker::{Error, JobContext, Task, TaskError, Worker};
///
/// async fn greet(_job: JobContext, name: String) -> Result<String, TaskError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// async fn run() -> Result<(), Error> {
///     Worker::from_env()?.task(Task::new("greet", greet)).run().await
/// }
///
/// #[tokio::main]
/// async fn main() -> std::process::ExitCode {
///     run().await.map_or_else(|error| error.exit(), |()| std::process::ExitCode::SUCCESS)
/// }
/// ```
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    registry: Registry,
    duplicate: Option<DuplicateTask>,
    with_builtin: bool,
    /// Set if it has a supervisor.
    lifeline: Option<Lifeline>,
}

impl Worker {
    /// Creates a worker from command line and environment; starts logging.
    ///
    /// If the worker runs commands, each is started by this program, run once more with the same arguments: that
    /// process does its work inside this call and never returns from it. Its environment is empty, so that no command
    /// can read a secret there. So create the worker early in `main`, before anything that needs a variable. The same
    /// is true if it is supervised: the supervisor is this process, and this call returns only in its workers, which
    /// are this program once more.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// # use crunch_worker::{Error, JobContext, Task, TaskError, Worker, with_state};
    /// # async fn greet(_greeting: Arc<str>, _job: JobContext, name: String) -> Result<String, TaskError> {
    /// #     Ok(format!("Hello, {name}!"))
    /// # }
    /// #
    /// # async fn run() -> Result<(), Error> {
    /// let worker = Worker::from_env()?;
    /// let greeting: Arc<str> = std::env::var("GREETING").unwrap_or("Hello".to_owned()).into();
    /// worker.task(Task::new("greet", with_state(&greeting, greet))).run().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] with the text to print.
    pub fn from_env() -> Result<Self, Error> {
        machine::forbid_inspection();
        become_launcher_if_marked();
        init::become_init_if_first();
        let config: WorkerConfig = config::read().map_err(Error::Config)?;
        if let Some(Command::Health { at }) = config.command {
            return Err(query_health(at.or(config.addr)));
        }
        telemetry::start(&config.log);
        Ok(Self::new(config))
    }

    /// Creates a worker from the given configuration. As with [`Worker::from_env`], a process that was started for a
    /// command, or becomes a supervisor, never returns. Reading the configuration must not fail in an empty
    /// environment. It does not start logging: events go to the `tracing` subscriber of the program.
    ///
    /// From this call on no other process of the same user can read this one's memory or environment; core dumps are
    /// off.
    ///
    /// ```no_run
    /// use clap::Parser;
    /// use crunch_worker::{Error, Worker, WorkerConfig};
    ///
    /// # async fn run() -> Result<(), Error> {
    /// let config = WorkerConfig::parse_from(["my-worker", "--concurrency", "2"]);
    /// Worker::new(config).builtin_tasks().run().await
    /// # }
    /// ```
    #[must_use]
    pub fn new(config: WorkerConfig) -> Self {
        machine::forbid_inspection();
        become_launcher_if_marked();
        init::become_init_if_first();
        let runs_one_task = matches!(config.command, Some(Command::Run(_)));
        let lifeline = if runs_one_task { None } else { become_supervisor_if_configured(&config) };
        let registry = Registry::default();
        Self { config, registry, duplicate: None, with_builtin: false, lifeline }
    }

    /// Returns the configuration.
    ///
    /// ```no_run
    /// # fn run() -> Result<(), crunch_worker::Error> {
    /// let worker = crunch_worker::Worker::from_env()?;
    /// println!("{} jobs at once", worker.config().slots());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn config(&self) -> &WorkerConfig {
        &self.config
    }

    /// Adds a task. [`Worker::run`] returns an error if the name is already used.
    ///
    /// ```no_run
    /// # use crunch_worker::{Error, JobContext, Task, TaskError, Worker};
    /// # async fn greet(_job: JobContext, name: String) -> Result<String, TaskError> {
    /// #     Ok(format!("Hello, {name}!"))
    /// # }
    /// #
    /// # async fn run(tasks: Vec<Task>) -> Result<(), Error> {
    /// let worker = Worker::from_env()?.task(Task::new("greet", greet));
    /// // Tasks from a list.
    /// tasks.into_iter().fold(worker, Worker::task).run().await
    /// # }
    /// ```
    #[must_use]
    pub fn task(mut self, task: Task) -> Self {
        if let Err(duplicate) = self.registry.add(task) {
            self.duplicate.get_or_insert(duplicate);
        }
        self
    }

    /// Adds the tasks that ship with the stock worker, unless the file of commands excludes them.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), crunch_worker::Error> {
    /// crunch_worker::Worker::from_env()?.builtin_tasks().run().await
    /// # }
    /// ```
    #[must_use]
    pub fn builtin_tasks(mut self) -> Self {
        self.with_builtin = true;
        self
    }

    /// Runs until SIGTERM or SIGINT, then lets running jobs finish for as long as the grace period allows.
    ///
    /// With the command `run` on its command line, it runs that task once instead, without Redis.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), crunch_worker::Error> {
    /// crunch_worker::Worker::from_env()?.builtin_tasks().run().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// If it could not start; with the command `run`, if the task has no result.
    pub async fn run(self) -> Result<(), Error> {
        let shutdown = Shutdown::default();
        let signals = shutdown.request_on_signals()?;
        let outcome = self.run_until(shutdown).await;
        signals.abort();
        outcome
    }

    /// Runs as [`Worker::run`], but until `shutdown` is requested. A second request ends the wait for running jobs.
    ///
    /// ```no_run
    /// use crunch_worker::{Error, Shutdown, Worker};
    ///
    /// # async fn example() -> Result<(), Error> {
    /// let shutdown = Shutdown::default();
    /// let worker = Worker::from_env()?.builtin_tasks();
    /// let working = tokio::spawn(worker.run_until(shutdown.clone()));
    /// // Later, for example when the program around it ends:
    /// shutdown.request();
    /// working.await.expect("the worker does not panic")
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_until(mut self, shutdown: Shutdown) -> Result<(), Error> {
        if let Some(Command::Run(request)) = self.config.command.take() {
            return self.run_task(&request, &shutdown).await;
        }
        let lifeline = self.lifeline.clone();
        let (config, registry) = self.prepare()?;
        lifeline.iter().for_each(Lifeline::report_configured);
        let (broker, health) = (Broker::new(&config.broker)?, Health::default());
        let worker = lifeline.as_ref().map_or_else(WorkerId::generate, Lifeline::worker);
        let health_thread = HealthThread::start(&config, lifeline, &health, &broker)?;
        if wait_for_redis(&broker, &shutdown).await? {
            Services::start(&config, registry, &broker, worker, health)?.work(&shutdown).await;
        }
        if let Some(health_thread) = health_thread {
            health_thread.end().await;
        }
        Ok(())
    }

    /// Runs one task once; a shutdown interrupts it.
    async fn run_task(mut self, request: &RunTask, shutdown: &Shutdown) -> Result<(), Error> {
        // Only one command runs, so the limit of open files need not suffice for all slots.
        self.config.concurrency = Some(1);
        let (_, registry) = self.prepare()?;
        Ok(run_task::run(&registry, request, shutdown).await?)
    }

    /// Combines the tasks of the code, the built-in ones and the commands.
    fn prepare(mut self) -> Result<(WorkerConfig, Registry), Error> {
        let file = self.config.tasks.as_deref();
        let commands = file.map(|path| Commands::read(path, self.config.max_result)).transpose()?;
        if self.with_builtin && commands.as_ref().is_none_or(|commands| commands.builtin) {
            self = tasks::builtin().into_iter().fold(self, Self::task);
        }
        if let Some(duplicate) = self.duplicate {
            return Err(duplicate.into());
        }
        let open_files = machine::raise_open_files();
        if let Some(commands) = commands {
            check_open_files(self.config.slots(), open_files)?;
            commands.join(&mut self.registry)?;
        }
        self.registry.bound_results(self.config.max_result as u64);
        if self.registry.descriptors().is_empty() {
            return Err(Error::NoTasks);
        }
        let queues = self.config.queues.iter().flat_map(|queues| queues.iter().cloned());
        if let Some(name) = self.registry.reserved(queues) {
            return Err(Error::Reserved { name });
        }
        Ok((self.config, self.registry))
    }
}

/// Asks another worker for its health; this process then exits with the returned error: one with a reason, or an empty
/// message and code 0.
fn query_health(addr: Option<SocketAddr>) -> Error {
    let Some(addr) = addr else {
        let message = "crunch-worker: set CRUNCH_WORKER_ADDR or --at to the address of the worker's health port\n";
        return Error::Config(Exit { message: message.to_owned(), code: 2 });
    };
    match health::ask(addr) {
        Ok(()) => Error::Config(Exit { message: String::new(), code: 0 }),
        Err(error) => error,
    }
}

/// Rejects slots that could never all run commands: those beyond the limit would claim jobs that they cannot start.
fn check_open_files(slots: usize, limit: Option<u64>) -> Result<(), Error> {
    let Some(limit) = limit else { return Ok(()) };
    let room = limit.saturating_sub(OTHER_OPEN_FILES) / OPEN_FILES;
    match u64::try_from(slots).is_ok_and(|wanted| wanted <= room) {
        true => Ok(()),
        false => Err(Error::OpenFiles { slots, room, limit }),
    }
}

/// Waits until Redis can be used; `false` if a shutdown was requested first.
async fn wait_for_redis(broker: &Broker, shutdown: &Shutdown) -> Result<bool, Error> {
    let mut reachability = Reachability::of("start");
    loop {
        let pause = match broker.open().await {
            Ok(()) => {
                reachability.succeeded();
                return Ok(true);
            }
            Err(refused @ broker::Error::Refused { .. }) => return Err(refused.into()),
            Err(error) => reachability.failed(&error),
        };
        tokio::select! {
            biased;
            () = shutdown.requested(1) => return Ok(false),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Everything that runs.
struct Services {
    /// Claims jobs and settles attempts.
    consumer: Consumer,
    /// Serve running jobs; end last.
    helpers: JoinSet<()>,
    /// Ends the helpers.
    done: CancellationToken,
    running: Arc<RunningJobs>,
    /// If this value is dropped, heartbeats end: then the jobs run elsewhere.
    _stop_on_drop: StopOnDrop,
    grace: Duration,
    health: Health,
}

impl Services {
    fn start(
        config: &WorkerConfig,
        registry: Registry,
        broker: &Broker,
        worker: WorkerId,
        health: Health,
    ) -> Result<Self, Error> {
        let running = Arc::new(RunningJobs::default());
        let reporter = Arc::new(Reporter::new(broker.with_own_connection(), worker));
        let settings = settings(config, &registry, broker, (worker, &running, &health));
        log_start(&settings);
        let (mut helpers, done) = (JoinSet::new(), CancellationToken::new());
        let control = Control { broker: broker.clone(), worker, running: running.clone() };
        helpers.spawn(control.run(done.clone()));
        helpers.spawn(reporter.clone().run(running.clone(), done.clone()));
        let executor = Executor {
            input: Input { broker: broker.with_own_connection() },
            suspensions: health.set_suspensions(Suspensions::of(registry.descriptors().len())),
            all_tasks: registry.names(),
            registry,
            running: running.clone(),
            reporter,
            log_limiters: LogLimiters::default(),
        };
        let consumer = Consumer::start(&settings, &Arc::new(executor))?;
        health.set_working();
        let _stop_on_drop = StopOnDrop(running.clone());
        Ok(Self { consumer, helpers, done, running, _stop_on_drop, grace: config.grace, health })
    }

    /// Works until a shutdown is requested, then stops in this order:
    ///
    /// 1. nothing new is claimed, and no token is taken that could wake another worker;
    /// 2. running jobs may finish for as long as the grace period allows; heartbeats continue, so no other worker
    ///    claims them;
    /// 3. those that are left are asked to stop, and released uncharged;
    /// 4. outcomes are sent to Redis, if it can be reached;
    /// 5. only then heartbeats, reports and cancellations end, and the worker is deregistered.
    async fn work(mut self, shutdown: &Shutdown) {
        shutdown.requested(1).await;
        tracing::info!(
            jobs = self.running.count(),
            "shutting down: no new jobs are claimed, running jobs may finish"
        );
        self.health.set_draining();
        let grace = async {
            tokio::select! {
                () = tokio::time::sleep(self.grace) => {}
                () = shutdown.requested(2) => {}
            }
        };
        self.consumer.drain(grace, release(&self.running)).await;
        self.done.cancel();
        let helpers = async { while self.helpers.join_next().await.is_some() {} };
        tokio::join!(helpers, self.consumer.leave());
        tracing::info!("worker stopped");
    }
}

/// Asks the jobs that still run to stop, and waits until they have.
async fn release(running: &RunningJobs) {
    tracing::info!(jobs = running.count(), "releasing jobs that still run");
    running.stop_all(StopReason::Shutdown);
    // A handler that does not stop in time is aborted by its executor.
    let _stopped = tokio::time::timeout(STOP_GRACE, running.idle()).await;
}

/// What the worker claims: from the configured queues, the earlier ones first, or from those of its tasks in turn.
fn settings(
    config: &WorkerConfig,
    registry: &Registry,
    broker: &Broker,
    (worker, running, health): (WorkerId, &RunningJobs, &Health),
) -> Settings {
    let queues = config.queues.as_ref().map_or_else(
        || Rotation::in_turn(registry.queues()),
        |queues| Rotation::by_preference(queues.to_vec()),
    );
    let tasks = registry.descriptors();
    let names = tasks.iter().map(|task| task.name.clone()).collect();
    Settings {
        broker: broker.clone(),
        worker,
        info: WorkerInfo::of_this_process(names, queues.queues().to_vec(), config.slots()),
        tasks,
        lease: config.lease,
        queues,
        busy: metrics::slots(config.slots()),
        leases: running.leases(),
        pulses: health.pulses(),
        threads: Threads::Own,
    }
}

fn log_start(settings: &Settings) {
    let WorkerInfo { slots, tasks, queues, .. } = &settings.info;
    tracing::info!(worker.id = %settings.worker, slots, tasks = %names(tasks), queues = %names(queues), "worker started");
}

fn names<T: ToString>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_could_never_run_commands_are_refused_with_the_numbers() {
        assert!(check_open_files(1024, None).is_ok());
        assert!(check_open_files(179, Some(1024)).is_ok());
        let refused = check_open_files(300, Some(1024)).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        let message = refused.to_string();
        for word in ["CRUNCH_WORKER_CONCURRENCY", "300 slots", "limit of 1024", "room for 179"] {
            assert!(message.contains(word), "{message}");
        }
    }
}
