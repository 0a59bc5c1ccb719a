//! Sweeps: each does what is due; what is not urgent is done in rounds.

use super::*;

impl Model {
    pub(crate) fn sweep(&mut self) {
        if self.last_sweep.is_some_and(|last| self.now - last < 1000) {
            return;
        }
        // All leases have one length here; before the first worker the default of 10 s is used.
        let lease = if self.index.is_empty() { 10_000 } else { LEASE_MS };
        let silence = (lease * 35 / 100).max(1500);
        if self.last_sweep.is_none_or(|last| self.now - last > silence) {
            self.grace_until = self.now + lease;
        }
        self.last_sweep = Some(self.now);
        // The queues are few enough for a round to end in one call.
        let is_round = self.round_began.is_none_or(|round| self.now - round >= 10_000);
        if is_round {
            self.round_began = Some(self.now);
            let last = self.now + lease;
            self.jobs.values_mut().for_each(|job| job.lease_end = job.lease_end.min(last));
        }
        for queue in 0..QUEUES.len() {
            if self.now >= self.grace_until {
                self.requeue_expired(queue);
                self.free_locks();
            }
            self.end_overdue(queue);
            self.free_locks();
            self.promote(queue);
            if is_round {
                self.drop_ghosts(queue);
                let now = self.now;
                self.queues[queue].groups.tidy(now);
            }
        }
        let now = self.now;
        self.index.retain(|_, &mut seen| now - seen < LEASE_MS.max(30_000));
    }

    /// Ends the jobs that waited too long.
    fn end_overdue(&mut self, queue: usize) {
        let now = self.now;
        let overdue = |job: &Job| job.queue == queue && job.overdue_at.is_some_and(|at| at <= now);
        let jobs = self.jobs.iter().filter(|(_, job)| overdue(job));
        for id in jobs.map(|(&id, _)| id).collect::<Vec<_>>() {
            let job = self.job(id);
            let limit = match job.status {
                Status::Running => job.deadline.map(|deadline| (deadline, false)),
                _ => job.wait_limit(),
            };
            match limit {
                Some((at, _)) if at <= now && job.status == Status::Running => {
                    job.overdue_at = Some(now + 10_000);
                }
                Some((at, expires)) if at <= now => self.end_waiting(id, expires),
                // It started in time.
                later => job.overdue_at = later.map(|(at, _)| at),
            }
        }
    }

    fn end_waiting(&mut self, id: JobId, expires: bool) {
        if self.job(id).status == Status::Queued {
            self.leave_ready(id);
        }
        match expires {
            true => self.end(id, Status::Canceled),
            false => self.fail(id, "deadline_exceeded"),
        }
    }

    /// Whether a job that is about to be claimed is canceled instead.
    pub(super) fn expires(&mut self, id: JobId) -> bool {
        let now = self.now;
        let expires = self.job(id).wait_limit().is_some_and(|(at, expires)| expires && at <= now);
        if expires {
            self.end(id, Status::Canceled);
        }
        expires
    }

    /// Drops the ghosts at the front of each lane, and unlists empty lanes of parked jobs.
    fn drop_ghosts(&mut self, queue: usize) {
        let Queue { lanes, ghosts, listed_lanes, .. } = &mut self.queues[queue];
        for lane in &mut *lanes {
            while lane.front().is_some_and(|id| ghosts.remove(id)) {
                lane.pop_front();
            }
        }
        listed_lanes.retain(|&lane| !lanes[lane].is_empty());
    }

    /// Requeues the jobs of a queue whose leases have expired.
    fn requeue_expired(&mut self, queue: usize) {
        let now = self.now;
        let mut requeued = Vec::new();
        for id in self.running_jobs(|job| job.queue == queue && job.lease_end <= now) {
            let job = &self.jobs[&id];
            let heartbeat =
                job.worker.and_then(|worker| self.heartbeats.get(&worker.to_string()).copied());
            let is_alive = heartbeat.is_some_and(|heartbeat| now - heartbeat <= LEASE_MS);
            let handover_failed = is_alive && job.lease_end <= job.started_at + LEASE_MS;
            requeued.extend(self.end_lost_run(id, handover_failed));
        }
        requeued.into_iter().for_each(|id| self.make_ready(id, true));
    }
}
