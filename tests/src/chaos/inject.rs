//! How each fault is done, and undone when its time is over.

use std::time::Duration;

use crunch_common::time::{Timestamp, whole_ms};
use redis::cmd;
use rustix::process::Signal;
use tokio::time::sleep;

use super::faults::{Fault, Kind, Suffered, Target};
use super::fleet::{Fleet, Member, Role};
use crate::{Loss, Process, RedisServer, Way, Which};

/// How much slower a slow line is, for each grade of strength.
const SLOWNESS: Duration = Duration::from_millis(30);
/// Bytes a second of a throttled line: what a busy link between two places leaves, an old network, a fast one.
const THROTTLES: [u64; 3] = [1024 * 1024, 4 * 1024 * 1024, 12 * 1024 * 1024];

impl Fleet {
    /// Breaks something, waits, mends it; tells when.
    pub(super) async fn suffer(&self, fault: &Fault) -> Suffered {
        let (member, role) = match fault.target {
            Target::Redis => return self.redis_suffers(fault).await,
            Target::Workers => return self.is_throttled(fault, &self.workers).await,
            Target::Apis => return self.is_throttled(fault, &self.apis).await,
            Target::ExtraWorker => return self.has_extra_worker(fault).await,
            Target::Worker(number) => (&self.workers[number], Role::Worker),
            Target::Api(number) => (&self.apis[number], Role::Api),
        };
        let mut process = member.process.lock().await;
        self.must_live(&fault.target.to_string(), &mut process);
        let from_ms = Timestamp::now().unix_ms();
        let pid = (role == Role::Worker).then(|| process.pid());
        match fault.kind {
            Kind::KillWorker | Kind::KillApi => {
                process.kill().await;
                sleep(fault.length).await;
                self.replace(role, member, &mut process).await;
            }
            Kind::TerminateWorker | Kind::TerminateApi => {
                self.terminate(fault.target, &mut process).await;
                self.replace(role, member, &mut process).await;
            }
            Kind::ExhaustDescriptors => {
                exhaust_descriptors(&process, fault.length).await;
                if process.has_exited() && could_not_start(&process.log()) {
                    self.replace(role, member, &mut process).await;
                }
            }
            Kind::FreezeWorker | Kind::OversleepWorker => freeze(&process, fault.length).await,
            _ => line_suffers(member, fault).await,
        }
        self.suffered(fault, pid, from_ms)
    }

    async fn terminate(&self, target: Target, process: &mut Process) {
        let code = process.terminate().await.code();
        // One that was asked before it came to itself ends as any program does.
        if code != Some(0) && !process.log().is_empty() {
            self.trouble(format!("{target} ended with {code:?} when asked to"));
        }
    }

    /// The line that these members share carries little for a while; other faults happen to them meanwhile.
    async fn is_throttled(&self, fault: &Fault, members: &[Member]) -> Suffered {
        let line = &members[0].line;
        let from_ms = Timestamp::now().unix_ms();
        line.throttle(THROTTLES[fault.strength as usize % THROTTLES.len()]);
        sleep(fault.length).await;
        line.unthrottle();
        self.suffered(fault, None, from_ms)
    }

    async fn has_extra_worker(&self, fault: &Fault) -> Suffered {
        let from_ms = Timestamp::now().unix_ms();
        let mut process = self.launch(Role::WorkerWithoutTask, self.redis_url());
        sleep(fault.length).await;
        self.must_live(&fault.target.to_string(), &mut process);
        self.terminate(fault.target, &mut process).await;
        self.suffered(fault, Some(process.pid()), from_ms)
    }

    fn suffered(&self, fault: &Fault, pid: Option<u32>, from_ms: u64) -> Suffered {
        let to_ms = Timestamp::now().unix_ms();
        let suffered = Suffered { kind: fault.kind, target: fault.target, pid, from_ms, to_ms };
        self.note_fault(&suffered);
        suffered
    }

    async fn redis_suffers(&self, fault: &Fault) -> Suffered {
        let mut redis = self.redis.lock().await;
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
                tell(&redis, &["CLIENT", "PAUSE", &whole_ms(fault.length).to_string(), "ALL"])
                    .await;
                sleep(fault.length).await;
            }
            _ => tell(&redis, &["FUNCTION", "FLUSH"]).await,
        }
        answers(&redis).await;
        self.suffered(fault, None, from_ms)
    }
}

async fn freeze(process: &Process, length: Duration) {
    process.signal(Signal::STOP);
    sleep(length).await;
    process.signal(Signal::CONT);
}

/// Whether a worker ended at its start, for which it was refused descriptors: the reason is the last line, right behind its start
/// if it came that far. An operator's supervisor starts it again. One that takes jobs lives on without.
fn could_not_start(log: &str) -> bool {
    let starts = log.lines().position(|line| line.contains("worker starts"));
    log.lines().skip(starts.map_or(0, |at| at + 1)).count() <= 1
}

/// Leaves it what it has open, and nothing more.
async fn exhaust_descriptors(process: &Process, length: Duration) {
    let whole = process.limit_descriptors(Some(0));
    sleep(length).await;
    process.limit_descriptors(whole);
}

async fn line_suffers(member: &Member, fault: &Fault) {
    let line = &member.line;
    match fault.kind {
        Kind::Refuse => line.refuse().await,
        Kind::BlackHole => line.black_hole(),
        Kind::SwallowCommands => line.black_hole_one_way(Way::ToRedis),
        Kind::SwallowReplies => line.black_hole_one_way(Way::ToClient),
        Kind::Delay => line.delay(SLOWNESS * u32::try_from(fault.strength).unwrap_or(1)),
        Kind::LoseReplies => lose(member, fault, Loss::Reset),
        Kind::SilenceReplies => lose(member, fault, Loss::Silence),
        Kind::Sequence => return line.strand(),
        _ => return line.reset(),
    }
    sleep(fault.length).await;
    line.heal();
}

/// Loses replies of the verbs that matter.
fn lose(member: &Member, fault: &Fault, loss: Loss) {
    for verb in ["enqueue", "exchange", "heartbeat"] {
        member.line.lose_replies(Which::verb(verb), fault.strength, loss);
    }
}

async fn tell(redis: &RedisServer, words: &[&str]) {
    let mut connection = redis.client().get_multiplexed_async_connection().await.unwrap();
    cmd(words[0]).arg(&words[1..]).exec_async(&mut connection).await.unwrap();
}

/// Waits until Redis serves, everything of its log read.
async fn answers(redis: &RedisServer) {
    crate::eventually("redis answers", async || {
        let mut connection = redis.client().get_multiplexed_async_connection().await.ok()?;
        cmd("PING").exec_async(&mut connection).await.ok()
    })
    .await;
}
