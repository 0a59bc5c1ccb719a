//! The environment of most benchmarks: their own Redis, a broker, jobs, and workers whose tasks do nothing.

use std::time::{Duration, Instant};

use crunch_common::broker::BrokerConfig;
use crunch_common::broker::{Broker, Change, Changes, Enqueued, Lookup, NewJob};
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Api, Process, RedisServer, Stack};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use tokio::process::Command;

/// The settings of the shipped `redis.conf`, except persistence, which only some benchmarks need.
pub(crate) const SHIPPED: &[&str] = &["--appendonly", "no", "--hash-max-listpack-value", "1024"];
/// The same with persistence.
pub(crate) const ON_DISK: &[&str] =
    &["--appendonly", "yes", "--appendfsync", "everysec", "--hash-max-listpack-value", "1024"];
/// The same with every write on disk before Redis replies.
pub(crate) const ALWAYS_ON_DISK: &[&str] =
    &["--appendonly", "yes", "--appendfsync", "always", "--hash-max-listpack-value", "1024"];
/// The defaults of Redis, without persistence.
pub(crate) const REDIS_DEFAULTS: &[&str] = &["--appendonly", "no"];

/// The task, which does nothing; its queue has the same name, or tasks and queues are `noop-0`, `noop-1` ….
pub(crate) const TASK: &str = "noop";
/// Bytes of JSON in a payload.
pub(crate) const PAYLOAD: usize = 100;
/// How many jobs one call of the broker submits.
pub(crate) const BATCH: usize = 1000;
/// The maximum size of the payloads of one call, in bytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How many calls are in progress at once, as from several clients.
const CALLERS: usize = 4;

/// A Redis and its broker.
pub(crate) struct Testbed {
    pub(crate) stack: Stack,
    pub(crate) broker: Broker,
    pub(crate) redis: MultiplexedConnection,
}

impl Testbed {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let stack = Stack::on(RedisServer::with(arguments));
        let broker = broker(&stack.redis);
        broker.open().await.unwrap();
        let redis = stack.redis.connect().await;
        Self { stack, broker, redis }
    }

    pub(crate) const fn server(&self) -> &RedisServer {
        &self.stack.redis
    }

    /// Starts an API that accepts jobs for undeclared tasks, and spends no time on logs.
    pub(crate) async fn start_api(&mut self) -> Api {
        // All measured requests come from one caller.
        let environment = [
            ("CRUNCH_API_UNKNOWN_TASKS", "accept"),
            ("CRUNCH_API_MAX_WAITING_PER_CALLER", "1000000"),
            ("CRUNCH_LOG", "warn"),
        ];
        self.stack.api_with(&environment).await
    }

    /// Enqueues jobs in large batches from several callers; returns how long that took.
    pub(crate) async fn fill(&self, jobs: usize, payload: usize, queues: usize) -> Duration {
        let start = Instant::now();
        fill(&self.broker, jobs, payload, queues).await;
        start.elapsed()
    }

    /// Starts worker processes whose tasks do nothing, and waits until they are registered.
    pub(crate) async fn start_workers(
        &mut self,
        count: usize,
        slots: usize,
        queues: usize,
    ) -> Vec<Process> {
        let queues = queues.to_string();
        self.start_workers_with(count, slots, &["--queues", &queues]).await
    }

    /// Starts workers like [`Testbed::start_workers`], with other arguments.
    pub(crate) async fn start_workers_with(
        &mut self,
        count: usize,
        slots: usize,
        arguments: &[&str],
    ) -> Vec<Process> {
        let expected = self.broker.fleet().await.unwrap().len() + count;
        let started = (0..count).map(|_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["worker", "--redis-url", &self.stack.redis.url()]);
            command.args(["--slots", &slots.to_string()]).args(arguments);
            self.stack.spawn(command, "worker")
        });
        let started = started.collect();
        while self.broker.fleet().await.unwrap().len() < expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        started
    }

    /// Pauses these queues.
    pub(crate) async fn pause(&self, queues: usize) {
        for at in 0..queues {
            self.broker.pause(&task_name(at, queues).parse().unwrap(), true).await.unwrap();
        }
    }

    /// Resumes these queues.
    pub(crate) async fn resume(&self, queues: usize) {
        for at in 0..queues {
            self.broker.resume(&task_name(at, queues).parse().unwrap()).await.unwrap();
        }
    }

    /// Returns how many jobs wait, in the normal lane or in groups, or run in these queues.
    pub(crate) async fn live(&mut self, queues: usize) -> usize {
        let mut count = redis::pipe();
        for queue in 0..queues {
            let queue = format!("crunch:{{0}}:queue:{}", task_name(queue, queues));
            count.llen(format!("{queue}:ready:normal")).zcard(format!("{queue}:running"));
            count.zcard(format!("{queue}:grouped"));
        }
        let counts: Vec<usize> = count.query_async(&mut self.redis).await.unwrap();
        counts.into_iter().sum()
    }

    /// Waits until at most this many jobs wait or run; returns how many do.
    pub(crate) async fn wait_for_live(&mut self, most: usize, queues: usize) -> usize {
        loop {
            let live = self.live(queues).await;
            if live <= most {
                return live;
            }
            // Queries about many queues cost Redis time, so they are less frequent.
            tokio::time::sleep(Duration::from_millis(5.max(queues as u64 / 10))).await;
        }
    }
}

pub(crate) fn broker(server: &RedisServer) -> Broker {
    let config =
        BrokerConfig { redis_url: server.url().parse().unwrap(), ..BrokerConfig::default() };
    Broker::new(&config).unwrap()
}

/// Enqueues jobs in large batches from several callers.
pub(crate) async fn fill(broker: &Broker, jobs: usize, payload: usize, queues: usize) {
    let callers = (0..CALLERS).map(|caller| {
        let broker = broker.clone();
        let share = jobs / CALLERS + usize::from(caller < jobs % CALLERS);
        tokio::spawn(async move { fill_share(&broker, share, payload, queues).await })
    });
    join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
}

async fn fill_share(broker: &Broker, mut jobs: usize, payload: usize, queues: usize) {
    while jobs > 0 {
        let batch: Vec<_> = (0..jobs.min(BATCH).min(BATCH_BYTES / payload + 1))
            .map(|at| job(broker, &task_name(at % queues, queues), payload))
            .collect();
        jobs -= batch.len();
        submit(broker, &batch).await;
    }
}

/// Submits jobs that must be accepted.
pub(crate) async fn submit(broker: &Broker, jobs: &[NewJob]) {
    let outcomes = broker.enqueue(jobs).await;
    let rejected = outcomes.iter().find(|outcome| !matches!(outcome, Ok(Enqueued::Created(_))));
    assert!(rejected.is_none(), "{rejected:?}");
}

/// Submits a job, waits for its result like the API for its clients, and returns how long that took.
pub(crate) async fn time_to_result(broker: &Broker, changes: &mut Changes, task: &str) -> Duration {
    let job = job(broker, task, PAYLOAD);
    let (id, submitted) = (job.id, Instant::now());
    submit(broker, &[job]).await;
    // From now on its changes are received.
    let watched = broker.watch(id).await.unwrap();
    if !matches!(watched, Lookup::Found(job) if job.status.is_terminal()) {
        let ended = |it: &Change| it.id == id && it.status.is_terminal();
        while !ended(&changes.next(|| true).await.unwrap()) {}
    }
    let result = broker.result(id).await.unwrap();
    let taken = submitted.elapsed();
    assert!(matches!(result, Lookup::Found((_, Some(_)))), "{result:?}");
    taken
}

/// The name of a task and of its queue.
pub(crate) fn task_name(at: usize, queues: usize) -> String {
    if queues == 1 { TASK.to_owned() } else { format!("{TASK}-{at}") }
}

/// A job for this queue, with a payload of this many bytes.
pub(crate) fn job(broker: &Broker, name: &str, payload: usize) -> NewJob {
    job_with(broker, name, payload_of(payload))
}

/// JSON of this many bytes.
pub(crate) fn payload_of(bytes: usize) -> String {
    format!("{{\"pad\":\"{}\"}}", "x".repeat(bytes.saturating_sub(10)))
}

/// A job as a request body of the API.
pub(crate) fn envelope() -> String {
    format!("{{\"task\":\"{TASK}\",\"payload\":{}}}", payload_of(PAYLOAD))
}

/// A job for this queue, with this payload.
pub(crate) fn job_with(broker: &Broker, name: &str, payload: String) -> NewJob {
    let task = TaskDescriptor::new(name.parse().unwrap());
    NewJob::of(&task, broker.new_id(None), payload)
}
