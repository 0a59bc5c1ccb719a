//! The Redis, APIs and workers of one test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crunch_common::broker::Library;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::wait::eventually;
use crate::{Api, Entry, Ledger, Process, Proxy, RedisServer, tasks};

/// The variable with the Redis URL of a process.
const REDIS_VARIABLE: &str = "CRUNCH_REDIS_URL";

/// A worker process.
pub type Worker = Process;

/// Everything that runs for one test; stopped when this value is dropped.
#[derive(Debug)]
pub struct Stack {
    /// Started first; stopped last.
    pub redis: RedisServer,
    /// `CRUNCH_REDIS_URL` of its processes.
    url: String,
    directory: TempDir,
    started: u32,
}

/// Returns the path of a binary that was built with the test.
///
/// # Panics
/// If it does not exist.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.ancestors().find(|path| path.join(name).is_file());
    directory.unwrap_or_else(|| panic!("{name} was not built")).join(name)
}

impl Stack {
    /// Starts a Redis that keeps nothing on disk, of several nodes if the tests use a cluster, and no other process.
    #[must_use]
    pub fn start() -> Self {
        Self::on(RedisServer::spread())
    }

    /// The same on one node, for a test that inspects Redis directly, or counts connections.
    #[must_use]
    pub fn on_one_node() -> Self {
        Self::on(RedisServer::start())
    }

    /// The same with one partition, for a test whose promise holds in each partition only, or that changes keys by hand.
    #[must_use]
    pub fn with_one_partition() -> Self {
        Self::on(RedisServer::start().with_partitions(1))
    }

    /// Creates a stack on the given Redis.
    ///
    /// # Panics
    /// If no directory can be created.
    #[must_use]
    pub fn on(redis: RedisServer) -> Self {
        let url = redis.url();
        Self { redis, url, directory: tempfile::tempdir().unwrap(), started: 0 }
    }

    /// The same stack, whose processes find Redis by another address.
    #[must_use]
    pub fn by(self, url: String) -> Self {
        Self { url, ..self }
    }

    /// Returns the directory of the logs and the ledger.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts one API and one worker with this many slots: what most tests need.
    pub async fn simple(slots: usize) -> (Self, Api, Worker) {
        Self::start().with_api_and_worker(slots).await
    }

    /// Adds one API and one worker with this many slots.
    pub async fn with_api_and_worker(self, slots: usize) -> (Self, Api, Worker) {
        let mut stack = self;
        let api = stack.api().await;
        let worker = stack.worker(&api, slots).await;
        (stack, api, worker)
    }

    /// Starts an API and waits until it listens.
    pub async fn api(&mut self) -> Api {
        self.api_with(&[]).await
    }

    /// Like [`Stack::api`], with further environment.
    pub async fn api_with(&mut self, environment: &[(&str, &str)]) -> Api {
        let mut command = self.command("test-api");
        command.env("CRUNCH_API_ADDR", "127.0.0.1:0").env("CRUNCH_API_DRAIN_MS", "0");
        command.envs(environment.iter().copied());
        Api::new(self.spawn(command, "api")).await
    }

    /// Starts a worker and waits until `api` lists it and its tasks.
    pub async fn worker(&mut self, api: &Api, slots: usize) -> Worker {
        self.worker_with(api, slots, &[]).await
    }

    /// Like [`Stack::worker`], with further environment.
    pub async fn worker_with(
        &mut self,
        api: &Api,
        slots: usize,
        environment: &[(&str, &str)],
    ) -> Worker {
        let worker = self.worker_process(slots, environment);
        Self::wait_until_ready(api, &worker).await;
        worker
    }

    /// Starts a proxy between Redis and one client.
    #[must_use]
    pub fn proxy(&self) -> Proxy {
        self.redis.proxy()
    }

    /// Like [`Stack::api_with`], connected to Redis through a proxy.
    pub async fn api_via(&mut self, proxy: &Proxy) -> Api {
        self.api_with(&[(REDIS_VARIABLE, &proxy.url())]).await
    }

    /// Like [`Stack::worker_with`], connected to Redis through a proxy.
    pub async fn worker_via(
        &mut self,
        proxy: &Proxy,
        api: &Api,
        slots: usize,
        environment: &[(&str, &str)],
    ) -> Worker {
        let url = proxy.url();
        let mut environment = environment.to_vec();
        environment.push((REDIS_VARIABLE, &url));
        self.worker_with(api, slots, &environment).await
    }

    /// Waits until an API lists this worker and its tasks.
    pub async fn wait_until_ready(api: &Api, worker: &Worker) {
        Self::wait_for_task(api, "echo").await;
        Self::wait_for_worker(api, worker).await;
    }

    /// Waits until an API lists this worker.
    pub async fn wait_for_worker(api: &Api, worker: &Worker) {
        eventually("the API lists the worker", async || {
            let workers = api.get("/workers").await.json();
            let is_it = |item: &Value| item["pid"] == worker.pid();
            workers["items"].as_array()?.iter().any(is_it).then_some(())
        })
        .await;
    }

    /// Waits until a task is declared.
    pub async fn wait_for_task(api: &Api, task: &str) {
        eventually("the task is declared", async || {
            api.get(&format!("/tasks/{task}")).await.status.is_success().then_some(())
        })
        .await;
    }

    /// Starts a worker without waiting for it.
    pub fn worker_process(&mut self, slots: usize, environment: &[(&str, &str)]) -> Worker {
        let mut command = self.command("test-worker");
        command.env("CRUNCH_WORKER_CONCURRENCY", slots.to_string());
        command.env(tasks::LEDGER_VARIABLE, self.ledger_path());
        command.envs(environment.iter().copied());
        self.spawn(command, "worker")
    }

    /// Starts a supervisor with this many workers of one slot each, and waits until an API lists them. Its leases are
    /// far longer than a test: only the supervisor can reclaim the jobs of a dead worker.
    ///
    /// The test must terminate the supervisor: workers of a killed supervisor keep running for their grace period.
    pub async fn supervisor(
        &mut self,
        api: &Api,
        workers: usize,
        environment: &[(&str, &str)],
    ) -> Process {
        let count = workers.to_string();
        let mut variables =
            vec![("CRUNCH_WORKER_SUPERVISE", &*count), ("CRUNCH_LEASE_MS", "600000")];
        variables.extend(environment);
        let supervisor = self.worker_process(1, &variables);
        Self::wait_for_task(api, "echo").await;
        Self::wait_for_workers(api, workers).await;
        supervisor
    }

    /// Waits until an API lists exactly this many workers; returns their process ids.
    pub async fn wait_for_workers(api: &Api, count: usize) -> Vec<u32> {
        eventually(&format!("there are {count} workers"), async || {
            let workers = api.get("/workers").await.json();
            let pids = workers["items"].as_array()?.iter().map(|item| item["pid"].as_u64());
            let pids: Vec<_> = pids.map(|pid| u32::try_from(pid?).ok()).collect::<Option<_>>()?;
            (pids.len() == count).then_some(pids)
        })
        .await
    }

    /// Returns a command for one of our binaries in a clean environment, with the URL of Redis.
    pub fn command(&self, name: &str) -> Command {
        let mut command = command_on(name, &self.url);
        command.env("CRUNCH_PARTITIONS", self.redis.partitions().to_string());
        command.env("CRUNCH_LOG", "debug,actix_server=warn,mio=info");
        command
    }

    /// Starts a process of this stack; its log is kept in the stack's directory.
    pub fn spawn(&mut self, command: Command, name: &str) -> Process {
        self.started += 1;
        Process::spawn(command, &format!("{name}-{}", self.started), self.directory.path())
    }

    /// Audits everything in Redis and asserts that there are no findings; any test can end with this.
    ///
    /// # Panics
    /// If the audit has findings, or Redis stays unavailable.
    pub async fn assert_clean_audit(&self) {
        let broker = self.redis.broker_by(&self.url, "crunch", Library::shipped());
        // A node of a cluster that was restarted serves requests two seconds later.
        let audit = async || broker.audit(|_| ()).await.ok();
        let audit = eventually("Redis is audited", audit).await;
        assert!(audit.is_clean(), "{:#?}", audit.findings);
    }

    /// Returns the runs that the handlers recorded.
    #[must_use]
    pub fn ledger(&self) -> Vec<Entry> {
        Ledger::read(&self.ledger_path())
    }

    fn ledger_path(&self) -> PathBuf {
        self.directory.path().join("ledger")
    }
}

/// Returns a command for one of our binaries in a clean environment that uses this Redis.
pub(crate) fn command_on(name: &str, redis_url: &str) -> Command {
    let mut command = Command::new(binary(name));
    command.env_clear().env(REDIS_VARIABLE, redis_url).env("RUST_BACKTRACE", "0");
    command.envs(std::env::vars_os().filter(|(name, _)| name == OsStr::new("PATH")));
    command
}
