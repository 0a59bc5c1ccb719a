//! What a sweep does: what is due at each, and what is not urgent in rounds.

use super::*;

impl Model {
    pub(crate) fn sweep(&mut self) {
        if self.last_sweep.is_some_and(|last| self.now - last < 1000) {
            return;
        }
        // Registered leases are all of one length here; before the first worker the default of 10 s counts.
        let lease = if self.index.is_empty() { 10_000 } else { LEASE_MS };
        let silence = (lease * 35 / 100).max(1500);
        if self.last_sweep.is_none_or(|last| self.now - last > silence) {
            self.grace_until = self.now + lease;
        }
        self.last_sweep = Some(self.now);
        // What is not urgent is done in rounds; all queues are few enough for one call.
        let is_round = self.round.is_none_or(|round| self.now - round >= 10_000);
        if is_round {
            self.round = Some(self.now);
            let last = self.now + lease;
            self.jobs.values_mut().for_each(|job| job.lease_end = job.lease_end.min(last));
        }
        for queue in 0..QUEUES.len() {
            if self.now >= self.grace_until {
                self.take_back(queue);
            }
            self.miss_deadlines(queue);
            self.promote(queue);
            if is_round {
                self.drop_ghosts(queue);
            }
        }
        let now = self.now;
        self.index.retain(|_, &mut beat| now - beat < LEASE_MS.max(30_000));
    }

    /// Fails the jobs that wait and whose deadline has passed.
    fn miss_deadlines(&mut self, queue: usize) {
        let now = self.now;
        let overdue = |job: &Job| job.queue == queue && job.overdue_at.is_some_and(|at| at <= now);
        let jobs = self.jobs.iter().filter(|(_, job)| overdue(job));
        for id in jobs.map(|(&id, _)| id).collect::<Vec<_>>() {
            let status = self.job(id).status;
            match status {
                Status::Running => self.job(id).overdue_at = Some(now + 10_000),
                _ => {
                    if status == Status::Queued {
                        self.queues[queue].ghosts.insert(id);
                    }
                    self.end(id, Status::Failed);
                }
            }
        }
    }

    /// Drops ghosts that stand where the next claim would take them, and forgets empty lanes of parked jobs.
    fn drop_ghosts(&mut self, queue: usize) {
        let Queue { lanes, ghosts, named, .. } = &mut self.queues[queue];
        for lane in &mut *lanes {
            while lane.front().is_some_and(|id| ghosts.remove(id)) {
                lane.pop_front();
            }
        }
        named.retain(|&lane| !lanes[lane].is_empty());
    }

    /// Takes back the leases of a queue that have ended.
    fn take_back(&mut self, queue: usize) {
        let now = self.now;
        let mut requeued = Vec::new();
        for id in self.running_jobs(|job| job.queue == queue && job.lease_end <= now) {
            let job = &self.jobs[&id];
            let beat = job.worker.and_then(|worker| self.beats.get(&worker.to_string()).copied());
            let beats = beat.is_some_and(|beat| now - beat <= LEASE_MS);
            let unheard = beats && job.lease_end <= job.started_at + LEASE_MS;
            requeued.extend(self.lose(id, unheard));
        }
        requeued.into_iter().for_each(|id| self.make_ready(id, true));
    }
}
