//! The whole key space at one moment, and what must be true of it at every moment.

use std::collections::{BTreeMap, BTreeSet};

use crunch_common::job::{JobId, Status};
use redis::aio::MultiplexedConnection;

use super::driver::CLOCK;
use super::model::{LANES, Model};
use super::operation::QUEUES;

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Snapshot {
    pub(crate) jobs: BTreeMap<JobId, SeenJob>,
    pub(crate) queues: Vec<SeenQueue>,
    /// Queues where jobs stand that nobody would look for there.
    overlooked: Vec<&'static str>,
    /// Queues where a lease ends, or a job is due, before a sweep would come.
    late: Vec<&'static str>,
    /// Queues that only one of both indexes has.
    listed_once: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SeenJob {
    pub(crate) status: Option<Status>,
    pub(crate) attempt: u32,
    pub(crate) losses: u32,
    pub(crate) epoch: u64,
    pub(crate) worker: Option<String>,
    pub(crate) cancel_requested: bool,
    pub(crate) generation: u64,
    pub(crate) result: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct SeenQueue {
    /// The oldest in front, ghosts among them.
    pub(crate) lanes: Vec<Vec<JobId>>,
    pub(crate) ghosts: BTreeSet<JobId>,
    pub(crate) delayed: BTreeMap<JobId, u64>,
    pub(crate) running: BTreeMap<JobId, u64>,
    pub(crate) deadlines: BTreeMap<JobId, u64>,
    pub(crate) failed: BTreeSet<JobId>,
    pub(crate) finished: BTreeSet<JobId>,
}

const LANE_NAMES: [&str; LANES] =
    ["solitary", "urgent", "high", "normal", "low", "task:other", "task:simulated"];
/// The first lane of parked jobs.
const PARKED: usize = 5;
/// The lane where everybody looks.
const NORMAL: usize = 3;

/// What a sweep has left undone the next one looks at.
const SWEPT_EVERY_MS: f64 = 1000.0;

/// What the result of a job must be: it names the attempt that made it.
pub(crate) fn result_of(id: JobId, epoch: u64) -> String {
    format!("\"{id}:{epoch}\"")
}

async fn members(redis: &mut MultiplexedConnection, prefix: &str, tail: &str) -> BTreeSet<String> {
    let mut ask = redis::cmd("ZRANGE");
    ask.arg(format!("{prefix}:{{0}}:{tail}")).arg(0).arg(-1).query_async(redis).await.unwrap()
}

impl Snapshot {
    /// Reads everything with plain commands: no function of ours stands between the test and the truth.
    pub(crate) async fn read(
        redis: &mut MultiplexedConnection,
        prefix: &str,
        ids: &[JobId],
    ) -> Self {
        let mut snapshot = Self::default();
        let mut ask = redis::pipe();
        ask.cmd("PING").ignore();
        for id in ids {
            ask.cmd("HGETALL").arg(format!("{prefix}:{{0}}:job:{id}"));
        }
        let hashes: Vec<BTreeMap<String, String>> = ask.query_async(redis).await.unwrap();
        for (&id, hash) in ids.iter().zip(&hashes) {
            snapshot.jobs.insert(id, SeenJob::read(hash));
        }
        let used = members(redis, prefix, "queues").await;
        let named = members(redis, prefix, "queues:names").await;
        snapshot.listed_once = used.symmetric_difference(&named).cloned().collect();
        let side_queues = format!("{prefix}:{{0}}:unusual");
        let side_queues: BTreeSet<String> =
            redis::cmd("SMEMBERS").arg(side_queues).query_async(redis).await.unwrap();
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
            let seen = SeenQueue::read(redis, &format!("{prefix}:{{0}}:queue:{queue}")).await;
            let parked = format!("{prefix}:{{0}}:queue:{queue}:parked");
            let parked: BTreeSet<String> =
                redis::cmd("SMEMBERS").arg(parked).query_async(redis).await.unwrap();
            if seen.has_side_jobs() && !side_queues.contains(queue) || !seen.are_named(&parked) {
                snapshot.overlooked.push(queue);
            }
            let comes = due.get(queue).copied().unwrap_or(f64::INFINITY);
            if seen
                .first_due()
                .is_some_and(|first| comes > (first as f64).max(now + SWEPT_EVERY_MS))
            {
                snapshot.late.push(queue);
            }
            snapshot.queues.push(seen);
        }
        snapshot
    }

    pub(crate) fn of(model: &Model) -> Self {
        let jobs = model.jobs.iter().map(|(&id, job)| (id, SeenJob::of(id, job))).collect();
        let queues = (0..QUEUES.len()).map(|queue| SeenQueue::of(model, queue)).collect();
        Self { jobs, queues, ..Self::default() }
    }

    /// Invariant 3: every live job stands in exactly one of ready, delayed, running, and its hash agrees; a canceled one
    /// may stand in ready as a ghost, once. Told by the key space alone, without the model.
    pub(crate) fn check_structure(&self) -> Result<(), String> {
        if !self.overlooked.is_empty() {
            return Err(format!(
                "{:?} are not listed as side_queues, or tasks of parked jobs not named",
                self.overlooked
            ));
        }
        if !self.late.is_empty() {
            return Err(format!("{:?} are not listed as due in time", self.late));
        }
        if !self.listed_once.is_empty() {
            return Err(format!(
                "{:?} are listed for sweeps or by name, not both",
                self.listed_once
            ));
        }
        for (id, job) in &self.jobs {
            let count = |places: fn(&SeenQueue, &JobId) -> usize| -> usize {
                self.queues.iter().map(|queue| places(queue, id)).sum()
            };
            let ready = count(|queue, id| {
                queue.lanes.iter().flatten().filter(|other| *other == id).count()
            });
            let ghost = count(|queue, id| usize::from(queue.ghosts.contains(id)));
            let delayed = count(|queue, id| usize::from(queue.delayed.contains_key(id)));
            let running = count(|queue, id| usize::from(queue.running.contains_key(id)));
            let expected = match job.status {
                Some(Status::Queued) => (1, 0, 0, 0),
                Some(Status::Scheduled | Status::Retrying) => (0, 0, 1, 0),
                Some(Status::Running) => (0, 0, 0, 1),
                Some(Status::Succeeded) => (0, 0, 0, 0),
                // A ghost until a claim or a sweep drops it; its tombstone may outlive it there.
                Some(Status::Failed | Status::Canceled) | None => (ghost, ghost, 0, 0),
            };
            if (ready, ghost, delayed, running) != expected || ghost > 1 {
                return Err(format!(
                    "{id} is {:?} but stands {ready}× in ready, {ghost}× as ghost, {delayed}× in delayed, {running}× in running",
                    job.status
                ));
            }
            if job.status == Some(Status::Succeeded)
                && job.result.as_deref() != Some(&result_of(*id, job.epoch))
            {
                return Err(format!("{id} holds a result that is not its last claim's"));
            }
        }
        Ok(())
    }

    /// Invariant 2: between two moments no ended generation ends again, and epochs, generations and attempts move as
    /// they may.
    pub(crate) fn check_step_from(&self, before: &Self) -> Result<(), String> {
        for (id, old) in &before.jobs {
            let new = &self.jobs[id];
            let (Some(was), Some(is)) = (old.status, new.status) else {
                continue;
            };
            let same_life = old.generation == new.generation;
            if same_life && was.is_terminal() && was != is {
                return Err(format!(
                    "{id} ended as {was} and then became {is} without a new generation"
                ));
            }
            if new.epoch < old.epoch
                || new.generation < old.generation
                || new.generation > old.generation + 1
            {
                return Err(format!("{id} went back: {old:?} to {new:?}"));
            }
        }
        Ok(())
    }
}

impl SeenJob {
    fn read(hash: &BTreeMap<String, String>) -> Self {
        let number = |field: &str| hash.get(field).map_or(0, |text| text.parse().unwrap());
        let state: Vec<_> = hash.get("state").iter().flat_map(|text| text.split(' ')).collect();
        let word = |at: usize| state.get(at).copied().filter(|&word| word != "-");
        Self {
            status: word(0).map(|status| status.parse().unwrap()),
            attempt: word(3).map_or(0, |attempt| attempt.parse().unwrap()),
            losses: u32::try_from(number("losses")).unwrap(),
            epoch: word(4).map_or(0, |epoch| epoch.parse().unwrap()),
            worker: word(5).map(str::to_owned),
            cancel_requested: hash.contains_key("cancel_requested"),
            generation: number("generation"),
            result: hash.get("result").cloned(),
        }
    }

    fn of(id: JobId, job: &super::model::Job) -> Self {
        if job.gone {
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
            result: (job.status == Status::Succeeded).then(|| result_of(id, job.epoch)),
        }
    }
}

impl SeenQueue {
    /// When the first lease ends, the first delayed job is due or the first deadline passes.
    fn first_due(&self) -> Option<u64> {
        let times = self.running.values().chain(self.delayed.values());
        times.chain(self.deadlines.values()).min().copied()
    }

    /// Whether these tasks are all of which jobs are parked.
    fn are_named(&self, tasks: &BTreeSet<String>) -> bool {
        let parked = LANE_NAMES.iter().zip(&self.lanes).skip(PARKED);
        let named =
            |name: &str| name.strip_prefix("task:").is_some_and(|task| tasks.contains(task));
        parked.filter(|(_, ids)| !ids.is_empty()).all(|(name, _)| named(name))
    }

    fn has_side_jobs(&self) -> bool {
        let mut others = self.lanes.iter().enumerate().filter(|&(lane, _)| lane != NORMAL);
        !self.delayed.is_empty() || others.any(|(_, ids)| !ids.is_empty())
    }

    async fn read(redis: &mut MultiplexedConnection, root: &str) -> Self {
        let mut ask = redis::pipe();
        for lane in LANE_NAMES {
            ask.cmd("LRANGE").arg(format!("{root}:ready:{lane}")).arg(0).arg(-1);
        }
        let lanes: Vec<Vec<String>> = ask.query_async(redis).await.unwrap();
        let newest_first =
            |lane: Vec<String>| lane.iter().rev().map(|id| id.parse().unwrap()).collect();
        let ghosts: Vec<String> =
            redis::cmd("SMEMBERS").arg(format!("{root}:ghosts")).query_async(redis).await.unwrap();
        let delayed = scores(redis, &format!("{root}:delayed")).await;
        let running = scores(redis, &format!("{root}:running")).await;
        let deadlines = scores(redis, &format!("{root}:deadlines")).await;
        Self {
            lanes: lanes.into_iter().map(newest_first).collect(),
            ghosts: ghosts.iter().map(|id| id.parse().unwrap()).collect(),
            delayed,
            running,
            deadlines,
            failed: scores(redis, &format!("{root}:failed")).await.into_keys().collect(),
            finished: scores(redis, &format!("{root}:finished")).await.into_keys().collect(),
        }
    }

    fn of(model: &Model, queue: usize) -> Self {
        let jobs = || model.jobs.iter().filter(move |(_, job)| job.queue == queue && !job.gone);
        let that_are =
            |statuses: &'static [Status]| jobs().filter(|(_, job)| statuses.contains(&job.status));
        let source = &model.queues[queue];
        Self {
            lanes: source.lanes.iter().map(|lane| lane.iter().copied().collect()).collect(),
            ghosts: source.ghosts.clone(),
            delayed: that_are(&[Status::Scheduled, Status::Retrying])
                .map(|(&id, job)| (id, job.due))
                .collect(),
            running: that_are(&[Status::Running]).map(|(&id, job)| (id, job.lease_end)).collect(),
            deadlines: jobs().filter_map(|(&id, job)| Some((id, job.overdue_at?))).collect(),
            failed: that_are(&[Status::Failed]).map(|(&id, _)| id).collect(),
            finished: jobs()
                .filter(|(_, job)| job.status.is_terminal())
                .map(|(&id, _)| id)
                .collect(),
        }
    }
}

async fn scores(redis: &mut MultiplexedConnection, name: &str) -> BTreeMap<JobId, u64> {
    let pairs: Vec<(String, f64)> = redis::cmd("ZRANGE")
        .arg(name)
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
    pairs.into_iter().map(|(id, score)| (id.parse().unwrap(), score as u64)).collect()
}
