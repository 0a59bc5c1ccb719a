//! Redis, APIs and workers of one test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crunch_common::broker::Library;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::wait::eventually;
use crate::{Api, Entry, Ledger, Process, Proxy, RedisServer, tasks};

/// Names the Redis of a process.
const REDIS_VARIABLE: &str = "CRUNCH_REDIS_URL";

/// A worker process.
pub type Worker = Process;

/// Everything that runs for one test; dies with this value.
#[derive(Debug)]
pub struct Stack {
    /// Started first; stopped last.
    pub redis: RedisServer,
    directory: TempDir,
    started: u32,
}

/// A binary built beside the test.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.ancestors().find(|path| path.join(name).is_file());
    directory.unwrap_or_else(|| panic!("{name} was not built")).join(name)
}

impl Stack {
    /// A Redis that keeps nothing on disk, and nobody else yet.
    #[must_use]
    pub fn start() -> Self {
        Self::on(RedisServer::start())
    }

    /// On the given Redis.
    ///
    /// # Panics
    /// If there is no room for a directory.
    #[must_use]
    pub fn on(redis: RedisServer) -> Self {
        Self { redis, directory: tempfile::tempdir().unwrap(), started: 0 }
    }

    /// Where logs and the ledger are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// One API with one worker of as many slots: what most tests need.
    pub async fn simple(slots: usize) -> (Self, Api, Worker) {
        let mut stack = Self::start();
        let api = stack.api().await;
        let worker = stack.worker(&api, slots).await;
        (stack, api, worker)
    }

    /// Starts an API and waits until it listens.
    pub async fn api(&mut self) -> Api {
        self.api_with(&[]).await
    }

    /// As [`Stack::api`], with further environment.
    pub async fn api_with(&mut self, environment: &[(&str, &str)]) -> Api {
        let mut command = self.command("test-api");
        command.env("CRUNCH_API_ADDR", "127.0.0.1:0").env("CRUNCH_API_DRAIN_MS", "0");
        command.envs(environment.iter().copied());
        Api::new(self.spawn(command, "api")).await
    }

    /// Starts a worker and waits until it serves, as `api` sees it.
    pub async fn worker(&mut self, api: &Api, slots: usize) -> Worker {
        self.worker_with(api, slots, &[]).await
    }

    /// As [`Stack::worker`], with further environment.
    pub async fn worker_with(
        &mut self,
        api: &Api,
        slots: usize,
        environment: &[(&str, &str)],
    ) -> Worker {
        let worker = self.worker_process(slots, environment);
        Self::seen(api, &worker).await;
        worker
    }

    /// A line of its own between Redis and one client.
    #[must_use]
    pub fn proxy(&self) -> Proxy {
        Proxy::to(self.redis.port())
    }

    /// As [`Stack::api_with`], reaching Redis through a proxy.
    pub async fn api_via(&mut self, proxy: &Proxy) -> Api {
        self.api_with(&[(REDIS_VARIABLE, &proxy.url())]).await
    }

    /// As [`Stack::worker_with`], reaching Redis through a proxy.
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

    /// Waits until an API sees this worker and its tasks.
    pub async fn seen(api: &Api, worker: &Worker) {
        Self::knows(api, "echo").await;
        Self::knows_worker(api, worker).await;
    }

    /// Waits until an API sees this worker.
    pub async fn knows_worker(api: &Api, worker: &Worker) {
        eventually("the worker is there", async || {
            let workers = api.get("/workers").await.json();
            let here = |item: &Value| item["pid"] == worker.pid();
            workers["items"].as_array()?.iter().any(here).then_some(())
        })
        .await;
    }

    /// Waits until an API knows a task.
    pub async fn knows(api: &Api, task: &str) {
        eventually("the task is declared", async || {
            api.get(&format!("/tasks/{task}")).await.status.is_success().then_some(())
        })
        .await;
    }

    /// Starts a worker and waits for nothing.
    pub fn worker_process(&mut self, slots: usize, environment: &[(&str, &str)]) -> Worker {
        let mut command = self.command("test-worker");
        command.env("CRUNCH_WORKER_CONCURRENCY", slots.to_string());
        command.env(tasks::LEDGER_VARIABLE, self.ledger_path());
        command.envs(environment.iter().copied());
        self.spawn(command, "worker")
    }

    /// A command of ours in a clean environment that knows where Redis is.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binary(name));
        command.env_clear().env(REDIS_VARIABLE, self.redis.url());
        command.env("CRUNCH_LOG", "debug,actix_server=warn,mio=info").env("RUST_BACKTRACE", "0");
        command.envs(std::env::vars_os().filter(|(name, _)| name == OsStr::new("PATH")));
        command
    }

    /// Starts a process of this stack; its log is kept in the stack's directory.
    pub fn spawn(&mut self, command: Command, name: &str) -> Process {
        self.started += 1;
        Process::spawn(command, &format!("{name}-{}", self.started), self.directory.path())
    }

    /// Audits everything that is in Redis; so any test may end, whatever it did.
    ///
    /// # Panics
    /// If anything is not where it should be, or Redis is away.
    pub async fn audits_clean(&self) {
        let broker = self.redis.broker("crunch", Library::shipped());
        let audit = broker.audit(|_| ()).await.unwrap();
        assert!(audit.is_clean(), "{:#?}", audit.findings);
    }

    /// What ran, by the handlers' own account.
    #[must_use]
    pub fn ledger(&self) -> Vec<Entry> {
        Ledger::read(&self.ledger_path())
    }

    fn ledger_path(&self) -> PathBuf {
        self.directory.path().join("ledger")
    }
}
