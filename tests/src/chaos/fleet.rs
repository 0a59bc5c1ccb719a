//! The processes of a run: a Redis that has every write on disk before it replies, or a cluster of them, and APIs and
//! workers, each behind its own proxy. Processes that end are restarted here; one that ends by itself is a violation.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crunch_common::broker::Library;
use crunch_common::time::whole_ms;
use parking_lot::{Mutex, RwLock};
use rustix::process::Signal;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::client::Client;
use super::faults::Injected;
use super::orders::{SERVER_QUEUE, WORKER_QUEUES, command, server};
use super::{Ledger, Plan};
use crate::stack::command_on;
use crate::{NODE_TIMEOUT_MS, Process, Proxy, RedisServer, tasks};

/// A process and its proxy to Redis. A fault of either holds the lock while it is active.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) role: Role,
    pub(super) process: AsyncMutex<Process>,
    pub(super) proxy: Proxy,
    /// The URL of an API; empty for a worker.
    url: RwLock<String>,
}

#[derive(Debug)]
pub(super) struct Fleet {
    directory: PathBuf,
    lease: Duration,
    /// One, or the nodes of a cluster.
    pub(super) redis: Vec<AsyncMutex<RedisServer>>,
    redis_url: String,
    /// The address of each, to inspect it directly.
    pub(super) node_urls: Vec<String>,
    pub(super) partitions: u16,
    /// What the keys of each partition begin with, for each node, once it is known.
    pub(super) roots: OnceLock<Arc<[Vec<String>]>>,
    pub(super) apis: Vec<Member>,
    pub(super) workers: Vec<Member>,
    started: AtomicU32,
    problems: Mutex<Vec<String>>,
    faults: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Api,
    Worker,
    /// A worker without the rarer task.
    WorkerWithoutTask,
    /// A worker that has a server too.
    ServerWorker,
}

/// Starts a Redis, or the nodes of a cluster, with every write on disk before the reply.
fn start_redis(plan: &Plan) -> Vec<RedisServer> {
    let arguments = ["--appendonly", "yes", "--appendfsync", "always"];
    let timeout = NODE_TIMEOUT_MS.to_string();
    let of_cluster = ["--cluster-node-timeout", &timeout];
    let servers = match plan.nodes {
        0 => vec![RedisServer::single_with(&arguments)],
        nodes => RedisServer::nodes(nodes, &[&arguments[..], &of_cluster].concat()),
    };
    servers.into_iter().map(|server| server.with_partitions(plan.partitions)).collect()
}

impl Fleet {
    pub(super) async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let redis = start_redis(plan);
        let ports: Vec<_> = redis.iter().map(RedisServer::port).collect();
        let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let node_urls: Vec<_> = hosts.iter().map(|host| format!("redis://{host}/")).collect();
        let redis_url = match plan.nodes {
            0 => node_urls[0].clone(),
            _ => format!("redis+cluster://{}/", hosts.join(",")),
        };
        let mut fleet = Self {
            directory: plan.directory.clone(),
            lease: plan.lease,
            redis: redis.into_iter().map(AsyncMutex::new).collect(),
            redis_url,
            node_urls,
            partitions: plan.partitions,
            roots: OnceLock::new(),
            apis: Vec::new(),
            workers: Vec::new(),
            started: AtomicU32::new(0),
            problems: Mutex::default(),
            faults: File::create(plan.directory.join("faults.ledger"))?,
        };
        // Children only append to it.
        File::create(fleet.ledger())?;
        std::fs::write(fleet.tasks_file(Role::Worker), command())?;
        std::fs::write(fleet.tasks_file(Role::ServerWorker), server(&fleet.ledger()))?;
        let proxy = || match plan.nodes {
            0 => Proxy::to(ports[0]),
            _ => Proxy::to_nodes(&ports),
        };
        let [to_apis, to_workers] = [proxy(), proxy()];
        for _ in 0..plan.apis {
            let member = fleet.member(Role::Api, to_apis.sharing_throttle()).await;
            fleet.apis.push(member);
        }
        let workers = std::iter::repeat_n(Role::Worker, plan.workers);
        for role in workers.chain(std::iter::repeat_n(Role::ServerWorker, plan.server_workers)) {
            let member = fleet.member(role, to_workers.sharing_throttle()).await;
            fleet.workers.push(member);
        }
        Ok(fleet)
    }

    async fn member(&self, role: Role, proxy: Proxy) -> Member {
        let mut process = self.launch(role, &proxy.url());
        let url = match role {
            Role::Api => process.wait_for_log("listening on ").await,
            Role::Worker | Role::WorkerWithoutTask | Role::ServerWorker => String::new(),
        };
        Member { role, process: AsyncMutex::new(process), proxy, url: RwLock::new(url) }
    }

    pub(super) fn launch(&self, role: Role, redis_url: &str) -> Process {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let (binary, name) = match role {
            Role::Api => ("test-api", format!("api-{number}")),
            Role::Worker | Role::WorkerWithoutTask | Role::ServerWorker => {
                ("test-worker", format!("worker-{number}"))
            }
        };
        let mut command = command_on(binary, redis_url);
        command.env("CRUNCH_LOG", "info,actix_server=warn");
        command.env("CRUNCH_PARTITIONS", self.partitions.to_string());
        match role {
            Role::Api => {
                command.env("CRUNCH_API_ADDR", "127.0.0.1:0").env("CRUNCH_API_DRAIN_MS", "100");
                command.env("CRUNCH_API_UNKNOWN_TASKS", "accept");
            }
            Role::Worker | Role::WorkerWithoutTask | Role::ServerWorker => {
                let queues: &[&str] = match role {
                    Role::ServerWorker => &[SERVER_QUEUE],
                    _ => WORKER_QUEUES,
                };
                command.env("CRUNCH_LEASE_MS", whole_ms(self.lease).to_string());
                command.env("CRUNCH_WORKER_CONCURRENCY", "16").env("CRUNCH_WORKER_GRACE_MS", "200");
                command.env("CRUNCH_WORKER_QUEUES", queues.join(","));
                command.env(tasks::LEDGER_VARIABLE, self.ledger());
                command.env("CRUNCH_TASKS", self.tasks_file(role));
            }
        }
        if role == Role::WorkerWithoutTask {
            command.env(tasks::LACKS_VARIABLE, "1");
        }
        Process::spawn(command, &name, &self.directory)
    }

    /// Starts the replacement of a process that ended.
    pub(super) async fn replace(&self, member: &Member, process: &mut Process) {
        *process = self.launch(member.role, &member.proxy.url());
        if member.role == Role::Api {
            let url = process.wait_for_log("listening on ").await;
            *member.url.write() = url;
        }
    }

    /// Returns the URL of an API; any number is valid, modulo the number of APIs.
    pub(super) fn url(&self, number: usize) -> String {
        let member = &self.apis[number % self.apis.len()];
        member.url.read().clone()
    }

    pub(super) fn redis_url(&self) -> &str {
        &self.redis_url
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.directory.join("runs.ledger")
    }

    /// Returns the path of the tasks file of a worker: with the command, or with the server.
    fn tasks_file(&self, role: Role) -> PathBuf {
        self.directory.join(if role == Role::ServerWorker { "server.toml" } else { "tasks.toml" })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Records a fault, for the reader of a failed run only.
    pub(super) fn record_fault(&self, fault: &Injected) {
        let Injected { kind, target, pid, from_ms, to_ms } = fault;
        let line = format!("{from_ms} {to_ms} {kind:?} {target} {}\n", pid.unwrap_or_default());
        let _ = (&self.faults).write_all(line.as_bytes());
    }

    /// Audits what is in Redis with the product's own auditor.
    pub(super) async fn audit(&self) {
        let redis = self.redis[0].lock().await;
        let broker = redis.broker_by(&self.redis_url, "crunch", Library::shipped());
        match broker.audit(|_| ()).await {
            Ok(audit) if audit.is_clean() => {}
            Ok(audit) => self.report(format!("the audit is not clean: {:?}", audit.findings)),
            Err(error) => self.report(format!("the audit failed: {error}")),
        }
    }

    /// Records a problem; each becomes a violation.
    pub(super) fn report(&self, what: String) {
        self.problems.lock().push(what);
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().clone()
    }

    /// Reports a process that ended by itself.
    pub(super) fn check_alive(&self, name: &str, process: &mut Process) {
        if process.has_exited() {
            let log = process.log();
            let end = log.lines().rev().take(5).collect::<Vec<_>>();
            self.report(format!("{name} ended by itself: {end:?}"));
        }
    }

    /// Ends all faults.
    pub(super) async fn heal_all(&self) {
        for redis in &self.redis {
            redis.lock().await.thaw();
        }
        for member in self.apis.iter().chain(&self.workers) {
            member.process.lock().await.signal(Signal::CONT);
            member.proxy.heal();
            member.proxy.unthrottle();
        }
    }

    /// Checks that every worker, or its server, runs jobs without a restart, and that every API is ready.
    pub(super) async fn check_all_work(&self, client: &Client) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let before = Ledger::size(&self.ledger());
        for (number, member) in self.workers.iter().enumerate() {
            let mut process = member.process.lock().await;
            self.check_alive(&format!("worker {number}"), &mut process);
            let in_child = member.role == Role::ServerWorker;
            let has_run = |pid| {
                let runs = Ledger::read_from(&self.ledger(), before);
                runs.iter().any(|run| run.pid == pid && run.in_child == in_child)
            };
            while !has_run(process.pid()) {
                if Instant::now() > deadline {
                    self.report(format!("worker {number} runs no more jobs"));
                    break;
                }
                client.probe().await;
            }
        }
        for (number, member) in self.apis.iter().enumerate() {
            self.check_alive(&format!("api {number}"), &mut *member.process.lock().await);
            while !client.is_ready(number).await {
                if Instant::now() > deadline {
                    self.report(format!("api {number} is no longer ready"));
                    break;
                }
            }
        }
    }

    /// Counts the occurrences of a text in the logs of all workers of the run.
    pub(super) fn count_in_worker_logs(&self, text: &str) -> usize {
        (0..self.started.load(Ordering::Relaxed))
            .filter_map(|number| {
                std::fs::read_to_string(self.directory.join(format!("worker-{number}.log"))).ok()
            })
            .map(|log| log.matches(text).count())
            .sum()
    }
}
