//! The jobs and queues in Redis at one moment, and the invariants that hold at every moment.

mod groups;

use std::collections::{BTreeMap, BTreeSet};

use crunch_common::job::{JobId, Status};
use redis::aio::MultiplexedConnection;

use self::groups::Groups;
pub(crate) use self::groups::set_rules;
use super::driver::{CLOCK, index};
use super::model::{LANES, Model};
use super::operation::{LABELS, LOCKS, QUEUES, SHARED_NAME, TASKS, labels_of, lock_id};

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Snapshot {
    pub(crate) jobs: BTreeMap<JobId, JobSnapshot>,
    pub(crate) queues: Vec<QueueSnapshot>,
    /// The newest jobs, the newest first.
    recent: Vec<JobId>,
    /// Error groups by queue, task and code.
    errors: BTreeMap<[String; 3], ErrorGroupSnapshot>,
    /// The holder of each lock and its follower, by queue and number.
    locks: BTreeMap<(usize, usize), (JobId, Option<JobId>)>,
    /// The jobs in the index of each label.
    indexes: [BTreeSet<JobId>; LABELS.len()],
    /// The theoretical arrival times of the limits that queues share.
    shared_rates: BTreeMap<String, f64>,
    /// Queues with jobs that no call would find, because an index lacks the queue or one of its lanes.
    unlisted: Vec<&'static str>,
    /// Queues whose failed jobs or ghosts no metric would show.
    unseen: Vec<&'static str>,
    /// Queues where a lease expires, a job is due or a deadline passes before a sweep would visit them.
    visited_late: Vec<&'static str>,
    /// Queues that only one of the two indexes, by last use and by name, contains.
    in_one_index: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JobSnapshot {
    pub(crate) status: Option<Status>,
    pub(crate) attempt: u32,
    pub(crate) losses: u32,
    pub(crate) epoch: u64,
    pub(crate) worker: Option<String>,
    pub(crate) cancel_requested: bool,
    pub(crate) generation: u64,
    pub(crate) snoozes: u64,
    pub(crate) start_by: Option<u64>,
    pub(crate) result: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct ErrorGroupSnapshot {
    failures: u64,
    /// The jobs that failed for good.
    jobs: BTreeSet<JobId>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct QueueSnapshot {
    /// The ids in each lane of `LANE_NAMES`, the oldest first, with ghosts.
    pub(crate) lanes: Vec<Vec<JobId>>,
    pub(crate) ghosts: BTreeSet<JobId>,
    pub(crate) delayed: BTreeMap<JobId, u64>,
    pub(crate) running: BTreeMap<JobId, u64>,
    pub(crate) deadlines: BTreeMap<JobId, u64>,
    pub(crate) failed: BTreeSet<JobId>,
    pub(crate) finished: BTreeSet<JobId>,
    pub(crate) groups: Groups,
}

const LANE_NAMES: [&str; LANES] =
    ["solitary", "urgent", "high", "normal", "low", "task:other", "task:simulated"];
/// The first lane of parked jobs.
const PARKED: usize = 5;
/// The lane that every claim reads.
const NORMAL: usize = 3;

/// The time between sweeps: a queue that is due may wait that long for the next one.
const SWEEP_INTERVAL_MS: f64 = 1000.0;

/// The result that a job must have: it contains the epoch of the claim that produced it.
pub(crate) fn result_of(id: JobId, epoch: u64) -> String {
    format!("\"{id}:{epoch}\"")
}

/// The members of a sorted set of the partition.
async fn members(redis: &mut MultiplexedConnection, prefix: &str, name: &str) -> BTreeSet<String> {
    let mut command = redis::cmd("ZRANGE");
    command.arg(format!("{prefix}:{{0}}:{name}")).arg(0).arg(-1).query_async(redis).await.unwrap()
}

impl Snapshot {
    /// Reads Redis with plain commands, so that no function under test can hide an error.
    pub(crate) async fn read(
        redis: &mut MultiplexedConnection,
        prefix: &str,
        ids: &[JobId],
    ) -> Self {
        let mut snapshot = Self::default();
        let mut pipe = redis::pipe();
        // So that the pipeline is not empty before the first job.
        pipe.cmd("PING").ignore();
        for id in ids {
            pipe.cmd("HGETALL").arg(format!("{prefix}:{{0}}:job:{id}"));
        }
        let hashes: Vec<BTreeMap<String, String>> = pipe.query_async(redis).await.unwrap();
        for (&id, hash) in ids.iter().zip(&hashes) {
            snapshot.jobs.insert(id, JobSnapshot::read(hash));
        }

        let by_use = members(redis, prefix, "queues").await;
        let by_name = members(redis, prefix, "queues:names").await;
        snapshot.in_one_index = by_use.symmetric_difference(&by_name).cloned().collect();

        let side_queues = format!("{prefix}:{{0}}:queues:side");
        let side_queues: BTreeSet<String> =
            redis::cmd("SMEMBERS").arg(side_queues).query_async(redis).await.unwrap();
        let ended_queues = format!("{prefix}:{{0}}:queues:ended");
        let ended_queues: BTreeSet<String> =
            redis::cmd("SMEMBERS").arg(ended_queues).query_async(redis).await.unwrap();
        let due = format!("{prefix}:{{0}}:due");
        let due: BTreeMap<String, f64> = redis::cmd("ZRANGE")
            .arg(due)
            .arg(0)
            .arg(-1)
            .arg("WITHSCORES")
            .query_async(redis)
            .await
            .unwrap();
        let now: f64 = redis::cmd("GET").arg(CLOCK).query_async(redis).await.unwrap();

        for queue in QUEUES {
            let queue_snapshot =
                QueueSnapshot::read(redis, &format!("{prefix}:{{0}}:queue:{queue}")).await;
            let parked = format!("{prefix}:{{0}}:queue:{queue}:parked");
            let parked: BTreeSet<String> =
                redis::cmd("SMEMBERS").arg(parked).query_async(redis).await.unwrap();
            if queue_snapshot.has_side_jobs() && !side_queues.contains(queue)
                || !queue_snapshot.parked_lanes_are_listed(&parked)
            {
                snapshot.unlisted.push(queue);
            }
            let has_ended = !queue_snapshot.failed.is_empty() || !queue_snapshot.ghosts.is_empty();
            if has_ended && !ended_queues.contains(queue) {
                snapshot.unseen.push(queue);
            }
            let next_visit = due.get(queue).copied().unwrap_or(f64::INFINITY);
            if queue_snapshot
                .first_due()
                .is_some_and(|first| next_visit > (first as f64).max(now + SWEEP_INTERVAL_MS))
            {
                snapshot.visited_late.push(queue);
            }
            snapshot.queues.push(queue_snapshot);
        }
        let recent = format!("{prefix}:{{0}}:recent");
        let recent: Vec<String> =
            redis::cmd("LRANGE").arg(recent).arg(0).arg(-1).query_async(redis).await.unwrap();
        snapshot.recent = recent.iter().map(|id| id.parse().unwrap()).collect();
        snapshot.errors = read_error_groups(redis, &format!("{prefix}:{{0}}:error")).await;
        for label in 0..LABELS.len() {
            let ids = members(redis, prefix, &format!("index:{}", index(label))).await;
            snapshot.indexes[label] = ids.iter().map(|id| id.parse().unwrap()).collect();
        }
        snapshot.locks = read_locks(redis, &format!("{prefix}:{{0}}:lock")).await;
        snapshot.shared_rates = groups::times(redis, &format!("{prefix}:{{0}}:limits:rates")).await;
        snapshot
    }

    /// What Redis should contain, by the model.
    pub(crate) fn of(model: &Model) -> Self {
        let jobs = model.jobs.iter().map(|(&id, job)| (id, JobSnapshot::of(id, job))).collect();
        let queues = (0..QUEUES.len()).map(|queue| QueueSnapshot::of(model, queue)).collect();
        let mut errors: BTreeMap<_, ErrorGroupSnapshot> = BTreeMap::new();
        let name = |queue, task, code: &str| -> [String; 3] {
            [QUEUES[queue], TASKS[task], code].map(str::to_owned)
        };
        for (&(queue, task, code), &failures) in &model.failures {
            errors.entry(name(queue, task, code)).or_default().failures = failures;
        }
        for (&id, job) in &model.jobs {
            if let Some(code) = job.failed_with.filter(|_| !job.deleted) {
                errors.entry(name(job.queue, job.task, code)).or_default().jobs.insert(id);
            }
        }
        let mut indexes: [BTreeSet<JobId>; LABELS.len()] = Default::default();
        for (&id, job) in model.jobs.iter().filter(|(_, job)| !job.deleted) {
            labels_of(job.labels).for_each(|label| {
                indexes[label].insert(id);
            });
        }
        let recent = model.recent.clone();
        let locks = model.locks.held.clone();
        let shared_rates = model
            .shared_arrival
            .map(|arrival| (SHARED_NAME.to_owned(), arrival))
            .into_iter()
            .collect();
        Self { jobs, queues, errors, indexes, locks, recent, shared_rates, ..Self::default() }
    }

    /// Invariant 3 of `ARCHITECTURE.md`: every live job is in exactly one of ready, delayed, running, and its hash
    /// agrees; a job that ended while it waited may be in ready as a ghost, once. Checks the key space alone, without
    /// the model.
    pub(crate) fn check_structure(&self) -> Result<(), String> {
        if !self.unlisted.is_empty() {
            return Err(format!(
                "{:?} are not listed as side queues, or lack tasks in their lists of parked tasks",
                self.unlisted
            ));
        }
        if !self.unseen.is_empty() {
            return Err(format!("{:?} are not listed as queues with ended jobs", self.unseen));
        }
        if !self.visited_late.is_empty() {
            return Err(format!("{:?} are not listed as due in time", self.visited_late));
        }
        if !self.in_one_index.is_empty() {
            return Err(format!(
                "{:?} are listed for sweeps or by name, not both",
                self.in_one_index
            ));
        }
        if let Some(queue) = self.queues.iter().find(|queue| !queue.groups.agree()) {
            return Err(format!("the groups disagree: {queue:#?}"));
        }
        for (id, job) in &self.jobs {
            let count = |places_in: fn(&QueueSnapshot, &JobId) -> usize| -> usize {
                self.queues.iter().map(|queue| places_in(queue, id)).sum()
            };
            let ready = count(|queue, id| {
                let grouped = usize::from(queue.groups.all.contains(id));
                grouped + queue.lanes.iter().flatten().filter(|other| *other == id).count()
            });
            let ghost = count(|queue, id| usize::from(queue.ghosts.contains(id)));
            let delayed = count(|queue, id| usize::from(queue.delayed.contains_key(id)));
            let running = count(|queue, id| usize::from(queue.running.contains_key(id)));
            let expected = match job.status {
                Some(Status::Queued) => (1, 0, 0, 0),
                Some(Status::Scheduled | Status::Retrying) => (0, 0, 1, 0),
                Some(Status::Running) => (0, 0, 0, 1),
                Some(Status::Succeeded) => (0, 0, 0, 0),
                // A ghost until a claim or a sweep drops it, even if the job is deleted meanwhile.
                Some(Status::Failed | Status::Canceled) | None => (ghost, ghost, 0, 0),
            };
            if (ready, ghost, delayed, running) != expected || ghost > 1 {
                return Err(format!(
                    "{id} is {:?} but is {ready}× in ready, {ghost}× as ghost, {delayed}× in delayed, {running}× in running",
                    job.status
                ));
            }
            if job.status == Some(Status::Succeeded)
                && job.result.as_deref() != Some(&result_of(*id, job.epoch))
            {
                return Err(format!("{id} has a result that is not from its last claim"));
            }
        }
        Ok(())
    }

    /// Invariant 2 of `ARCHITECTURE.md`: between two snapshots no ended generation ends again, epochs and generations
    /// never decrease, and a generation increases by one at most.
    pub(crate) fn check_step_from(&self, before: &Self) -> Result<(), String> {
        for (id, old) in &before.jobs {
            let new = &self.jobs[id];
            let (Some(old_status), Some(new_status)) = (old.status, new.status) else {
                continue;
            };
            let same_generation = old.generation == new.generation;
            if same_generation && old_status.is_terminal() && old_status != new_status {
                return Err(format!(
                    "{id} ended as {old_status} and then became {new_status} without a new generation"
                ));
            }
            if new.epoch < old.epoch
                || new.generation < old.generation
                || new.generation > old.generation + 1
            {
                return Err(format!(
                    "{id} has a wrong epoch or generation: {old:?} became {new:?}"
                ));
            }
        }
        Ok(())
    }
}

impl JobSnapshot {
    fn read(hash: &BTreeMap<String, String>) -> Self {
        let number = |field: &str| hash.get(field).map_or(0, |text| text.parse().unwrap());
        // The words of `state`, in the order of `docs/redis-schema.md`; `-` for one that is absent.
        let state: Vec<_> = hash.get("state").iter().flat_map(|text| text.split(' ')).collect();
        let word = |at: usize| state.get(at).copied().filter(|&text| text != "-");
        Self {
            status: word(0).map(|status| status.parse().unwrap()),
            attempt: word(3).map_or(0, |attempt| attempt.parse().unwrap()),
            losses: u32::try_from(number("losses")).unwrap(),
            epoch: word(4).map_or(0, |epoch| epoch.parse().unwrap()),
            worker: word(5).map(str::to_owned),
            cancel_requested: hash.contains_key("cancel_requested"),
            generation: number("generation"),
            snoozes: number("snoozes"),
            start_by: hash.get("start_by").and_then(|text| text.split(' ').next()?.parse().ok()),
            result: hash.get("result").cloned(),
        }
    }

    fn of(id: JobId, job: &super::model::Job) -> Self {
        if job.deleted {
            return Self::read(&BTreeMap::new());
        }
        Self {
            status: Some(job.status),
            attempt: job.attempt,
            losses: job.losses,
            epoch: job.epoch,
            worker: job.worker.map(|worker| worker.to_string()),
            cancel_requested: job.cancel_requested,
            generation: job.generation,
            snoozes: job.snoozes.into(),
            start_by: job.start_by,
            result: (job.status == Status::Succeeded).then(|| result_of(id, job.epoch)),
        }
    }
}

impl QueueSnapshot {
    /// When the first lease expires, the first delayed job is due or the first deadline passes.
    fn first_due(&self) -> Option<u64> {
        let times = self.running.values().chain(self.delayed.values());
        times.chain(self.deadlines.values()).copied().chain(self.groups.first_due()).min()
    }

    /// Whether `tasks` names every task that has parked jobs.
    fn parked_lanes_are_listed(&self, tasks: &BTreeSet<String>) -> bool {
        let parked = LANE_NAMES.iter().zip(&self.lanes).skip(PARKED);
        let is_listed =
            |name: &str| name.strip_prefix("task:").is_some_and(|task| tasks.contains(task));
        parked.filter(|(_, ids)| !ids.is_empty()).all(|(name, _)| is_listed(name))
    }

    /// Whether a job is outside the normal lane: delayed, or in another lane.
    fn has_side_jobs(&self) -> bool {
        let mut side_lanes = self.lanes.iter().enumerate().filter(|&(lane, _)| lane != NORMAL);
        let in_lanes = side_lanes.any(|(_, ids)| !ids.is_empty());
        !self.delayed.is_empty() || !self.groups.all.is_empty() || in_lanes
    }

    async fn read(redis: &mut MultiplexedConnection, key: &str) -> Self {
        let mut pipe = redis::pipe();
        for lane in LANE_NAMES {
            pipe.cmd("LRANGE").arg(format!("{key}:ready:{lane}")).arg(0).arg(-1);
        }
        let lanes: Vec<Vec<String>> = pipe.query_async(redis).await.unwrap();
        let oldest_first =
            |lane: Vec<String>| lane.iter().rev().map(|id| id.parse().unwrap()).collect();
        let ghosts: Vec<String> =
            redis::cmd("SMEMBERS").arg(format!("{key}:ghosts")).query_async(redis).await.unwrap();
        let delayed = scores(redis, &format!("{key}:delayed")).await;
        let running = scores(redis, &format!("{key}:running")).await;
        let deadlines = scores(redis, &format!("{key}:deadlines")).await;
        Self {
            lanes: lanes.into_iter().map(oldest_first).collect(),
            ghosts: ghosts.iter().map(|id| id.parse().unwrap()).collect(),
            delayed,
            running,
            deadlines,
            failed: scores(redis, &format!("{key}:failed")).await.into_keys().collect(),
            finished: scores(redis, &format!("{key}:finished")).await.into_keys().collect(),
            groups: Groups::read(redis, key).await,
        }
    }

    fn of(model: &Model, queue: usize) -> Self {
        let jobs = || model.jobs.iter().filter(move |(_, job)| job.queue == queue && !job.deleted);
        let with_status =
            |statuses: &'static [Status]| jobs().filter(|(_, job)| statuses.contains(&job.status));
        let expected = &model.queues[queue];
        Self {
            lanes: expected.lanes.iter().map(|lane| lane.iter().copied().collect()).collect(),
            ghosts: expected.ghosts.clone(),
            delayed: with_status(&[Status::Scheduled, Status::Retrying])
                .map(|(&id, job)| (id, job.due))
                .collect(),
            running: with_status(&[Status::Running])
                .map(|(&id, job)| (id, job.lease_end))
                .collect(),
            deadlines: jobs().filter_map(|(&id, job)| Some((id, job.overdue_at?))).collect(),
            failed: with_status(&[Status::Failed]).map(|(&id, _)| id).collect(),
            finished: jobs()
                .filter(|(_, job)| job.status.is_terminal())
                .map(|(&id, _)| id)
                .collect(),
            groups: Groups::of(&expected.groups),
        }
    }
}

async fn read_locks(
    redis: &mut MultiplexedConnection,
    key: &str,
) -> BTreeMap<(usize, usize), (JobId, Option<JobId>)> {
    let mut locks = BTreeMap::new();
    for lock in (0..QUEUES.len()).flat_map(|queue| (0..LOCKS).map(move |lock| (queue, lock))) {
        let key = format!("{key}:{}", lock_id(lock.0, lock.1));
        let value: Option<String> = redis::cmd("GET").arg(key).query_async(redis).await.unwrap();
        if let Some(value) = value {
            let mut ids = value.split(' ').map(|id| id.parse().unwrap());
            locks.insert(lock, (ids.next().unwrap(), ids.next()));
        }
    }
    locks
}

/// Reads the error groups that the index lists.
async fn read_error_groups(
    redis: &mut MultiplexedConnection,
    key: &str,
) -> BTreeMap<[String; 3], ErrorGroupSnapshot> {
    let ids: Vec<String> = redis::cmd("ZRANGE")
        .arg(format!("{key}s"))
        .arg(0)
        .arg(-1)
        .query_async(redis)
        .await
        .unwrap();
    let mut groups = BTreeMap::new();
    for id in ids {
        let hash: BTreeMap<String, String> =
            redis::cmd("HGETALL").arg(format!("{key}:{id}")).query_async(redis).await.unwrap();
        let error: serde_json::Value = serde_json::from_str(&hash["error"]).unwrap();
        let name = [&hash["queue"], &hash["task"], error["code"].as_str().unwrap()];
        let jobs = scores(redis, &format!("{key}:{id}:jobs")).await.into_keys().collect();
        // Errors with different messages may have the same code.
        let group: &mut ErrorGroupSnapshot = groups.entry(name.map(String::from)).or_default();
        group.failures += hash["failures"].parse::<u64>().unwrap();
        group.jobs.extend::<Vec<_>>(jobs);
    }
    groups
}

/// The ids in a sorted set, with their scores; those of `finished` are several in each member.
async fn scores(redis: &mut MultiplexedConnection, key: &str) -> BTreeMap<JobId, u64> {
    let pairs: Vec<(String, f64)> = redis::cmd("ZRANGE")
        .arg(key)
        .arg(0)
        .arg(-1)
        .arg("WITHSCORES")
        .query_async(redis)
        .await
        .unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "scores are whole milliseconds"
    )]
    let ids = |(ids, score): (String, f64)| -> Vec<(JobId, u64)> {
        ids.split(' ').map(|id| (id.parse().unwrap(), score as u64)).collect()
    };
    pairs.into_iter().flat_map(ids).collect()
}
