//! A worker from start to end: what is started, in which order it is stopped, and why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{self, Broker, WorkerId, WorkerInfo};
use crunch_common::config::{self, Exit};
use crunch_common::queue::QueueName;
use crunch_common::time::Timestamp;
use crunch_common::{init, machine, telemetry};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::commands::Commands;
use crate::config::{Command, WorkerConfig};
use crate::consumers::Consumers;
use crate::executor::{Executor, Logged};
use crate::health::{self, Health};
use crate::health_thread::HealthThread;
use crate::input::Input;
use crate::process::{OPEN_FILES, become_launcher_if_marked};
use crate::registry::{DuplicateTask, Registry};
use crate::reporter::Reporter;
use crate::running::{RunningJobs, STOP_GRACE, StopReason};
use crate::service::{Announcer, Control, Heartbeat, Reachability};
use crate::supervisor::{Lifeline, become_supervisor_if_configured};
use crate::suspension::Suspensions;
use crate::{Error, Task, tasks};

/// Open files for everything but commands: connections to Redis, the health port, the runtime, and the ends of a command's
/// pipes that are open only while it is started.
const OTHER_OPEN_FILES: u64 = 128;
/// How long the last settlements may take to reach Redis when the worker ends: longer than any call's deadline.
const LAST_EXCHANGE: Duration = Duration::from_secs(3);

/// Takes jobs from Redis and runs them.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    registry: Registry,
    duplicate: Option<DuplicateTask>,
    with_builtin: bool,
    /// If it has a supervisor.
    lifeline: Option<Lifeline>,
}

/// When to stop: the first wish lets running jobs end, the second does not wait for them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    hurry: CancellationToken,
}

impl Shutdown {
    /// Asks to stop; asked twice, to hurry.
    pub fn request(&self) {
        if self.drain.is_cancelled() {
            self.hurry.cancel();
        }
        self.drain.cancel();
    }
}

impl Worker {
    /// A worker set up by command line and environment; starts logging.
    ///
    /// Where the worker runs commands, each is started by this program, run once more with the same arguments: that
    /// process does its work inside this call and never returns from it. Its environment is empty, so that no command can
    /// read a secret there. So make the worker early in `main`, before anything that needs a variable. The same is
    /// true where it is to be supervised: the supervisor is this process, and this call returns in its workers only, which
    /// are this program once more.
    ///
    /// # Errors
    /// [`Error::Config`] with what to print.
    pub fn from_env() -> Result<Self, Error> {
        machine::forbid_inspection();
        become_launcher_if_marked();
        init::become_init_if_first();
        let config: WorkerConfig = config::read().map_err(Error::Config)?;
        if let Some(Command::Health { at }) = config.command {
            return Err(asked_for_health(at.or(config.addr)));
        }
        telemetry::start(&config.log);
        Ok(Self::new(config))
    }

    /// A worker set up by the given configuration. As with [`Worker::from_env`], a process that was started for a command,
    /// or is to supervise, never returns. Reading the configuration must not fail in an empty environment.
    ///
    /// From this call on no other process of the same user can read this one's memory or environment; core dumps are off.
    #[must_use]
    pub fn new(config: WorkerConfig) -> Self {
        machine::forbid_inspection();
        become_launcher_if_marked();
        init::become_init_if_first();
        let lifeline = become_supervisor_if_configured(&config);
        let registry = Registry::default();
        Self { config, registry, duplicate: None, with_builtin: false, lifeline }
    }

    /// What it was set up with.
    #[must_use]
    pub fn config(&self) -> &WorkerConfig {
        &self.config
    }

    /// Adds a task. A name twice is an error, told by [`Worker::run`].
    #[must_use]
    pub fn task(mut self, task: Task) -> Self {
        if let Err(duplicate) = self.registry.add(task) {
            self.duplicate.get_or_insert(duplicate);
        }
        self
    }

    /// Adds the tasks that ship with the stock worker, unless the file of commands leaves them out.
    #[must_use]
    pub fn builtin_tasks(mut self) -> Self {
        self.with_builtin = true;
        self
    }

    /// Runs until SIGTERM or SIGINT, then lets running jobs end for as long as the grace allows.
    ///
    /// # Errors
    /// If it could not start.
    pub async fn run(self) -> Result<(), Error> {
        let shutdown = Shutdown::default();
        let signals = watch_signals(shutdown.clone())?;
        let outcome = self.run_until(shutdown).await;
        signals.abort();
        outcome
    }

    /// As [`Worker::run`], until `shutdown` is asked for.
    ///
    /// # Errors
    /// If it could not start.
    pub async fn run_until(self, shutdown: Shutdown) -> Result<(), Error> {
        let lifeline = self.lifeline.clone();
        let (config, registry) = self.complete()?;
        lifeline.iter().for_each(Lifeline::tell_configured);
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

    /// Puts the tasks of the code, the built-in ones and the commands together.
    fn complete(mut self) -> Result<(WorkerConfig, Registry), Error> {
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

/// How a process ends that was to ask another one: an error, or nothing to say and code 0.
fn asked_for_health(addr: Option<SocketAddr>) -> Error {
    let Some(addr) = addr else {
        let message = "crunch-worker: CRUNCH_WORKER_ADDR or --at must say where the worker's health port is\n";
        return Error::Config(Exit { message: message.to_owned(), code: 2 });
    };
    match health::ask(addr) {
        Ok(()) => Error::Config(Exit { message: String::new(), code: 0 }),
        Err(error) => error,
    }
}

/// Refuses slots that could never all run commands: those beyond the limit would claim jobs that they cannot start.
fn check_open_files(slots: usize, limit: Option<u64>) -> Result<(), Error> {
    let Some(limit) = limit else { return Ok(()) };
    let room = limit.saturating_sub(OTHER_OPEN_FILES) / OPEN_FILES;
    match u64::try_from(slots).is_ok_and(|wanted| wanted <= room) {
        true => Ok(()),
        false => Err(Error::OpenFiles { slots, room, limit }),
    }
}

/// Waits until Redis serves us; `false` if the wish to stop came first.
async fn wait_for_redis(broker: &Broker, shutdown: &Shutdown) -> Result<bool, Error> {
    let mut redis = Reachability::of("start");
    loop {
        let pause = match broker.open().await {
            Ok(()) => {
                redis.back();
                return Ok(true);
            }
            Err(refused @ broker::Error::Refused { .. }) => return Err(refused.into()),
            Err(error) => redis.failed(&error),
        };
        if shutdown.drain.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(false);
        }
    }
}

/// Everything that runs.
struct Services {
    broker: Broker,
    worker: WorkerId,
    grace: Duration,
    running: Arc<RunningJobs>,
    /// Take work and bring back what ended.
    consumers: JoinHandle<()>,
    /// Serve those that run; end last.
    helpers: JoinSet<()>,
    heartbeat: std::thread::JoinHandle<()>,
    health: Health,
    phases: Phases,
}

/// The phases of a shutdown, in their order.
#[derive(Debug, Default)]
struct Phases {
    /// No new work.
    draining: CancellationToken,
    /// No more tries to settle.
    give_up: CancellationToken,
    /// No more heartbeats, reports and cancellations.
    done: CancellationToken,
}

/// Starts what serves running jobs; it ends last.
fn start_helpers(
    (announcer, control, reporter): (Announcer, Control, Arc<Reporter>),
    running: &Arc<RunningJobs>,
    phases: &Phases,
) -> JoinSet<()> {
    let mut helpers = JoinSet::new();
    helpers.spawn(announcer.run(phases.done.clone()));
    helpers.spawn(control.run(phases.done.clone()));
    let (running, done) = (running.clone(), phases.done.clone());
    helpers.spawn(async move { reporter.run(&running, done).await });
    helpers
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
        let suspensions = health.shows(Suspensions::of(registry.descriptors().len()));
        let (tasks, served) = (registry.descriptors(), registry.queues());
        let queues = config.queues.as_ref().map_or(served, |queues| queues.to_vec());
        let info = describe(config, &registry, &queues);
        tracing::info!(worker.id = %worker, slots = info.slots, tasks = %names(&info.tasks), queues = %names(&queues), "worker starts");

        let phases = Phases::default();
        let forgotten = Arc::new(Notify::new());
        let heartbeat = Heartbeat {
            broker: broker
                .with_own_connection_retrying_every(Heartbeat::longest_pause(config.lease)),
            worker,
            info,
            lease: config.lease,
            running: running.clone(),
            suspensions: suspensions.clone(),
            forgotten: forgotten.clone(),
            pulse: health.pulse("heartbeat"),
        };
        // Its own thread first: a beat makes the lease known before anything is claimed.
        let heartbeat = heartbeat.spawn(phases.done.clone())?;
        let announcer = Announcer {
            broker: broker.clone(),
            queues: queues.clone(),
            tasks,
            pulse: health.pulse("announcer"),
            forgotten,
        };
        let control = Control { broker: broker.clone(), worker, running: running.clone() };
        let reporter = Arc::new(Reporter::new(broker.with_own_connection(), worker));
        let mut helpers = start_helpers((announcer, control, reporter.clone()), &running, &phases);
        let executor = Executor {
            input: Input { broker: broker.with_own_connection() },
            registry,
            running: running.clone(),
            reporter,
            suspensions,
            logged: Logged::default(),
        };
        let consumers = Consumers {
            config,
            broker,
            worker,
            queues: &queues,
            health: &health,
            executor: Arc::new(executor),
        };
        let consumers = consumers.start(&mut helpers, &phases.draining, &phases.give_up)?;
        health.works();
        Ok(Self {
            broker: broker.clone(),
            worker,
            grace: config.grace,
            running,
            consumers,
            helpers,
            heartbeat,
            health,
            phases,
        })
    }

    /// Works until the wish to stop, then stops in this order:
    ///
    /// 1. nothing new is claimed, and no token is taken that could wake somebody else;
    /// 2. running jobs end by themselves for as long as the grace allows; beats go on, so nobody takes them over;
    /// 3. those that are left are asked to stop, and given back uncharged;
    /// 4. what ended is carried to Redis, if it can be reached;
    /// 5. only then beats, reports and cancels end, and the worker says goodbye.
    async fn work(mut self, shutdown: &Shutdown) {
        shutdown.drain.cancelled().await;
        tracing::info!(
            jobs = self.running.count(),
            "shutting down: no new jobs, running ones may end"
        );
        self.phases.draining.cancel();
        self.health.drains();
        let in_time = tokio::select! {
            _ = &mut self.consumers => true,
            () = tokio::time::sleep(self.grace) => false,
            () = shutdown.hurry.cancelled() => false,
        };
        if !in_time {
            tracing::info!(jobs = self.running.count(), "giving back what still runs");
            self.running.stop_all(StopReason::Shutdown);
            // A handler that does not stop in time is given up by its executor.
            let _stopped = tokio::time::timeout(STOP_GRACE, self.running.idle()).await;
            if tokio::time::timeout(LAST_EXCHANGE, &mut self.consumers).await.is_err() {
                tracing::warn!("not everything could be settled; its leases will end");
                self.phases.give_up.cancel();
            }
        }
        self.phases.done.cancel();
        while self.helpers.join_next().await.is_some() {}
        // No beat may come after the goodbye: it would make the worker known again. An open call has its own deadline.
        let _ended = tokio::task::spawn_blocking(move || self.heartbeat.join()).await;
        if let Err(error) = self.broker.leave(self.worker).await {
            tracing::debug!(%error, "could not say goodbye");
        }
        tracing::info!("worker ends");
    }
}

fn describe(config: &WorkerConfig, registry: &Registry, queues: &[QueueName]) -> WorkerInfo {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    WorkerInfo {
        host,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tasks: registry.descriptors().into_iter().map(|task| task.name).collect(),
        queues: queues.to_vec(),
        slots: config.slots(),
        started_at: Timestamp::now(),
        suspended: Vec::new(),
    }
}

fn names<T: ToString>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Turns SIGTERM and SIGINT into the wish to stop.
fn watch_signals(shutdown: Shutdown) -> std::io::Result<tokio::task::JoinHandle<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            shutdown.request();
        }
    }))
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
        let told = refused.to_string();
        for word in ["CRUNCH_WORKER_CONCURRENCY", "300 slots", "limit of 1024", "room for 179"] {
            assert!(told.contains(word), "{told}");
        }
    }
}
