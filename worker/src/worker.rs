//! The life cycle of a worker: what is started, in which order it is stopped, and why.

use std::net::SocketAddr;

use crunch_common::broker::{self, Broker, WorkerId};
use crunch_common::config::{self, Exit};
use crunch_common::{Shutdown, init, machine, telemetry};
use crunch_consumer::Reachability;

use crate::commands::{Commands, Rest};
use crate::config::{CheckChannel, Command, RunTask, WorkerConfig};
use crate::health::{self, Health};
use crate::health_thread::HealthThread;
use crate::process::{OPEN_FILES, become_launcher_if_marked};
use crate::registry::{DuplicateTask, Registry};
use crate::server::Servers;
use crate::services::Services;
use crate::supervisor::{Lifeline, become_supervisor_if_configured};
use crate::{Error, RunError, Task, check_channel, run_task, tasks};

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
        let works = config.command.is_none();
        let lifeline = if works { become_supervisor_if_configured(&config) } else { None };
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
        match self.config.command.take() {
            Some(Command::Run(request)) => return self.run_task(&request, &shutdown).await,
            Some(Command::CheckChannel(request)) => return check(&request, &shutdown).await,
            // It was handled when the worker was created.
            Some(Command::Health { .. }) | None => {}
        }
        let lifeline = self.lifeline.clone();
        let Prepared { config, registry, rest } = self.prepare()?;
        let Rest { servers, schedules, limits } = rest;
        lifeline.iter().for_each(Lifeline::report_configured);
        tracing::info!(redis = %config.broker.redis_url, "connecting");
        let (broker, health) = (Broker::new(&config.broker)?, Health::default());
        let worker = lifeline.as_ref().map_or_else(WorkerId::generate, Lifeline::worker);
        let health_thread = HealthThread::start(&config, lifeline, &health, &broker)?;
        // Before Redis can be reached: children may take long to start.
        let servers = Servers::start(servers, config.max_result as u64, &registry.descriptors());
        if wait_for_redis(&broker, &shutdown).await? {
            let services = Services::start(config, registry, &servers, (&broker, worker), health)?;
            services.work(&servers, (schedules, limits), &shutdown).await;
        }
        servers.end().await;
        if let Some(health_thread) = health_thread {
            health_thread.end().await;
        }
        Ok(())
    }

    /// Runs one task once; a shutdown interrupts it.
    async fn run_task(mut self, request: &RunTask, shutdown: &Shutdown) -> Result<(), Error> {
        // Only one command runs, so the limit of open files need not suffice for all slots.
        self.config.concurrency = Some(1);
        let Prepared { config, mut registry, rest: Rest { servers, .. } } = self.prepare()?;
        let has_it = request.task.parse().is_ok_and(|name| registry.find(&name).is_some());
        // Only the children of a server know its tasks.
        let servers = if has_it { Vec::new() } else { run_task::one_child_each(servers) };
        let servers = Servers::start(servers, config.max_result as u64, &registry.descriptors());
        let ready = run_task::add_servers(&servers, &mut registry, config.max_result);
        let ready = tokio::select! {
            ready = ready => ready,
            () = shutdown.requested(1) => Err(RunError::Interrupted),
        };
        let outcome = match ready {
            Ok(()) => run_task::run(&registry, request, shutdown).await,
            Err(error) => Err(error),
        };
        servers.end().await;
        Ok(outcome?)
    }

    /// Combines the tasks of the code, the built-in ones, the commands and the servers.
    fn prepare(mut self) -> Result<Prepared, Error> {
        let file = self.config.tasks.as_deref();
        let commands = file
            .map(|path| Commands::read(path, self.config.max_result, self.config.slots()))
            .transpose()?;
        if self.with_builtin && commands.as_ref().is_none_or(|commands| commands.builtin) {
            self = tasks::builtin().into_iter().fold(self, Self::task);
        }
        if let Some(duplicate) = self.duplicate {
            return Err(duplicate.into());
        }
        let open_files = machine::raise_open_files();
        let mut rest = Rest::default();
        if let Some(commands) = commands {
            check_open_files(self.config.slots() + commands.most_children(), open_files)?;
            rest = commands.join(&mut self.registry)?;
        }
        self.registry.bound_results(self.config.max_result as u64);
        if self.registry.is_empty() && rest.servers.is_empty() {
            return Err(Error::NoTasks);
        }
        let queues = self.config.queues.iter().flat_map(|queues| queues.iter().cloned());
        if let Some(name) = self.registry.reserved(queues) {
            return Err(Error::Reserved { name });
        }
        Ok(Prepared { config: self.config, registry: self.registry, rest })
    }
}

/// Checks a child; a shutdown interrupts it.
async fn check(request: &CheckChannel, shutdown: &Shutdown) -> Result<(), Error> {
    tokio::select! {
        outcome = check_channel::run(request) => Ok(outcome?),
        () = shutdown.requested(1) => Err(RunError::Interrupted.into()),
    }
}

/// What a worker was configured to run.
struct Prepared {
    config: WorkerConfig,
    /// The tasks that need no server.
    registry: Registry,
    rest: Rest,
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
