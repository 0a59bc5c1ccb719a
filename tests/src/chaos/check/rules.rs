//! Whether the rules of groups and the limit of a queue were kept: by the times of all attempts, which are those of Redis.

use std::collections::BTreeMap;

use super::Evidence;
use crate::chaos::orders::{
    LIMITED, LIMITED_RUNNING, NARROW, NARROW_RUNNING, Order, PACED, PACED_BURST, PACED_GAP_MS,
    SHARED, SHARED_RUNNING, SHARING,
};

/// When an attempt was claimed, and when it was settled or taken back.
type Attempt = (u64, u64);

impl Evidence {
    pub(super) fn rules_of_groups_are_kept(&self, report: &mut impl FnMut(&'static str, String)) {
        for ((queue, group), attempts) in self.attempts_by(Order::place) {
            let most = most_at_once(&attempts);
            if group == NARROW && most > NARROW_RUNNING {
                let what = format!("{most} jobs of {group} in {queue} ran at once");
                report("no more jobs of a group run than may", what);
            }
            if group == PACED
                && let Some(at) = too_early(attempts.iter().map(|&(started, _)| started))
            {
                let what = format!("a job of {group} in {queue} started too early, at {at}");
                report("jobs of a group start at its rate", what);
            }
        }
    }

    pub(super) fn limits_are_kept(&self, report: &mut impl FnMut(&'static str, String)) {
        let most_in = |queues: &[&str]| {
            let is_in = |order: &Order| queues.contains(&order.queue()).then_some(());
            self.attempts_by(is_in).get(&()).map_or(0, |it| most_at_once(it))
        };
        let (most, most_together) = (most_in(&[LIMITED]), most_in(&SHARING));
        if most > LIMITED_RUNNING {
            let what = format!("{most} jobs of {LIMITED} ran at once");
            report("no more jobs of a queue run than may", what);
        }
        if most_together > SHARED_RUNNING {
            let what =
                format!("{most_together} jobs of {SHARING:?}, which share {SHARED}, ran at once");
            report("no more jobs of queues that share a limit run than may", what);
        }
    }

    /// The attempts of the jobs in each place, as far as their histories have them.
    fn attempts_by<P: Ord>(
        &self,
        place_of: impl Fn(&Order) -> Option<P>,
    ) -> BTreeMap<P, Vec<Attempt>> {
        let mut all = BTreeMap::<_, Vec<Attempt>>::new();
        for submission in self.submissions.values() {
            let Some(place) = place_of(&submission.order) else { continue };
            let attempts = all.entry(place).or_default();
            for job in submission.ids.iter().filter_map(|id| self.jobs.get(id)) {
                let past = job.history.iter();
                let past = past.map(|past| (past.started_at_ms, past.finished_at_ms));
                // A job that ended while it waited has none besides those; whether a canceled one waited is not known.
                let is_known = job.history.iter().any(|it| it.started_at_ms == job.started_at);
                let ran = job.started_at > 0 && !is_known && job.status != "canceled";
                let last = ran.then_some((job.started_at, job.finished_at));
                attempts.extend(past.chain(last));
            }
        }
        all
    }
}

/// How many attempts ran at the same time. One that starts in the millisecond in which another ends ran after it.
fn most_at_once(attempts: &[Attempt]) -> usize {
    let mut changes: Vec<_> = attempts
        .iter()
        .filter(|(started, ended)| started < ended)
        .flat_map(|&(started, ended)| [(started, 1_isize), (ended, -1)])
        .collect();
    changes.sort_unstable();
    let (mut running, mut most) = (0_isize, 0);
    for (_, change) in changes {
        running += change;
        most = most.max(running);
    }
    most.unsigned_abs()
}

/// The first start before which more had started in some time than the rate allows: a burst, and one each gap.
fn too_early(starts: impl Iterator<Item = u64>) -> Option<u64> {
    let mut starts: Vec<_> = starts.collect();
    starts.sort_unstable();
    // Of n starts the last is (n - burst) gaps after the first, at least: for any of them as the first.
    let mut latest = i64::MIN;
    for (number, &at) in (0_u64..).zip(&starts) {
        let slack = at.cast_signed() - (number * PACED_GAP_MS).cast_signed();
        latest = latest.max(slack);
        if slack + ((PACED_BURST - 1) * PACED_GAP_MS).cast_signed() < latest {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::client::Submission;
    use crate::chaos::survey::Job;

    /// The promises broken by jobs of a group that ran at these times.
    fn broken(group: &'static str, attempts: &[Attempt]) -> Vec<&'static str> {
        let mut evidence = Evidence::default();
        for (number, &(started_at, finished_at)) in (0..).zip(attempts) {
            let ids = vec![format!("{number}")];
            let job = Job { started_at, finished_at, ..Job::default() };
            evidence.jobs.insert(ids[0].clone(), job);
            let order = if group == LIMITED { Order::limited() } else { Order::grouped(group) };
            evidence.submissions.insert(number, Submission { ids, order, ..Submission::default() });
        }
        let mut broken = Vec::new();
        evidence.limits_are_kept(&mut |promise, _| broken.push(promise));
        evidence.rules_of_groups_are_kept(&mut |promise, _| broken.push(promise));
        broken
    }

    #[test]
    fn broken_rules_of_groups_are_reported() {
        let together = [(5, 9); 4];
        assert_eq!(broken("a", &together), [""; 0]);
        assert_eq!(broken(NARROW, &together), ["no more jobs of a group run than may"]);
        assert_eq!(broken(NARROW, &together[1..]), [""; 0]);
        assert_eq!(broken(PACED, &together), ["jobs of a group start at its rate"]);
        assert_eq!(broken(PACED, &together[1..]), [""; 0]);
    }

    #[test]
    fn a_limit_that_is_exceeded_is_reported() {
        let together = [(5, 9); LIMITED_RUNNING + 1];
        assert_eq!(broken(LIMITED, &together), ["no more jobs of a queue run than may"]);
        assert_eq!(broken(LIMITED, &together[1..]), [""; 0]);
        let shared = "no more jobs of queues that share a limit run than may";
        let together = [(5, 9); SHARED_RUNNING + 1];
        assert!(broken(LIMITED, &together).contains(&shared));
        assert!(!broken(LIMITED, &together[1..]).contains(&shared));
    }

    #[test]
    fn attempts_that_overlap_are_counted() {
        assert_eq!(most_at_once(&[(1, 5), (5, 9), (9, 12)]), 1);
        assert_eq!(most_at_once(&[(1, 5), (2, 3), (3, 9), (4, 12)]), 3);
    }

    #[test]
    fn a_start_that_a_rate_does_not_allow_is_found() {
        let start = 1_000_000;
        let allowed = [0, 0, 0, 20, 40, 60, 200, 200, 200, 220];
        assert_eq!(too_early(allowed.iter().map(|at| start + at)), None);
        let fourth = [0, 0, 0, 19];
        assert_eq!(too_early(fourth.iter().map(|at| start + at)), Some(start + 19));
        let later = [0, 100, 200, 200, 200, 219];
        assert_eq!(too_early(later.iter().map(|at| start + at)), Some(start + 219));
    }
}
