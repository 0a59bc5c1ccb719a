//! Injects each fault, and ends it when its time is over.

use std::time::Duration;

use crunch_common::time::{Timestamp, whole_ms};
use redis::cmd;
use rustix::process::Signal;
use tokio::time::sleep;

use super::children;
use super::faults::{Fault, Injected, Kind, Target};
use super::fleet::{Fleet, Member, Role};
use crate::{Direction, DropMode, Filter, Process, RedisServer};

/// The delay of a slow link, for each unit of strength.
const DELAY: Duration = Duration::from_millis(30);
/// Bytes a second of a throttled link: a busy link between two sites, an old network, a fast one.
const THROTTLES: [u64; 3] = [1024 * 1024, 4 * 1024 * 1024, 12 * 1024 * 1024];

impl Fleet {
    /// Injects a fault, waits, ends it; returns when that was.
    pub(super) async fn inject(&self, fault: &Fault) -> Injected {
        let member = match fault.target {
            Target::Redis(number) => return self.inject_into_redis(fault, number).await,
            Target::Workers => return self.throttle(fault, &self.workers).await,
            Target::Apis => return self.throttle(fault, &self.apis).await,
            Target::ExtraWorker => return self.run_extra_worker(fault).await,
            Target::Worker(number) => &self.workers[number],
            Target::Api(number) => &self.apis[number],
        };
        let mut process = member.process.lock().await;
        self.check_alive(&fault.target.to_string(), &mut process);
        let from_ms = Timestamp::now().unix_ms();
        let pid = (member.role != Role::Api).then(|| process.pid());
        match fault.kind {
            Kind::KillWorker | Kind::KillApi => {
                process.kill().await;
                sleep(fault.length).await;
                self.replace(member, &mut process).await;
            }
            Kind::TerminateWorker | Kind::TerminateApi => {
                self.terminate(fault.target, &mut process).await;
                self.replace(member, &mut process).await;
            }
            Kind::ExhaustDescriptors => {
                exhaust_descriptors(&process, fault.length).await;
                if process.has_exited() && could_not_start(&process.log()) {
                    self.replace(member, &mut process).await;
                }
            }
            Kind::FreezeWorker | Kind::OversleepWorker => freeze(&process, fault.length).await,
            kind if kind.is_of_child() => children::break_one(process.pid(), fault).await,
            _ => inject_into_network(member, fault).await,
        }
        self.record(fault, pid, from_ms)
    }

    async fn terminate(&self, target: Target, process: &mut Process) {
        let code = process.terminate().await.code();
        // A process that got TERM before it installed its handler ends like any program.
        if code != Some(0) && !process.log().is_empty() {
            self.report(format!("{target} ended with {code:?} after TERM"));
        }
    }

    /// Throttles the link that these members share for a while; other faults of them may be active meanwhile.
    async fn throttle(&self, fault: &Fault, members: &[Member]) -> Injected {
        let proxy = &members[0].proxy;
        let from_ms = Timestamp::now().unix_ms();
        proxy.throttle(THROTTLES[fault.strength as usize % THROTTLES.len()]);
        sleep(fault.length).await;
        proxy.unthrottle();
        self.record(fault, None, from_ms)
    }

    async fn run_extra_worker(&self, fault: &Fault) -> Injected {
        let from_ms = Timestamp::now().unix_ms();
        let mut process = self.launch(Role::WorkerWithoutTask, self.redis_url());
        sleep(fault.length).await;
        self.check_alive(&fault.target.to_string(), &mut process);
        self.terminate(fault.target, &mut process).await;
        self.record(fault, Some(process.pid()), from_ms)
    }

    fn record(&self, fault: &Fault, pid: Option<u32>, from_ms: u64) -> Injected {
        let to_ms = Timestamp::now().unix_ms();
        let injected = Injected { kind: fault.kind, target: fault.target, pid, from_ms, to_ms };
        self.record_fault(&injected);
        injected
    }

    async fn inject_into_redis(&self, fault: &Fault, number: usize) -> Injected {
        let mut redis = self.redis[number].lock().await;
        let from_ms = Timestamp::now().unix_ms();
        match fault.kind {
            Kind::KillRedis | Kind::RestartRedis => {
                match fault.kind {
                    Kind::KillRedis => redis.kill(),
                    _ => tokio::task::block_in_place(|| redis.stop()),
                }
                sleep(fault.length).await;
                tokio::task::block_in_place(|| redis.restart());
            }
            Kind::FreezeRedis => {
                redis.freeze();
                sleep(fault.length).await;
                redis.thaw();
            }
            Kind::PauseRedis => {
                send(&redis, &["CLIENT", "PAUSE", &whole_ms(fault.length).to_string(), "ALL"])
                    .await;
                sleep(fault.length).await;
            }
            _ => send(&redis, &["FUNCTION", "FLUSH"]).await,
        }
        wait_until_ready(&redis).await;
        self.record(fault, None, from_ms)
    }
}

async fn freeze(process: &Process, length: Duration) {
    process.signal(Signal::STOP);
    sleep(length).await;
    process.signal(Signal::CONT);
}

/// Whether a worker ended at its start because it got no descriptors: the reason is the last line of its log, directly
/// after the line of its start if it got that far. A supervisor would restart it. A worker that already claims jobs
/// keeps running.
fn could_not_start(log: &str) -> bool {
    let starts = log.lines().position(|line| line.contains("worker started"));
    log.lines().skip(starts.map_or(0, |at| at + 1)).count() <= 1
}

/// Lets the process keep its open descriptors, but open no more.
async fn exhaust_descriptors(process: &Process, length: Duration) {
    let previous = process.limit_descriptors(Some(0));
    sleep(length).await;
    process.limit_descriptors(previous);
}

async fn inject_into_network(member: &Member, fault: &Fault) {
    let proxy = &member.proxy;
    match fault.kind {
        Kind::Refuse => proxy.refuse().await,
        Kind::BlackHole => proxy.black_hole(),
        Kind::SwallowCommands => proxy.black_hole_one_way(Direction::ToRedis),
        Kind::SwallowReplies => proxy.black_hole_one_way(Direction::ToClient),
        Kind::Delay => proxy.delay(DELAY * u32::try_from(fault.strength).unwrap_or(1)),
        Kind::LoseReplies => drop_replies(member, fault, DropMode::Reset),
        Kind::SilenceReplies => drop_replies(member, fault, DropMode::Silence),
        Kind::Sequence => return proxy.stall_open_connections(),
        _ => return proxy.reset(),
    }
    sleep(fault.length).await;
    proxy.heal();
}

/// Loses replies to the most important verbs.
fn drop_replies(member: &Member, fault: &Fault, mode: DropMode) {
    for verb in ["enqueue", "exchange", "heartbeat"] {
        member.proxy.drop_replies(Filter::verb(verb), fault.strength, mode);
    }
}

async fn send(redis: &RedisServer, words: &[&str]) {
    let mut connection = redis.connect().await;
    cmd(words[0]).arg(&words[1..]).exec_async(&mut connection).await.unwrap();
}

/// Waits until Redis serves requests and has loaded its append-only file: one that is a node of a cluster serves them two
/// seconds after its start.
async fn wait_until_ready(redis: &RedisServer) {
    crate::eventually("Redis responds", async || {
        let mut connection = redis.client().get_multiplexed_async_connection().await.ok()?;
        if !redis.is_node() {
            return cmd("PING").exec_async(&mut connection).await.ok();
        }
        let info = cmd("CLUSTER").arg("INFO").query_async::<String>(&mut connection).await.ok()?;
        info.contains("cluster_state:ok").then_some(())
    })
    .await;
}
