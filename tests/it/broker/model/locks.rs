//! Locks: who holds them, and who waits for that.

use std::collections::BTreeMap;

use crunch_common::broker::Enqueued;
use crunch_common::job::{JobId, OnConflict, Status, Until};

use super::{Job, Model, NewJob};
use crate::broker::operation::MAX_WAIT_MS;

/// The holder of each lock, by queue and number, and its follower.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    pub(crate) held: BTreeMap<(usize, usize), (JobId, Option<JobId>)>,
    /// Jobs that hold theirs no longer, once the step is written.
    left: Vec<JobId>,
}

impl Job {
    fn lock(&self) -> Option<(usize, usize)> {
        self.unique.map(|unique| (self.queue, unique.lock))
    }

    fn is_held_for_a_time(&self) -> bool {
        self.unique.is_some_and(|unique| matches!(unique.until, Until::Time(_)))
    }
}

impl Model {
    /// The answer to a job whose lock is held; else the holder for which it waits, if there is one.
    pub(super) fn conflict(&mut self, id: JobId, new: &NewJob) -> Result<Option<JobId>, Enqueued> {
        let Some(unique) = new.unique else { return Ok(None) };
        let Some(&(holder, follower)) = self.locks.held.get(&(new.place.0, unique.lock)) else {
            return Ok(None);
        };
        assert_ne!(holder, id, "a job is not submitted twice");
        let target = match unique.on_conflict {
            OnConflict::Existing => return Err(Enqueued::Existing(holder)),
            OnConflict::Reject => return Err(Enqueued::Locked(holder)),
            OnConflict::Replace => holder,
            OnConflict::KeepLatest => follower.unwrap_or(holder),
        };
        let job = &self.jobs[&target];
        if job.epoch == 0 && !job.status.is_terminal() {
            self.replace(target, new);
            return Err(Enqueued::Replaced(target));
        }
        let waits = unique.on_conflict == OnConflict::KeepLatest;
        if waits && !self.jobs[&holder].is_held_for_a_time() {
            return Ok(Some(holder));
        }
        Err(Enqueued::Locked(holder))
    }

    /// A job that waits becomes what the new one would be; if it is ready it keeps its place.
    fn replace(&mut self, id: JobId, new: &NewJob) {
        let now = self.now;
        let is_bounded = new.unique.is_some_and(|it| it.on_conflict == OnConflict::Replace);
        let most = if is_bounded { MAX_WAIT_MS } else { 0 };
        let job = self.job(id);
        let due = (now + new.times.delay_ms).min(job.created + most).max(now);
        job.task = new.place.1;
        job.labels = new.labels;
        job.deadline = new.times.deadline_ms.map(|ms| now + ms);
        job.start_within = new.times.start_within_ms;
        job.start_by = new.times.start_within_ms.map(|ms| due + ms);
        job.overdue_at = None;
        if let (Some(own), Some(its)) = (&mut job.unique, new.unique)
            && !matches!(own.until, Until::Time(_))
            && !matches!(its.until, Until::Time(_))
        {
            own.until = its.until;
        }
        job.list_limit();
        if job.status == Status::Queued {
            return;
        }
        job.lane = new.place.2;
        if job.follows {
            return;
        }
        job.due = due;
        if due > now {
            job.status = Status::Scheduled;
        } else {
            self.make_ready(id, false);
        }
    }

    /// A job that is new, or runs again, gets its lock, or waits for the holder.
    pub(super) fn lock(&mut self, id: JobId, holder: Option<JobId>) {
        let Some(lock) = self.jobs[&id].lock() else { return };
        let held = holder.map_or((id, None), |holder| (holder, Some(id)));
        self.locks.held.insert(lock, held);
    }

    /// Whether another job keeps this one, which has ended, from running again; else it gets its lock.
    pub(super) fn is_locked_out(&mut self, id: JobId) -> bool {
        let job = &self.jobs[&id];
        let Some(lock) = job.lock().filter(|_| !job.is_held_for_a_time()) else { return false };
        if self.locks.held.get(&lock).is_some_and(|&(holder, _)| holder != id) {
            return true;
        }
        self.lock(id, None);
        false
    }

    pub(super) fn free_at_start(&mut self, id: JobId) {
        if self.jobs[&id].unique.is_some_and(|unique| unique.until == Until::Start) {
            self.locks.left.push(id);
        }
    }

    pub(super) fn free_at_end(&mut self, id: JobId) {
        if !self.jobs[&id].is_held_for_a_time() {
            self.locks.left.push(id);
        }
    }

    pub(super) fn free_at_deletion(&mut self, id: JobId) {
        self.locks.left.push(id);
        self.free_locks();
    }

    /// What a step does once everything else is written.
    pub(crate) fn free_locks(&mut self) {
        for id in std::mem::take(&mut self.locks.left) {
            let Some(lock) = self.jobs[&id].lock() else { continue };
            match self.locks.held.get(&lock).copied() {
                Some((holder, Some(follower))) if follower == id => {
                    self.locks.held.insert(lock, (holder, None));
                }
                Some((holder, Some(follower))) if holder == id => {
                    self.locks.held.insert(lock, (follower, None));
                    let job = self.job(follower);
                    if job.follows && job.status == Status::Scheduled {
                        self.make_ready(follower, false);
                    }
                }
                Some((holder, None)) if holder == id => {
                    self.locks.held.remove(&lock);
                }
                _ => {}
            }
        }
    }
}
