//! The key space as it should be: the same verbs on plain values, written from the documentation, not from the Lua.

mod claims;
pub(crate) mod groups;
mod locks;
mod operators;
mod sweeps;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crunch_common::broker::{Enqueued, Reclaimed, Reported, Settled, Verdict, WorkerId};
use crunch_common::job::{JobId, Status};

use self::locks::Locks;
use super::operation::{Ending, LEASE_MS, QUEUES, TASKS, Times, Unique};

/// The lane of solitary jobs, then urgent, high, normal, low, then the lanes of parked jobs, one per task.
pub(crate) const LANES: usize = 5 + TASKS.len();
const SOLITARY: usize = 0;
const PARKED: usize = 5;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Job {
    pub(crate) queue: usize,
    pub(crate) task: usize,
    pub(crate) lane: usize,
    /// A worker without its task released it.
    pub(crate) parked: bool,
    pub(crate) deadline: Option<u64>,
    /// How long each generation has to start; and until when it has, unless it has started.
    start_within: Option<u64>,
    pub(crate) start_by: Option<u64>,
    /// How often its handler put it off.
    pub(crate) snoozes: u32,
    /// When a sweep next checks whether it waited too long.
    pub(crate) overdue_at: Option<u64>,
    pub(crate) status: Status,
    pub(crate) attempt: u32,
    pub(crate) losses: u32,
    pub(crate) epoch: u64,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) cancel_requested: bool,
    pub(crate) generation: u64,
    pub(crate) lease_end: u64,
    pub(crate) due: u64,
    pub(crate) started_at: u64,
    pub(crate) settled_epoch: u64,
    pub(crate) failed_handovers: u32,
    /// How often it was released to be tried later.
    pub(crate) delays: u32,
    pub(crate) terminal_at: Option<u64>,
    /// The code of the error with which it failed.
    pub(crate) failed_with: Option<&'static str>,
    /// Its labels, as bits: the indexes that list it until it is deleted.
    pub(crate) labels: usize,
    /// The place of its group in `GROUPS`, and its number there.
    pub(crate) group: Option<(usize, u64)>,
    pub(crate) unique: Option<Unique>,
    /// It waits for the holder of its lock.
    follows: bool,
    created: u64,
    pub(crate) deleted: bool,
}

/// A job to submit.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    /// Its queue, task and lane.
    pub(crate) place: (usize, usize, usize),
    pub(crate) times: Times,
    pub(crate) labels: usize,
    pub(crate) group: Option<usize>,
    pub(crate) unique: Option<Unique>,
}

/// After this long a job is looked at that waits for the holder of its lock.
const FOLLOWER_LOOK_MS: u64 = 60_000;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Queue {
    /// The ids in the ready lists, the oldest first, with ghosts.
    pub(crate) lanes: [VecDeque<JobId>; LANES],
    pub(crate) ghosts: BTreeSet<JobId>,
    pub(crate) groups: groups::Groups,
    /// The lanes of parked jobs that calls read: each until a sweep finds it empty.
    listed_lanes: BTreeSet<usize>,
    pub(crate) paused: bool,
    /// Whether it had a job. No history is long enough for a known queue to be removed.
    pub(crate) is_known: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) queues: [Queue; QUEUES.len()],
    /// The newest jobs, the newest first; no history is long enough for it to be trimmed.
    pub(crate) recent: Vec<JobId>,
    /// Queue, task and code → how many attempts failed with that error.
    pub(crate) failures: BTreeMap<(usize, usize, &'static str), u64>,
    /// Worker → last heartbeat, as in its own record.
    heartbeats: BTreeMap<String, u64>,
    /// Worker → last heartbeat or first exchange, as in the index.
    index: BTreeMap<String, u64>,
    /// The worker that is reserved for a solitary job.
    reserved: Option<WorkerId>,
    /// Worker → its last solitary job, and the epoch of its claim.
    solitary_jobs: BTreeMap<String, (JobId, u64)>,
    last_sweep: Option<u64>,
    /// When the last round of sweeps began.
    round_began: Option<u64>,
    grace_until: u64,
    pub(crate) locks: Locks,
    /// The theoretical arrival time of the limit that queues share.
    pub(crate) shared_arrival: Option<f64>,
}

/// A claimed job: its id, epoch and attempt.
pub(crate) type ClaimedJob = (JobId, u64, u32);

impl Job {
    const fn is_solitary(&self) -> bool {
        self.losses >= 2 || self.failed_handovers >= 3
    }

    /// Until when it may wait, and whether it is canceled then, because it has not started, or fails.
    fn wait_limit(&self) -> Option<(u64, bool)> {
        match (self.start_by, self.deadline) {
            (Some(start_by), deadline) if deadline.is_none_or(|deadline| start_by < deadline) => {
                Some((start_by, true))
            }
            (_, deadline) => deadline.map(|deadline| (deadline, false)),
        }
    }

    /// A sweep looks at it then.
    fn list_limit(&mut self) {
        self.overdue_at = self.wait_limit().map(|(at, _)| at).or(self.overdue_at);
    }

    /// A job that did not start while a worker had it is looked at again, if it must start in time.
    fn list_again(&mut self) {
        if self.start_within.is_some() {
            self.list_limit();
        }
    }

    /// The group in which it waits when it is ready.
    fn waiting_group(&self) -> Option<(usize, u64)> {
        self.group.filter(|_| !self.is_solitary() && !self.parked)
    }
}

impl Model {
    pub(crate) fn new(now: u64) -> Self {
        Self { now, ..Self::default() }
    }

    /// What the submission of a job is answered with: a record or an id.
    pub(crate) fn enqueue(&mut self, id: JobId, new: &NewJob) -> Result<(), Enqueued> {
        let holder = self.conflict(id, new)?;
        let &NewJob { place: (queue, task, lane), times, labels, group, unique } = new;
        let due = holder.map_or(self.now + times.delay_ms, |_| self.now + FOLLOWER_LOOK_MS);
        let status = if due > self.now { Status::Scheduled } else { Status::Queued };
        let mut job = Job {
            unique,
            follows: holder.is_some(),
            created: self.now,
            queue,
            task,
            lane,
            parked: false,
            deadline: times.deadline_ms.map(|ms| self.now + ms),
            start_within: times.start_within_ms,
            start_by: times.start_within_ms.map(|ms| self.now + times.delay_ms + ms),
            snoozes: 0,
            overdue_at: None,
            status,
            attempt: 0,
            losses: 0,
            epoch: 0,
            worker: None,
            cancel_requested: false,
            generation: 0,
            lease_end: 0,
            due,
            started_at: 0,
            settled_epoch: 0,
            failed_handovers: 0,
            delays: 0,
            terminal_at: None,
            failed_with: None,
            labels,
            group: group.map(|group| (group, self.queues[queue].groups.number())),
            deleted: false,
        };
        job.list_limit();
        self.jobs.insert(id, job);
        self.recent.insert(0, id);
        self.queues[queue].is_known = true;
        self.lock(id, holder);
        if status == Status::Queued {
            self.make_ready(id, false);
        }
        Ok(())
    }

    fn job(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id).expect("the model has every job")
    }

    fn make_ready(&mut self, id: JobId, front: bool) {
        let job = self.job(id);
        job.status = Status::Queued;
        if let Some((group, number)) = job.waiting_group() {
            let (queue, lane) = (job.queue, job.lane);
            return self.queues[queue].groups.enter(group, (lane, number), id);
        }
        let lane = match job.parked {
            _ if job.is_solitary() => SOLITARY,
            true => PARKED + job.task,
            false => job.lane,
        };
        let queue = job.queue;
        if lane >= PARKED {
            self.queues[queue].listed_lanes.insert(lane);
        }
        let lane = &mut self.queues[queue].lanes[lane];
        if front { lane.push_front(id) } else { lane.push_back(id) }
    }

    fn end(&mut self, id: JobId, status: Status) {
        let now = self.now;
        let job = self.job(id);
        job.status = status;
        job.terminal_at = Some(now);
        job.overdue_at = None;
        self.free_at_end(id);
    }

    fn count_failure(&mut self, id: JobId, code: &'static str) {
        let job = self.job(id);
        let group = (job.queue, job.task, code);
        *self.failures.entry(group).or_default() += 1;
    }

    fn fail(&mut self, id: JobId, code: &'static str) {
        self.count_failure(id, code);
        self.job(id).failed_with = Some(code);
        self.end(id, Status::Failed);
    }

    pub(crate) fn settle(
        &mut self,
        worker: WorkerId,
        id: JobId,
        epoch: u64,
        ending: Ending,
    ) -> Settled {
        let now = self.now;
        let job = self.job(id);
        if job.deleted {
            return Settled::Unknown;
        }
        if job.settled_epoch == epoch {
            return Settled::Done;
        }
        if job.status != Status::Running || job.epoch != epoch || job.worker != Some(worker) {
            return Settled::Stale;
        }
        job.settled_epoch = epoch;
        self.stop(id);
        let job = self.job(id);
        match ending {
            Ending::Complete => self.end(id, Status::Succeeded),
            Ending::Fail => self.fail(id, "task_failed"),
            Ending::Cancel => self.end(id, Status::Canceled),
            _ if job.cancel_requested => self.end(id, Status::Canceled),
            Ending::Snooze { delay_ms } if job.deadline.is_some_and(|at| now + delay_ms >= at) => {
                self.fail(id, "deadline_exceeded");
            }
            Ending::Snooze { delay_ms } => {
                job.status = Status::Scheduled;
                job.attempt -= 1;
                job.due = now + delay_ms;
                job.snoozes += 1;
                job.start_by = None;
                job.parked = false;
            }
            Ending::Retry { delay_ms } => {
                job.status = Status::Retrying;
                job.start_by = None;
                job.due = now + delay_ms;
                self.count_failure(id, "task_failed");
            }
            Ending::Unroutable | Ending::Machine => {
                job.status = Status::Scheduled;
                job.list_again();
                job.attempt -= 1;
                job.due = now + (1000 << job.delays.min(10)).min(30_000);
                job.delays += 1;
                job.parked = matches!(ending, Ending::Unroutable) && !job.is_solitary();
                if job.parked {
                    self.make_ready(id, false);
                }
            }
            Ending::Release => {
                job.attempt -= 1;
                job.start_by = None;
                self.make_ready(id, true);
            }
        }
        Settled::Done
    }

    fn promote(&mut self, queue: usize) {
        let now = self.now;
        let is_delayed = |job: &Job| matches!(job.status, Status::Scheduled | Status::Retrying);
        let mut due: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.queue == queue && is_delayed(job) && job.due <= now)
            .collect();
        due.sort_by_key(|(id, job)| (job.due, **id));
        let ids: Vec<_> = due.into_iter().map(|(&id, _)| id).collect();
        for id in ids {
            let job = self.job(id);
            if job.status == Status::Scheduled && job.follows {
                job.due = now + FOLLOWER_LOOK_MS;
            } else {
                self.make_ready(id, false);
            }
        }
        self.queues[queue].groups.promote(now);
    }

    /// A job of a group runs no longer.
    fn stop(&mut self, id: JobId) {
        let job = &self.jobs[&id];
        if let Some((group, _)) = job.group {
            self.queues[job.queue].groups.stop(group, id);
        }
    }

    /// A worker is in the index from its first exchange on, even before its first heartbeat.
    pub(crate) fn register(&mut self, worker: WorkerId) {
        let now = self.now;
        self.index.entry(worker.to_string()).or_insert(now);
    }

    /// The claims of a repeated exchange: those that are still held.
    pub(crate) fn still_held(&self, worker: WorkerId, claims: &[ClaimedJob]) -> Vec<ClaimedJob> {
        claims.iter().filter(|(id, epoch, _)| self.holds(worker, *id, *epoch)).copied().collect()
    }

    fn holds(&self, worker: WorkerId, id: JobId, epoch: u64) -> bool {
        let job = &self.jobs[&id];
        !job.deleted
            && job.status == Status::Running
            && job.epoch == epoch
            && job.worker == Some(worker)
    }

    pub(crate) fn heartbeat(&mut self, worker: WorkerId, leases: &[(JobId, u64)]) -> Vec<Verdict> {
        let now = self.now;
        let mut verdicts = Vec::new();
        for &(id, epoch) in leases {
            let held = self.holds(worker, id, epoch);
            let job = self.job(id);
            if held {
                job.lease_end = now + LEASE_MS;
            }
            verdicts.push(match (held, job.cancel_requested) {
                (false, _) => Verdict::Lost,
                (true, false) => Verdict::Held,
                (true, true) => Verdict::Cancel,
            });
        }
        self.heartbeats.insert(worker.to_string(), now);
        self.index.insert(worker.to_string(), now);
        self.sweep();
        verdicts
    }

    pub(crate) fn report(&self, worker: WorkerId, id: JobId, epoch: u64) -> Reported {
        match self.holds(worker, id, epoch) {
            true => Reported::Confirmed,
            false => Reported::Stale,
        }
    }

    /// Requeues what a dead worker holds, whether or not its leases have expired.
    pub(crate) fn reclaim(&mut self, worker: WorkerId) -> Reclaimed {
        let held = self.running_jobs(|job| job.worker == Some(worker));
        let before = self.ended(Status::Failed);
        let requeued: Vec<_> =
            held.into_iter().filter_map(|id| self.end_lost_run(id, false)).collect();
        let reclaimed = Reclaimed {
            requeued: requeued.len() as u64,
            failed: self.ended(Status::Failed) - before,
        };
        requeued.into_iter().for_each(|id| self.make_ready(id, true));
        self.free_locks();
        self.heartbeats.remove(&worker.to_string());
        self.index.remove(&worker.to_string());
        self.reserved.take_if(|reserved| *reserved == worker);
        reclaimed
    }

    /// The running jobs that match, in the order in which they are requeued.
    fn running_jobs(&self, matches: impl Fn(&Job) -> bool) -> Vec<JobId> {
        let jobs =
            self.jobs.iter().filter(|(_, job)| job.status == Status::Running && matches(job));
        let mut ids: Vec<_> = jobs.map(|(&id, job)| (job.lease_end, id)).collect();
        ids.sort();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Ends a run whose lease is lost or whose hand-over failed; returns the job if it is to run again.
    fn end_lost_run(&mut self, id: JobId, handover_failed: bool) -> Option<JobId> {
        self.stop(id);
        let job = self.job(id);
        *(if handover_failed { &mut job.failed_handovers } else { &mut job.losses }) += 1;
        if job.cancel_requested {
            self.end(id, Status::Canceled);
        } else if job.losses >= 5 {
            self.fail(id, "worker_lost");
        } else if job.failed_handovers >= 8 {
            self.fail(id, "not_delivered");
        } else {
            job.attempt -= 1;
            match handover_failed {
                true => job.list_again(),
                false => job.start_by = None,
            }
            return Some(id);
        }
        None
    }

    fn ended(&self, status: Status) -> u64 {
        self.jobs.values().filter(|job| job.status == status).count() as u64
    }
}
