//! The key space as it should be: the same verbs on plain values, written from the documentation, not from the Lua.

mod sweeps;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crunch_common::broker::{Reclaimed, Reported, Settled, Verdict, WorkerId};
use crunch_common::job::{JobId, Status};

use super::operation::{Ending, LEASE_MS, QUEUES, TASKS};

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
    /// When a sweep next checks whether it missed its deadline.
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
    pub(crate) deleted: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Queue {
    /// The ids in the ready lists, the oldest first, with ghosts.
    pub(crate) lanes: [VecDeque<JobId>; LANES],
    pub(crate) ghosts: BTreeSet<JobId>,
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
}

/// A claimed job: its id, epoch and attempt.
pub(crate) type ClaimedJob = (JobId, u64, u32);

impl Job {
    const fn is_solitary(&self) -> bool {
        self.losses >= 2 || self.failed_handovers >= 3
    }
}

impl Model {
    pub(crate) fn new(now: u64) -> Self {
        Self { now, ..Self::default() }
    }

    pub(crate) fn enqueue(
        &mut self,
        id: JobId,
        (queue, task, lane): (usize, usize, usize),
        (delay_ms, deadline_ms): (u64, Option<u64>),
        labels: usize,
    ) {
        let status = if delay_ms > 0 { Status::Scheduled } else { Status::Queued };
        let deadline = deadline_ms.map(|ms| self.now + ms);
        let job = Job {
            queue,
            task,
            lane,
            parked: false,
            deadline,
            overdue_at: deadline,
            status,
            attempt: 0,
            losses: 0,
            epoch: 0,
            worker: None,
            cancel_requested: false,
            generation: 0,
            lease_end: 0,
            due: self.now + delay_ms,
            started_at: 0,
            settled_epoch: 0,
            failed_handovers: 0,
            delays: 0,
            terminal_at: None,
            failed_with: None,
            labels,
            deleted: false,
        };
        self.jobs.insert(id, job);
        self.recent.insert(0, id);
        self.queues[queue].is_known = true;
        if status == Status::Queued {
            self.queues[queue].lanes[lane].push_back(id);
        }
    }

    fn job(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id).expect("the model has every job")
    }

    fn make_ready(&mut self, id: JobId, front: bool) {
        let job = self.job(id);
        job.status = Status::Queued;
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
        match ending {
            Ending::Complete => self.end(id, Status::Succeeded),
            Ending::Fail => self.fail(id, "task_failed"),
            Ending::Cancel => self.end(id, Status::Canceled),
            _ if job.cancel_requested => self.end(id, Status::Canceled),
            Ending::Retry { delay_ms } => {
                job.status = Status::Retrying;
                job.due = now + delay_ms;
                self.count_failure(id, "task_failed");
            }
            Ending::Unroutable | Ending::Machine => {
                job.status = Status::Scheduled;
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
        ids.into_iter().for_each(|id| self.make_ready(id, false));
    }

    /// A worker is in the index from its first exchange on, even before its first heartbeat.
    pub(crate) fn register(&mut self, worker: WorkerId) {
        let now = self.now;
        self.index.entry(worker.to_string()).or_insert(now);
    }

    /// What a worker claims, and whether it gets no more jobs until it runs none.
    pub(crate) fn promote_and_claim(
        &mut self,
        worker: WorkerId,
        (number, tasks): (u64, &[usize]),
        order: &[usize],
        (want, busy): (usize, usize),
    ) -> (Vec<ClaimedJob>, bool) {
        order.iter().for_each(|&queue| self.promote(queue));
        let open: Vec<_> =
            order.iter().copied().filter(|&queue| !self.queues[queue].paused).collect();
        if self.runs_solitary_job(worker) || self.is_reserved(worker, busy, &open) {
            return (Vec::new(), true);
        }
        for &queue in open.iter().filter(|_| busy == 0 && want > 0) {
            let claims = self.claim_lane(worker, queue, SOLITARY, 1);
            if let Some(&(id, epoch, _)) = claims.first() {
                self.solitary_jobs.insert(worker.to_string(), (id, epoch));
                self.reserved = None;
                return (claims, true);
            }
        }
        let mut claims = Vec::new();
        for queue in open {
            for lane in self.lanes_for(queue, number, tasks) {
                claims.extend(self.claim_lane(worker, queue, lane, want - claims.len()));
            }
        }
        (claims, false)
    }

    /// The lanes in the order in which a worker with these tasks claims from them: those of parked jobs are behind the
    /// urgent and high ones, and take turns.
    fn lanes_for(&self, queue: usize, number: u64, tasks: &[usize]) -> Vec<usize> {
        let mut parked: Vec<_> = tasks.iter().map(|task| PARKED + task).collect();
        parked.retain(|lane| self.queues[queue].listed_lanes.contains(lane));
        if !parked.is_empty() {
            let first = usize::try_from(number + 1).unwrap() % parked.len();
            parked.rotate_left(first);
        }
        [1, 2].into_iter().chain(parked).chain([3, 4]).collect()
    }

    /// Whether the worker still runs its last solitary job.
    fn runs_solitary_job(&self, worker: WorkerId) -> bool {
        let job = self.solitary_jobs.get(&worker.to_string());
        job.is_some_and(|&(id, epoch)| self.holds(worker, id, epoch))
    }

    /// Whether the worker is the one that is reserved for a solitary job.
    fn is_reserved(&mut self, worker: WorkerId, busy: usize, open: &[usize]) -> bool {
        let is_waiting = open.iter().any(|&queue| !self.queues[queue].lanes[SOLITARY].is_empty());
        busy > 0 && is_waiting && *self.reserved.get_or_insert(worker) == worker
    }

    fn claim_lane(
        &mut self,
        worker: WorkerId,
        queue: usize,
        lane: usize,
        want: usize,
    ) -> Vec<ClaimedJob> {
        let mut claims = Vec::new();
        while claims.len() < want {
            let Some(id) = self.queues[queue].lanes[lane].pop_front() else {
                break;
            };
            let now = self.now;
            let job = self.job(id);
            if job.deleted || job.status != Status::Queued {
                self.queues[queue].ghosts.remove(&id);
                continue;
            }
            job.status = Status::Running;
            job.epoch = (job.epoch + 1).max(now);
            job.worker = Some(worker);
            job.attempt += 1;
            job.started_at = now;
            job.lease_end = now + LEASE_MS;
            claims.push((id, job.epoch, job.attempt));
        }
        claims
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
            return Some(id);
        }
        None
    }

    fn ended(&self, status: Status) -> u64 {
        self.jobs.values().filter(|job| job.status == status).count() as u64
    }

    pub(crate) fn cancel(&mut self, id: JobId) {
        let job = self.job(id);
        match job.status {
            _ if job.deleted => {}
            Status::Running => job.cancel_requested = true,
            Status::Queued => {
                let queue = job.queue;
                job.cancel_requested = true;
                self.queues[queue].ghosts.insert(id);
                self.end(id, Status::Canceled);
            }
            Status::Scheduled | Status::Retrying => {
                job.cancel_requested = true;
                self.end(id, Status::Canceled);
            }
            Status::Succeeded | Status::Failed | Status::Canceled => {}
        }
    }

    pub(crate) fn retry(&mut self, id: JobId) {
        let job = self.job(id);
        if job.deleted || !matches!(job.status, Status::Failed | Status::Canceled) {
            return;
        }
        job.cancel_requested = false;
        job.attempt = 0;
        job.losses = 0;
        job.failed_handovers = 0;
        job.delays = 0;
        job.parked = false;
        job.overdue_at = job.deadline;
        job.generation += 1;
        job.worker = None;
        job.terminal_at = None;
        job.failed_with = None;
        let queue = job.queue;
        if self.queues[queue].ghosts.remove(&id) {
            self.job(id).status = Status::Queued;
        } else {
            self.make_ready(id, false);
        }
    }

    pub(crate) fn delete(&mut self, id: JobId) {
        let job = self.job(id);
        if job.status.is_terminal() {
            job.deleted = true;
        }
    }

    pub(crate) fn redrive(&mut self, queue: usize, limit: u64) -> u64 {
        let is_failed =
            |job: &Job| job.queue == queue && !job.deleted && job.status == Status::Failed;
        let mut ids: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, job)| is_failed(job))
            .map(|(&id, job)| (job.terminal_at, id))
            .collect();
        ids.sort();
        let ids: Vec<_> =
            ids.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();

        ids.iter().for_each(|&(_, id)| self.retry(id));
        ids.len() as u64
    }
}
