//! What a worker claims.

use crunch_common::broker::WorkerId;
use crunch_common::job::{JobId, Status};

use super::{ClaimedJob, LEASE_MS, Model, PARKED, SOLITARY};

impl Model {
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
            let claims = self.claim_lane(worker, queue, SOLITARY, self.room(queue).min(1));
            self.count_starts(queue, claims.len());
            if let Some(&(id, epoch, _)) = claims.first() {
                self.solitary_jobs.insert(worker.to_string(), (id, epoch));
                self.reserved = None;
                return (claims, true);
            }
        }
        let mut claims = Vec::new();
        for queue in open {
            let lanes = self.lanes_for(queue, number, tasks);
            claims.extend(self.claim_queue(worker, queue, &lanes, want - claims.len()));
        }
        (claims, false)
    }

    pub(super) fn claim_lanes(
        &mut self,
        worker: WorkerId,
        queue: usize,
        lanes: &[usize],
        want: usize,
    ) -> Vec<ClaimedJob> {
        let mut claims = Vec::new();
        for &lane in lanes {
            claims.extend(self.claim_lane(worker, queue, lane, want - claims.len()));
        }
        claims
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
        let is_waiting = open.iter().filter(|&&queue| self.room(queue) > 0).any(|&queue| {
            let queue = &self.queues[queue];
            queue.lanes[SOLITARY].front().is_some_and(|id| {
                let job = &self.jobs[id];
                let group = job.group.filter(|_| !job.deleted);
                group.is_none_or(|(group, _)| {
                    queue.groups.may_start(group, self.now) == Some(self.now)
                })
            })
        });
        busy > 0 && is_waiting && *self.reserved.get_or_insert(worker) == worker
    }

    fn claim_lane(
        &mut self,
        worker: WorkerId,
        queue: usize,
        lane: usize,
        want: usize,
    ) -> Vec<ClaimedJob> {
        let (mut claims, mut blocked) = (Vec::new(), Vec::new());
        while claims.len() < want {
            let Some(id) = self.queues[queue].lanes[lane].pop_front() else {
                break;
            };
            let (now, job) = (self.now, &self.jobs[&id]);
            let is_ghost = job.deleted || job.status != Status::Queued;
            if !is_ghost && self.expires(id) {
                continue;
            }
            let job = &self.jobs[&id];
            let (group, queue) = (job.group.filter(|_| !is_ghost), &mut self.queues[queue]);
            if let Some((group, _)) = group {
                if queue.groups.may_start(group, now) != Some(now) {
                    blocked.push(id);
                    continue;
                }
                queue.groups.start(group, id, now);
                if lane == SOLITARY {
                    queue.groups.unblock(group);
                }
            }
            if is_ghost {
                queue.ghosts.remove(&id);
                continue;
            }
            claims.push(self.start(worker, id));
        }
        // Those that their groups may not start let the others pass.
        self.queues[queue].lanes[lane].extend(blocked);
        claims
    }

    pub(super) fn start(&mut self, worker: WorkerId, id: JobId) -> ClaimedJob {
        let now = self.now;
        let job = self.job(id);
        job.status = Status::Running;
        job.epoch = (job.epoch + 1).max(now);
        job.worker = Some(worker);
        job.attempt += 1;
        job.started_at = now;
        job.lease_end = now + LEASE_MS;
        let claimed = (id, job.epoch, job.attempt);
        self.free_at_start(id);
        claimed
    }
}
