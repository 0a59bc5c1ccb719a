//! The children of a pool that are ready, and what each of them runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::Child;
use super::message::ToChild;

/// The children that are ready, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<Member>);

/// A child that is ready, or was and finishes its last jobs.
#[derive(Debug)]
pub(super) struct Member {
    child: Arc<Child>,
    /// How many jobs it runs at once.
    pub(super) credits: usize,
    /// How many it runs.
    assigned: usize,
    /// How many were assigned to it so far.
    begun: u64,
    /// Whether it is to be replaced.
    pub(super) outdated: bool,
    /// Whether it gets no more jobs.
    pub(super) retiring: bool,
    /// When it was asked to exit.
    drained: Option<Instant>,
}

impl Member {
    pub(super) fn new(child: Arc<Child>, credits: usize) -> Self {
        let (outdated, retiring, drained) = (false, false, None);
        Self { child, credits, assigned: 0, begun: 0, outdated, retiring, drained }
    }

    /// Gives it no more jobs: it exits when it has finished those that it has.
    pub(super) fn retire(&mut self) {
        self.retiring = true;
        self.drain();
    }

    /// Asks it to exit, if it gets no more jobs. Not while a job is assigned to it: it may not have been sent yet, and
    /// would find the child gone.
    fn drain(&mut self) {
        if self.retiring && self.assigned == 0 && self.drained.is_none() {
            self.drained = Some(Instant::now());
            self.child.send(&ToChild::Drain);
        }
    }

    /// Whether it gets jobs: it is neither asked to exit, nor is it being ended.
    fn is_ready(&self) -> bool {
        !self.retiring && !self.child.is_ending()
    }

    fn has_room(&self) -> bool {
        self.is_ready() && self.assigned < self.credits
    }

    /// How many slots of the pool are its own.
    fn slots(&self) -> usize {
        if self.is_ready() { self.credits.max(self.assigned) } else { self.assigned }
    }
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    #[cfg(test)]
    pub(super) fn numbers(&self) -> Vec<u64> {
        let ready = self.0.iter().filter(|member| member.is_ready());
        ready.map(|member| member.child.number).collect()
    }

    #[cfg(test)]
    pub(super) fn unread(&self) -> usize {
        self.0.iter().map(|member| member.child.outbox.waiting()).sum()
    }

    #[cfg(test)]
    pub(super) fn load(&self) -> usize {
        self.0.iter().map(|member| member.child.load().0).sum()
    }

    /// Returns how many get jobs.
    pub(super) fn ready(&self) -> usize {
        self.0.iter().filter(|member| member.is_ready()).count()
    }

    /// Returns how many of those are to be replaced.
    pub(super) fn outdated(&self) -> usize {
        self.0.iter().filter(|member| member.is_ready() && member.outdated).count()
    }

    pub(super) fn any_outdated(&self) -> bool {
        self.0.iter().any(|member| member.is_ready() && member.outdated)
    }

    /// Returns how many jobs all of them can run at once, with those that run in children that get no more.
    pub(super) fn slots(&self) -> usize {
        self.0.iter().map(Member::slots).sum()
    }

    pub(super) fn is_full(&self) -> bool {
        !self.0.iter().any(Member::has_room)
    }

    pub(super) fn add(&mut self, member: Member) {
        self.0.push(member);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Member> {
        let at = self.0.iter().position(|member| member.child.number == number)?;
        Some(self.0.remove(at))
    }

    pub(super) fn find(&mut self, number: u64) -> Option<&mut Member> {
        self.0.iter_mut().find(|member| member.child.number == number)
    }

    /// Chooses the child with the fewest jobs, and of several the oldest: so that the same ones are idle when there is
    /// little to do. One that was assigned `max_jobs` is outdated.
    pub(super) fn assign(&mut self, max_jobs: Option<u64>) -> Option<Arc<Child>> {
        let with_room = self.0.iter_mut().filter(|member| member.has_room());
        let member = with_room.min_by_key(|member| member.assigned)?;
        member.assigned += 1;
        member.begun += 1;
        member.outdated |= max_jobs.is_some_and(|max| member.begun >= max);
        Some(member.child.clone())
    }

    /// Ends the assignment of a job to a child.
    pub(super) fn leave(&mut self, number: u64) {
        if let Some(member) = self.find(number) {
            member.assigned -= 1;
            member.drain();
        }
    }

    pub(super) fn oldest_outdated(&mut self) -> Option<&mut Member> {
        self.0.iter_mut().find(|member| member.is_ready() && member.outdated)
    }

    pub(super) fn retire_all(&mut self) {
        self.0.iter_mut().for_each(Member::retire);
    }

    /// Returns one that has been idle for longer than that; of several the newest.
    pub(super) fn idle_longer_than(&mut self, time: Duration, now: Instant) -> Option<&mut Member> {
        let is_idle = |member: &&mut Member| {
            let since = member.child.idle_since().filter(|_| member.assigned == 0);
            member.is_ready() && since.is_some_and(|since| since + time <= now)
        };
        self.0.iter_mut().rev().find(is_idle)
    }

    /// Returns those that should have exited: they were asked to, or run only what was given up.
    pub(super) fn overdue(&self, grace: Duration, now: Instant) -> Vec<Arc<Child>> {
        let is_overdue = |member: &&Member| {
            let (_, leaked) = member.child.load();
            member.drained.is_some_and(|since| leaked > 0 || since + grace <= now)
        };
        self.0.iter().filter(is_overdue).map(|member| member.child.clone()).collect()
    }
}
