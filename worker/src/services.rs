//! Everything that a worker runs once Redis can be used, and the order in which it is stopped.

use std::future::pending;
use std::io;
use std::sync::Arc;

use crunch_common::Shutdown;
use crunch_common::broker::{Broker, WorkerId, WorkerInfo};
use crunch_common::task::TaskDescriptor;
use crunch_consumer::{Consumer, PoolSettings, PoolSlots, Rotation, Settings, Tallies, Threads};
use crunch_otel::{Otel, Service};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::availability::Availability;
use crate::config::WorkerConfig;
use crate::control::Control;
use crate::executor::{Executor, LogLimiters};
use crate::health::Health;
use crate::input::Input;
use crate::limits::{self, FileLimits};
use crate::registry::Registry;
use crate::reporter::Reporter;
use crate::running::{RunningJobs, StopOnDrop};
use crate::schedules::{FileSchedule, KnownTasks, Publisher};
use crate::server::{self, ServerPool, Servers, TaskOwners};
use crate::stop::{STOP_GRACE, StopReason};
use crate::suspension::Suspensions;
use crate::{Error, metrics};

pub(crate) struct Services {
    config: WorkerConfig,
    /// Claims jobs and settles attempts.
    consumer: Consumer,
    /// Serve running jobs; end last.
    helpers: JoinSet<()>,
    /// Ends the helpers.
    done: CancellationToken,
    shared: Shared,
    /// For schedules.
    known_tasks: watch::Sender<KnownTasks>,
    availability: Arc<Availability>,
    /// If this value is dropped, heartbeats end: then the jobs run elsewhere.
    _stop_on_drop: StopOnDrop,
    health: Health,
}

/// What the executors of all pools share.
struct Shared {
    broker: Broker,
    reporter: Arc<Reporter>,
    running: Arc<RunningJobs>,
    suspensions: Arc<Suspensions>,
    tallies: Arc<Tallies>,
    owners: Arc<TaskOwners>,
    /// All pools read the queues of `CRUNCH_WORKER_QUEUES`.
    same_queues: bool,
    otel: Otel,
}

impl Shared {
    fn executor(&self, registry: Registry) -> Executor {
        Executor {
            input: Input { broker: self.broker.with_own_connection() },
            all_tasks: registry.names(),
            registry,
            running: self.running.clone(),
            reporter: self.reporter.clone(),
            suspensions: self.suspensions.clone(),
            tallies: self.tallies.clone(),
            owners: self.owners.clone(),
            same_queues: self.same_queues,
            log_limiters: LogLimiters::default(),
            otel: self.otel.clone(),
        }
    }
}

impl Services {
    /// Starts to claim jobs of the worker's own tasks; [`Services::work`] adds those of servers when they are ready.
    pub(crate) fn start(
        config: WorkerConfig,
        registry: Registry,
        servers: &Servers,
        (broker, worker): (&Broker, WorkerId),
        health: Health,
    ) -> Result<Self, Error> {
        let otel = start_otel(&config, worker)?;
        let running = Arc::new(RunningJobs::default());
        let reporter = Arc::new(Reporter::new(broker.with_own_connection(), worker));
        let (mut helpers, done) = (JoinSet::new(), CancellationToken::new());
        let requested = Arc::<Notify>::default();
        let control = Control {
            broker: broker.clone(),
            worker,
            running: running.clone(),
            requested: requested.clone(),
        };
        helpers.spawn(control.run(done.clone()));
        helpers.spawn(reporter.clone().run(running.clone(), done.clone()));
        let suspensions = Arc::<Suspensions>::default();
        let tallies = Arc::<Tallies>::default();
        let availability = Arc::new(Availability {
            running: running.clone(),
            suspensions: suspensions.clone(),
            servers: servers.pools().to_vec(),
            own_tasks: registry.task_names().cloned().collect(),
            wanted: watch::Sender::default(),
            requested,
            changed: servers.changed(),
        });
        health.set_availability(availability.clone());
        let settings = Settings {
            broker: broker.clone(),
            worker,
            info: WorkerInfo::of_this_process(),
            lease: config.lease,
            slots: metrics::slots(),
            leases: running.leases(),
            tallies: tallies.clone(),
            pulses: health.pulses(),
            threads: Threads::Own,
        };
        let shared = Shared {
            broker: broker.clone(),
            reporter,
            running: running.clone(),
            suspensions,
            tallies,
            owners: servers.owners(),
            same_queues: config.queues.is_some(),
            otel,
        };
        let consumer = Consumer::start(settings, &availability)?;
        let _stop_on_drop = StopOnDrop(running);
        let mut services = Self {
            config,
            consumer,
            helpers,
            done,
            shared,
            known_tasks: watch::Sender::default(),
            availability,
            _stop_on_drop,
            health,
        };
        services.start_own_pool(registry, worker)?;
        services.health.set_working();
        Ok(services)
    }

    fn start_own_pool(&mut self, registry: Registry, worker: WorkerId) -> io::Result<()> {
        let (slots, tasks) = (self.config.slots(), registry.descriptors());
        if tasks.is_empty() {
            tracing::info!(worker.id = %worker, "worker started, its tasks are those of its servers");
            return Ok(());
        }
        registry.bound_batches(slots);
        let queues = self.queues(&registry);
        let listed = (names(tasks.iter().map(|task| &task.name)), names(queues.queues()));
        tracing::info!(worker.id = %worker, slots, tasks = listed.0, queues = listed.1, "worker started");
        self.add_pool(&PoolSettings { name: None, slots, tasks, queues }, registry).map(drop)
    }

    fn add_pool(&mut self, pool: &PoolSettings, registry: Registry) -> io::Result<PoolSlots> {
        self.known_tasks.send_modify(|known| known.add(&pool.tasks));
        self.consumer.add_pool(pool, &Arc::new(self.shared.executor(registry)))
    }

    /// Claims the jobs of each server from when its first child is ready.
    async fn add_servers(&mut self, servers: &Servers) {
        let mut starting = JoinSet::new();
        for pool in servers.pools().iter().cloned() {
            starting.spawn(async move { (pool.tasks().await, pool) });
        }
        while let Some(Ok((tasks, pool))) = starting.join_next().await {
            if let Err(error) = self.add_server(&tasks, &pool) {
                tracing::error!(server = pool.name(), %error, "cannot claim the jobs of a server");
            }
        }
    }

    fn add_server(&mut self, tasks: &[TaskDescriptor], pool: &Arc<ServerPool>) -> io::Result<()> {
        let registry = server::registry(pool, tasks, self.config.max_result);
        let settings = PoolSettings {
            name: Some(pool.name().to_owned()),
            slots: 0,
            tasks: registry.descriptors(),
            queues: self.queues(&registry),
        };
        pool.attach(self.add_pool(&settings, registry)?);
        Ok(())
    }

    /// What a pool claims from: the configured queues, the earlier ones first, or those of its tasks in turn.
    fn queues(&self, registry: &Registry) -> Rotation {
        self.config.queues.as_ref().map_or_else(
            || Rotation::in_turn(registry.queues()),
            |queues| Rotation::by_preference(queues.to_vec()),
        )
    }

    /// Works until a shutdown is requested, then stops in this order:
    ///
    /// 1. nothing new is claimed, and no token is taken that could wake another worker;
    /// 2. running jobs may finish for as long as the grace period allows; heartbeats continue, so no other worker
    ///    claims them;
    /// 3. those that are left are asked to stop, and released uncharged;
    /// 4. outcomes are sent to Redis, if it can be reached;
    /// 5. only then heartbeats, reports and cancellations end, and the worker is deregistered. The children of servers end
    ///    last. The last spans are exported.
    pub(crate) async fn work(
        mut self,
        servers: &Servers,
        (schedules, limits): (Vec<FileSchedule>, FileLimits),
        shutdown: &Shutdown,
    ) {
        let (announced, tasks) = (self.consumer.announced(), self.known_tasks.subscribe());
        let publisher = limits::Publisher::new(&self.shared.broker, limits, announced.clone());
        self.helpers.spawn(publisher.run(self.done.clone()));
        let publisher = Publisher::new(&self.shared.broker, schedules, announced, tasks);
        self.helpers.spawn(publisher.run(self.done.clone()));
        let availability = self.availability.clone();
        tokio::select! {
            biased;
            () = shutdown.requested(1) => {}
            () = availability.stopped_by_operator() => {}
            () = async {
                self.add_servers(servers).await;
                self.known_tasks.send_modify(KnownTasks::complete);
                pending().await
            } => {}
        }
        tracing::info!(
            jobs = self.shared.running.count(),
            "shutting down: no new jobs are claimed, running jobs may finish"
        );
        self.health.set_draining();
        let grace = async {
            tokio::select! {
                () = tokio::time::sleep(self.config.grace) => {}
                () = shutdown.requested(2) => {}
            }
        };
        self.consumer.drain(grace, release(&self.shared.running)).await;
        self.done.cancel();
        let helpers = async { while self.helpers.join_next().await.is_some() {} };
        tokio::join!(helpers, self.consumer.leave());
        self.shared.otel.end().await;
        tracing::info!("worker stopped");
    }
}

fn start_otel(config: &WorkerConfig, worker: WorkerId) -> Result<Otel, Error> {
    let instance = worker.to_string();
    let service = Service { name: "crunch-worker", instance: &instance };
    Ok(Otel::start(&config.otel, service)?)
}

/// Asks the jobs that still run to stop, and waits until they have.
async fn release(running: &RunningJobs) {
    tracing::info!(jobs = running.count(), "releasing jobs that still run");
    running.stop_all(StopReason::Shutdown);
    // A handler that does not stop in time is aborted by its executor.
    let _stopped = tokio::time::timeout(STOP_GRACE, running.idle()).await;
}

fn names<'a, T: ToString + 'a>(names: impl IntoIterator<Item = &'a T>) -> String {
    names.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
