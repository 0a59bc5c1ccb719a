//! The tasks that this worker's machine cannot run for now: the reasons, and until when none of their jobs is claimed.
//!
//! A fault of the machine suspends a task for half a second longer than the affected job waits: 1 s, doubling to 30 s
//! with each further consecutive fault. An attempt that starts ends the streak. Never claims or releases a job: the
//! code that does checks here first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crunch_common::broker::{ReleaseCause, SuspendedTask};
use crunch_common::task::TaskName;
use crunch_common::time::{Timestamp, whole_ms};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The suspension after the first fault, without the head start; a released job waits as long in Redis.
const SHORTEST: Duration = Duration::from_secs(1);
/// A repaired machine is noticed within this time.
const LONGEST: Duration = Duration::from_secs(30);
/// How much longer a task is suspended than its released job waits in Redis: a worker that can run the job claims it
/// meanwhile. Otherwise this worker, which knows best when the job is due, would be first each time.
const HEAD_START: Duration = Duration::from_millis(500);
/// A fault this long after the end of a suspension is not of the same streak.
const STREAK_ENDS_AFTER: Duration = Duration::from_secs(60);
/// A heartbeat describes the worker in a few kilobytes: a machine that can run nothing shows it by some of its tasks.
const MAX_LISTED: usize = 16;
/// The length of a reason that is kept with a job.
const MAX_REASON_BYTES: usize = ReleaseCause::MAX_DETAIL_BYTES;

/// The suspended tasks of a worker.
#[derive(Debug, Default)]
pub(crate) struct Suspensions {
    streaks: Mutex<BTreeMap<TaskName, Streak>>,
    /// Notified when a task is suspended.
    changed: Notify,
}

/// Consecutive faults of a task.
#[derive(Debug)]
struct Streak {
    reason: String,
    faults: u32,
    /// The task is suspended until then.
    until: Instant,
}

impl Suspensions {
    /// Records a fault of the machine: jobs of the task are not claimed for a while. Jobs that started together are one
    /// fault.
    pub(crate) fn suspend(&self, task: &TaskName, reason: &str) {
        self.suspend_at(Instant::now(), task, reason);
    }

    /// Records that an attempt has started: the machine can run the task again. An attempt that began before the last
    /// fault proves nothing, so none counts while the task is suspended.
    pub(crate) fn started(&self, task: &TaskName) {
        self.started_at(Instant::now(), task);
    }

    /// Returns whether any tasks may be suspended.
    pub(crate) fn any(&self) -> bool {
        !self.streaks.lock().is_empty()
    }

    /// Returns whether no job of the task may be claimed now.
    pub(crate) fn is_suspended(&self, task: &TaskName) -> bool {
        let now = Instant::now();
        self.streaks.lock().get(task).is_some_and(|streak| now < streak.until)
    }

    /// Returns the tasks that are suspended now, by name; no more than a heartbeat has room for.
    pub(crate) fn list(&self) -> Vec<SuspendedTask> {
        let (now, clock) = (Instant::now(), Timestamp::now());
        let streaks = self.streaks.lock();
        let suspended = streaks.iter().filter(|(_, streak)| now < streak.until).take(MAX_LISTED);
        let listed = suspended.map(|(task, streak)| SuspendedTask {
            task: task.clone(),
            reason: streak.reason.clone(),
            until: Timestamp::from_unix_ms(
                clock.unix_ms().saturating_add(whole_ms(streak.until - now)),
            ),
        });
        listed.collect()
    }

    /// Returns until when all of these tasks are suspended; `None` if one of them can run, or there are none.
    pub(crate) fn all_until<'a>(
        &self,
        tasks: impl Iterator<Item = &'a TaskName>,
    ) -> Option<Instant> {
        self.all_until_at(Instant::now(), tasks)
    }

    /// Waits until a task is suspended, unless one was since the last wait.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn suspend_at(&self, now: Instant, task: &TaskName, reason: &str) {
        let mut streaks = self.streaks.lock();
        let faults = match streaks.get(task) {
            Some(streak) if now < streak.until => return,
            Some(streak) if now < streak.until + STREAK_ENDS_AFTER => {
                streak.faults.saturating_add(1)
            }
            Some(_) | None => 1,
        };
        let reason = &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)];
        let pause = pause_after(faults);
        if faults == 1 {
            let pause_ms = whole_ms(pause);
            tracing::warn!(job.task = %task, reason, pause_ms, "this machine cannot run the task: its jobs are released and not claimed for a while");
        }
        streaks
            .insert(task.clone(), Streak { reason: reason.to_owned(), faults, until: now + pause });
        drop(streaks);
        self.changed.notify_one();
    }

    fn started_at(&self, now: Instant, task: &TaskName) {
        let mut streaks = self.streaks.lock();
        if streaks.get(task).is_some_and(|streak| streak.until <= now)
            && let Some(Streak { faults, .. }) = streaks.remove(task)
        {
            tracing::info!(job.task = %task, faults, "this machine can run the task again");
        }
    }

    fn all_until_at<'a>(
        &self,
        now: Instant,
        mut tasks: impl Iterator<Item = &'a TaskName>,
    ) -> Option<Instant> {
        let streaks = self.streaks.lock();
        if streaks.is_empty() {
            return None;
        }
        let until =
            |task| streaks.get(task).map(|streak| streak.until).filter(|&until| now < until);
        let first = until(tasks.next()?)?;
        tasks.try_fold(first, |first, task| Some(first.min(until(task)?)))
    }
}

fn pause_after(faults: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(faults.saturating_sub(1));
    SHORTEST.saturating_mul(doubled).min(LONGEST) + HEAD_START
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str) -> TaskName {
        name.parse().unwrap()
    }

    fn until_of(suspensions: &Suspensions, now: Instant) -> Option<Instant> {
        suspensions.all_until_at(now, [task("a")].iter())
    }

    #[test]
    fn further_faults_in_a_row_double_the_pause_up_to_half_a_minute() {
        let pauses: Vec<_> = (1..8).map(|faults| pause_after(faults) - HEAD_START).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs));
        assert_eq!(pause_after(u32::MAX), LONGEST + HEAD_START);
    }

    #[test]
    fn many_faults_at_once_are_one_and_the_next_ones_double_it() {
        let (suspensions, task) = (Suspensions::default(), task("a"));
        let start = Instant::now();
        (0..100).for_each(|_| suspensions.suspend_at(start, &task, "why"));
        let until = until_of(&suspensions, start).unwrap();
        assert_eq!(until, start + pause_after(1));
        assert_eq!(until_of(&suspensions, until), None);
        suspensions.suspend_at(until, &task, "why");
        assert_eq!(until_of(&suspensions, until), Some(until + pause_after(2)));
    }

    #[test]
    fn a_row_ends_with_a_start_and_with_time() {
        let (suspensions, task) = (Suspensions::default(), task("a"));
        let start = Instant::now();
        let suspend = |at: Instant| {
            suspensions.suspend_at(at, &task, "why");
            until_of(&suspensions, at).unwrap()
        };
        let until = suspend(start);
        // An attempt that began before the fault.
        suspensions.started_at(start, &task);
        assert_eq!(until_of(&suspensions, start), Some(until));
        suspensions.started_at(until, &task);
        assert_eq!(suspend(until), until + pause_after(1));
        let later = until + pause_after(1) + STREAK_ENDS_AFTER;
        assert_eq!(suspend(later), later + pause_after(1));
    }

    #[test]
    fn a_worker_stops_only_when_all_of_its_tasks_are_suspended() {
        let (suspensions, tasks) = (Suspensions::default(), [task("a"), task("b")]);
        suspensions.suspend(&task("a"), &"x".repeat(1000));
        assert!(suspensions.is_suspended(&task("a")) && !suspensions.is_suspended(&task("b")));
        assert_eq!(suspensions.all_until(tasks.iter()), None);
        suspensions.suspend(&task("b"), "why");
        assert!(suspensions.all_until(tasks.iter()).is_some());
        let listed = suspensions.list();
        let lengths: Vec<_> = listed.iter().map(|it| (it.task.as_str(), it.reason.len())).collect();
        assert_eq!(lengths, [("a", MAX_REASON_BYTES), ("b", 3)]);
        assert!(Timestamp::now() < listed[0].until);
    }

    #[test]
    fn the_list_is_bounded() {
        let suspensions = Suspensions::default();
        (0..100).for_each(|at| suspensions.suspend(&task(&format!("t{at}")), "why"));
        assert_eq!(suspensions.list().len(), MAX_LISTED);
    }
}
