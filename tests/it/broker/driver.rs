//! Applies each operation to Redis and to the model, and compares everything after each.

use crunch_tests::RedisServer;
use std::collections::BTreeMap;
use std::time::Duration;

use crunch_common::broker::{
    Broker, Durability, Enqueued, Exchange, Heartbeat, IndexId, Lease, Library, NewJob, Progress,
    ReleaseCause, Report, Settlement, Start, WorkerId,
};
use crunch_common::job::{
    ErrorCode, JobError, JobId, JobOptions, Partition, Payload, Priority, Unique,
};
use crunch_common::task::TaskName;
use redis::aio::MultiplexedConnection;

use super::dump::dump;
use super::model::{ClaimedJob, Model, NewJob as ModelJob};
use super::moves::{StatusChanges, recorded};
use super::operation::{
    CAN_RUN, Ending, GROUPS, LABELS, LEASE_MS, MAX_WAIT_MS, Operation, QUEUES, TASKS, WORKERS,
    labels_of, lock_id,
};
use super::simulated::{info, options};
use super::snapshot::{Snapshot, result_of};

/// `Err` describes what is wrong; a property test shrinks its operations, and a mutant must cause one.
pub(crate) type Check = Result<(), String>;

/// The key of the simulated clock, where partition 0 is.
pub(crate) const CLOCK: &str = "test-clock:{0}";
const REAL_CLOCK: &str =
    "local t = redis.call('TIME') return t[1] * 1000 + math.floor(t[2] / 1000)";

/// The id of a job; a history has the same ids in the same order in every run.
fn job_id(now: u64, number: usize) -> JobId {
    let (high, low) = (now >> 16, now & 0xffff);
    format!("{high:08x}-{low:04x}-8000-8000-{number:012x}").parse().unwrap()
}

/// The index of a label.
pub(crate) fn index(label: usize) -> IndexId {
    let (name, value) = LABELS[label];
    IndexId::of(name, value).unwrap()
}

fn worker_id(number: usize) -> WorkerId {
    format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap()
}

/// The shipped functions with a clock that the test sets, with their status changes recorded, and with one more edit.
pub(crate) fn library(edit: impl Fn(String) -> String) -> Library {
    Library::edited(|text| {
        assert_eq!(text.matches(REAL_CLOCK).count(), 1, "the library reads the clock in one place");
        let simulated = format!("return tonumber(redis.call('GET', '{CLOCK}'))");
        recorded(&edit(text.replace(REAL_CLOCK, &simulated)))
    })
}

struct Worker {
    id: WorkerId,
    number: u64,
    held: Vec<Lease>,
    last_exchange: Option<(Exchange, Vec<Ending>, Vec<ClaimedJob>)>,
}

impl Worker {
    fn new(id: WorkerId) -> Self {
        Self { id, number: 0, held: Vec::new(), last_exchange: None }
    }
}

pub(crate) struct Driver {
    broker: Broker,
    redis: MultiplexedConnection,
    prefix: String,
    model: Model,
    workers: Vec<Worker>,
    /// How many workers were created, those replaced included.
    worker_count: usize,
    last_batch: Vec<NewJob>,
    last_job: Option<ModelJob>,
    ids: Vec<JobId>,
    /// How many jobs were submitted, those that were refused included.
    submitted: usize,
    status_changes: StatusChanges,
    last_snapshot: Snapshot,
}

impl Driver {
    pub(crate) async fn new(
        redis: &RedisServer,
        prefix: String,
        library: Library,
        now: u64,
    ) -> Self {
        let mut connection = redis.connect().await;
        let () = redis::cmd("SET").arg(CLOCK).arg(now).query_async(&mut connection).await.unwrap();
        super::snapshot::set_rules(&mut connection, &prefix).await;
        Self {
            broker: redis.broker(&prefix, library),
            redis: connection,
            prefix,
            model: Model::new(now),
            workers: (0..WORKERS).map(|number| Worker::new(worker_id(number))).collect(),
            worker_count: WORKERS,
            last_batch: Vec::new(),
            last_job: None,
            ids: Vec::new(),
            submitted: 0,
            status_changes: StatusChanges::default(),
            last_snapshot: Snapshot::default(),
        }
    }

    /// Applies one operation and checks everything.
    pub(crate) async fn step(&mut self, operation: &Operation) -> Check {
        self.apply(operation).await.map_err(|wrong| format!("{operation:?}: {wrong}"))?;
        let snapshot = Snapshot::read(&mut self.redis, &self.prefix, &self.ids).await;
        let check = || {
            snapshot.check_structure()?;
            snapshot.check_step_from(&self.last_snapshot)?;
            ensure_equal("the key space", &snapshot, &Snapshot::of(&self.model))
        };
        let changes = self.status_changes.check(&mut self.redis, &self.prefix).await;
        check().and(changes).map_err(|wrong| format!("after {operation:?}: {wrong}"))?;
        self.last_snapshot = snapshot;
        Ok(())
    }

    /// Every key of this prefix in Redis.
    pub(crate) async fn dump(&mut self) -> BTreeMap<String, Vec<String>> {
        dump(&mut self.redis, &self.prefix).await
    }

    /// Checks that an audit finds nothing, wherever a history ends.
    pub(crate) async fn audit(&self) -> Check {
        let audit = self.broker.audit(|_| ()).await.map_err(text)?;
        ensure_equal("the audit", &audit.findings, &std::collections::BTreeMap::new())
    }

    fn new_worker(&mut self) -> Worker {
        self.worker_count += 1;
        Worker::new(worker_id(self.worker_count - 1))
    }

    async fn apply(&mut self, operation: &Operation) -> Check {
        match operation {
            &Operation::Enqueue { queue, task, priority, count, times, labels, group, unique } => {
                let place = (queue, task, priority + 1);
                self.enqueue(ModelJob { place, times, labels, group, unique }, count).await
            }
            Operation::EnqueueAgain => self.enqueue_again().await,
            Operation::Exchange { worker, settle, want } => {
                self.exchange(*worker, settle, *want).await
            }
            Operation::ExchangeAgain { worker } => self.exchange_again(*worker).await,
            Operation::Heartbeat { worker, skip } => self.heartbeat(*worker, *skip).await,
            Operation::Die { worker } => {
                self.workers[*worker] = self.new_worker();
                Ok(())
            }
            Operation::Reclaim { worker } => self.reclaim(*worker).await,
            Operation::Report { worker, lease } => self.report(*worker, *lease).await,
            Operation::Cancel { job } => self.on_job(*job, Verb::Cancel).await,
            Operation::Retry { job } => self.on_job(*job, Verb::Retry).await,
            Operation::Delete { job } => self.on_job(*job, Verb::Delete).await,
            Operation::Redrive { queue, limit } => {
                let redriven = self
                    .broker
                    .redrive(&QUEUES[*queue].parse().unwrap(), None, *limit)
                    .await
                    .map_err(text)?;
                let is_known = self.model.queues[*queue].is_known;
                let expected = is_known.then(|| self.model.redrive(*queue, *limit));
                ensure_equal("redriven", &redriven, &expected)
            }
            Operation::Pause { queue } => {
                let paused = self.broker.pause(&QUEUES[*queue].parse().unwrap(), false).await;
                let model = &mut self.model.queues[*queue];
                model.paused = model.is_known;
                ensure_equal("paused", &paused.map_err(text)?, &model.is_known)
            }
            Operation::Resume { queue } => {
                self.model.queues[*queue].paused = false;
                let resumed = self.broker.resume(&QUEUES[*queue].parse().unwrap()).await;
                ensure_equal(
                    "resumed",
                    &resumed.map_err(text)?,
                    &self.model.queues[*queue].is_known,
                )
            }
            Operation::Sweep { after_ms } => self.sweep(*after_ms).await,
            Operation::SweepThroughLease => {
                for _ in 0..6 {
                    self.sweep(LEASE_MS / 4).await?;
                }
                Ok(())
            }
            Operation::AdvanceClock { ms } => {
                self.advance_clock(*ms).await;
                Ok(())
            }
        }
    }

    async fn sweep(&mut self, after_ms: u64) -> Check {
        self.advance_clock(after_ms).await;
        self.model.sweep();
        self.broker.sweep(Partition::default(), None).await.map(|_| ()).map_err(text)
    }

    async fn advance_clock(&mut self, ms: u64) {
        self.model.now += ms;
        let () = redis::cmd("SET")
            .arg(CLOCK)
            .arg(self.model.now)
            .query_async(&mut self.redis)
            .await
            .unwrap();
    }

    async fn enqueue(&mut self, new: ModelJob, count: usize) -> Check {
        let ModelJob { place: (queue, task, lane), times, labels, group, unique } = new.clone();
        let start = match times.delay_ms {
            0 => Start::Now,
            ms => Start::After(Duration::from_millis(ms)),
        };
        let max_wait = Duration::from_millis(MAX_WAIT_MS);
        let new_job = |number| NewJob {
            id: job_id(self.model.now, number),
            task: TASKS[task].parse().unwrap(),
            queue: QUEUES[queue].parse().unwrap(),
            priority: Priority::ALL[lane - 1],
            start,
            payload: "{}".into(),
            options: JobOptions {
                deadline: times.deadline_ms.map(Duration::from_millis),
                start_within: times.start_within_ms.map(Duration::from_millis),
                group: group.map(|group| GROUPS[group].name.parse().unwrap()),
                unique: unique.map(|it| {
                    let unique = Unique::by_payload().until(it.until).on_conflict(it.on_conflict);
                    unique.max_wait(max_wait)
                }),
                ..options()
            },
            retention: None,
            idempotency: None,
            durability: Durability::MEMORY,
            webhook: None,
            indexes: labels_of(labels).map(index).collect(),
            lock: unique.map(|unique| lock_id(queue, unique.lock)),
            schedule: None,
        };
        self.submitted += count;
        let first = self.submitted - count;
        self.last_batch = (first..first + count).map(new_job).collect();
        self.last_job = Some(new);
        self.submit().await
    }

    async fn enqueue_again(&mut self) -> Check {
        self.submit().await
    }

    /// Submits the last batch.
    async fn submit(&mut self) -> Check {
        let Some(new) = self.last_job.clone() else { return Ok(()) };
        let answers = self.broker.enqueue(&self.last_batch).await;
        for (job, answer) in self.last_batch.iter().zip(answers) {
            let answer = answer.map_err(text)?;
            let expected = match self.model.jobs.contains_key(&job.id) {
                true => Err(Enqueued::AlreadyCreated(job.id)),
                false => self.model.enqueue(job.id, &new),
            };
            match expected {
                Err(expected) => ensure_equal("the answer", &answer, &expected)?,
                Ok(()) => {
                    let created = matches!(answer, Enqueued::Created(_));
                    ensure_equal("created", &created, &true)?;
                    self.ids.push(job.id);
                }
            }
        }
        Ok(())
    }

    async fn exchange(&mut self, worker: usize, settle: &[(usize, Ending)], want: usize) -> Check {
        let order = if worker == 0 { [0, 1, 2] } else { [2, 1, 0] };
        let (settlements, endings) = take_settlements(&mut self.workers[worker].held, settle);
        let can_run = CAN_RUN[worker];
        let tasks: Vec<TaskName> =
            can_run.iter().map(|&task| TASKS[task].parse().unwrap()).collect();

        let worker = &mut self.workers[worker];
        worker.number += 1;
        let exchange = Exchange {
            worker: worker.id,
            number: worker.number,
            lease: Duration::from_millis(LEASE_MS),
            tasks: tasks.iter().collect(),
            queues: order.map(|queue| QUEUES[queue].parse().unwrap()).to_vec(),
            settlements,
            want,
            busy: worker.held.len(),
        };

        let exchanged =
            self.broker.exchange(Partition::default(), &exchange).await.map_err(text)?;
        let model = &mut self.model;
        model.register(worker.id);
        let settled = exchange.settlements.iter().zip(&endings).map(|(settlement, &ending)| {
            let key = settlement.key();
            model.settle(worker.id, key.id, key.epoch.number(), ending)
        });
        ensure_equal("settled", &exchanged.settled, &settled.collect())?;

        model.free_locks();
        let call = (worker.number, can_run);
        let (claims, reserved) =
            model.promote_and_claim(worker.id, call, &order, (want, worker.held.len()));
        model.free_locks();
        ensure_equal("reserved", &exchanged.reserved, &reserved)?;
        ensure_equal("claims", &claimed_jobs(&exchanged.claims), &claims)?;
        worker.held.extend(exchanged.claims.into_iter().map(|claim| claim.lease));
        worker.last_exchange = Some((exchange, endings, claims));
        Ok(())
    }

    async fn exchange_again(&mut self, worker: usize) -> Check {
        let worker = &mut self.workers[worker];
        let Some((exchange, endings, claims)) = &worker.last_exchange else {
            return Ok(());
        };
        let exchanged = self.broker.exchange(Partition::default(), exchange).await.map_err(text)?;

        // The worker may have been removed from the index meanwhile.
        self.model.register(worker.id);
        for ((settlement, &ending), settled) in
            exchange.settlements.iter().zip(endings).zip(&exchanged.settled)
        {
            let key = settlement.key();
            ensure_equal(
                "settled again",
                settled,
                &self.model.settle(worker.id, key.id, key.epoch.number(), ending),
            )?;
        }
        ensure_equal(
            "claims again",
            &claimed_jobs(&exchanged.claims),
            &self.model.still_held(worker.id, claims),
        )?;
        Ok(())
    }

    async fn heartbeat(&mut self, worker: usize, skip: usize) -> Check {
        let worker = &mut self.workers[worker];
        let leases: Vec<_> = worker.held.iter().map(Lease::key).skip(skip).collect();
        let info = info();
        let heartbeat = Heartbeat {
            worker: worker.id,
            lease: Duration::from_millis(LEASE_MS),
            info: &info,
            busy: leases.len(),
            leases: &leases,
            quiet_at: None,
            counts: None,
        };
        let answer = self.broker.heartbeat(Partition::default(), &heartbeat).await.map_err(text)?;
        let named: Vec<_> = leases.iter().map(|key| (key.id, key.epoch.number())).collect();
        ensure_equal("verdicts", &answer.verdicts, &self.model.heartbeat(worker.id, &named))
    }

    async fn reclaim(&mut self, worker: usize) -> Check {
        let successor = self.new_worker();
        let dead = std::mem::replace(&mut self.workers[worker], successor);
        let reclaimed = self.broker.reclaim(dead.id).await.map_err(text)?;
        ensure_equal("reclaimed", &reclaimed, &self.model.reclaim(dead.id))
    }

    async fn report(&mut self, worker: usize, lease: usize) -> Check {
        let worker = &self.workers[worker];
        if worker.held.is_empty() {
            return Ok(());
        }
        let key = worker.held[lease % worker.held.len()].key();
        // Always the first report of the attempt, so that later ones are repeats, which are written once.
        let progress = Some((1, Progress { fraction: 0.5, message: "half".to_owned() }));
        let report = Report { lease: key, progress, first_line: 1, log: vec!["a line".to_owned()] };
        let outcomes = self.broker.report(Partition::default(), worker.id, &[report], false).await;
        ensure_equal(
            "reported",
            &outcomes.map_err(text)?,
            &vec![self.model.report(worker.id, key.id, key.epoch.number())],
        )
    }

    async fn on_job(&mut self, job: usize, verb: Verb) -> Check {
        if self.ids.is_empty() {
            return Ok(());
        }
        let id = self.ids[job % self.ids.len()];
        match verb {
            Verb::Cancel => {
                self.model.cancel(id);
                self.broker.cancel(id).await.map(|_| ()).map_err(text)
            }
            Verb::Retry => {
                self.model.retry(id);
                self.broker.retry(id).await.map(|_| ()).map_err(text)
            }
            Verb::Delete => {
                self.model.delete(id);
                self.broker.delete(id).await.map(|_| ()).map_err(text)
            }
        }
    }
}

enum Verb {
    Cancel,
    Retry,
    Delete,
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn text(error: crunch_common::broker::Error) -> String {
    error.to_string()
}

fn ensure_equal<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Check {
    if actual == expected {
        Ok(())
    } else {
        Err(format!("{what}: is\n{actual:#?}\nbut should be\n{expected:#?}"))
    }
}

fn claimed_jobs(claims: &[crunch_common::broker::Claim]) -> Vec<ClaimedJob> {
    claims.iter().map(|claim| (claim.job.id, claim.job.epoch.number(), claim.job.attempt)).collect()
}

/// Takes leases out of those held, and makes settlements of them.
fn take_settlements(
    held: &mut Vec<Lease>,
    settle: &[(usize, Ending)],
) -> (Vec<Settlement>, Vec<Ending>) {
    let mut settlements = (Vec::new(), Vec::new());
    for &(which, ending) in settle {
        if held.is_empty() {
            break;
        }
        let lease = held.remove(which % held.len());
        settlements.0.push(settlement(lease, ending));
        settlements.1.push(ending);
    }
    settlements
}

fn settlement(lease: Lease, ending: Ending) -> Settlement {
    let key = lease.key();
    let error = || JobError::retryable(ErrorCode::task_failed(), "simulated");
    match ending {
        Ending::Complete => lease.complete(Payload::json(result_of(key.id, key.epoch.number()))),
        Ending::Retry { delay_ms } => lease.retry(error(), Duration::from_millis(delay_ms)),
        Ending::Fail => lease.fail(error()),
        Ending::Cancel => lease.cancel(error()),
        Ending::Release => lease.release(ReleaseCause::Worker),
        Ending::Unroutable => lease.release(ReleaseCause::Unroutable),
        Ending::Machine => lease.release(ReleaseCause::Machine("simulated".to_owned())),
        Ending::Snooze { delay_ms } => lease.snooze(Duration::from_millis(delay_ms)),
    }
}
