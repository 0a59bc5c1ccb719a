//! What operators do: cancel, retry, delete and redrive.

use super::*;

impl Model {
    pub(crate) fn cancel(&mut self, id: JobId) {
        let job = self.job(id);
        match job.status {
            _ if job.deleted => {}
            Status::Running => job.cancel_requested = true,
            Status::Queued => {
                job.cancel_requested = true;
                self.leave_ready(id);
                self.end(id, Status::Canceled);
            }
            Status::Scheduled | Status::Retrying => {
                job.cancel_requested = true;
                self.end(id, Status::Canceled);
            }
            Status::Succeeded | Status::Failed | Status::Canceled => {}
        }
        self.free_locks();
    }

    /// Removes a job from its group, or makes it a ghost of its lane.
    pub(super) fn leave_ready(&mut self, id: JobId) {
        let job = &self.jobs[&id];
        let queue = &mut self.queues[job.queue];
        match job.waiting_group() {
            Some((group, _)) => queue.groups.leave(group, id),
            None => {
                queue.ghosts.insert(id);
                if let Some((group, _)) = job.group {
                    queue.groups.unblock(group);
                }
            }
        }
    }

    pub(crate) fn retry(&mut self, id: JobId) {
        let now = self.now;
        let job = self.job(id);
        if job.deleted || !matches!(job.status, Status::Failed | Status::Canceled) {
            return;
        }
        if self.is_locked_out(id) {
            return;
        }
        let job = self.job(id);
        let (queue, has_group) = (job.queue, job.group.is_some());
        let (was_solitary, was_parked) = (job.is_solitary(), job.parked);
        job.cancel_requested = false;
        job.attempt = 0;
        job.losses = 0;
        job.failed_handovers = 0;
        job.parked = false;
        job.snoozes = 0;
        job.follows = false;
        job.start_by = job.start_within.map(|ms| now + ms);
        job.list_limit();
        job.generation += 1;
        job.worker = None;
        job.terminal_at = None;
        job.failed_with = None;
        let was_ghost = self.queues[queue].ghosts.remove(&id);
        let leaves = has_group && was_solitary;
        let job = self.job(id);
        if was_ghost && !leaves {
            job.status = Status::Queued;
            // In a group it keeps its place among the parked ones only as one of them.
            job.parked = has_group && was_parked;
            job.delays = if job.parked { job.delays } else { 0 };
        } else {
            job.delays = 0;
            self.queues[queue].lanes[SOLITARY].retain(|&other| !was_ghost || other != id);
            self.make_ready(id, false);
        }
    }

    pub(crate) fn delete(&mut self, id: JobId) {
        let job = self.job(id);
        if job.status.is_terminal() {
            job.deleted = true;
            self.free_at_deletion(id);
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
        let mut redriven = 0;
        for (_, id) in ids {
            if redriven < limit {
                self.retry(id);
                // One whose lock another job holds is passed over.
                redriven += u64::from(self.jobs[&id].status != Status::Failed);
            }
        }
        redriven
    }
}
