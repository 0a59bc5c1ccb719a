//! Whether of the jobs with one lock each ran only when the one before had ended.

use std::collections::{BTreeMap, BTreeSet};

use super::Evidence;
use crate::Moment;
use crate::chaos::orders::Order;

impl Evidence {
    pub(super) fn locks_are_kept(&self, report: &mut impl FnMut(&'static str, String)) {
        let first_runs = self.first_runs();
        let mut jobs: BTreeMap<(u64, bool), BTreeSet<&str>> = BTreeMap::new();
        for submission in self.submissions.values() {
            if let Some(lock) = submission.order.lock() {
                let lock = (lock, Order::may_follow(lock));
                jobs.entry(lock).or_default().extend(submission.ids.iter().map(String::as_str));
            }
        }
        for ((lock, may_follow), ids) in jobs {
            let known = ids.iter().filter_map(|id| Some((self.jobs.get(*id)?, *id)));
            let mut known: Vec<_> = known.collect();
            known.sort_by_key(|(job, id)| (job.created_at, *id));
            for [(before, one), (job, other)] in known.array_windows() {
                let begins = first_runs.get(other).copied().unwrap_or(u64::MAX);
                let is_kept = begins >= before.finished_at
                    && (may_follow || job.created_at >= before.finished_at);
                if !is_kept {
                    let what = format!(
                        "lock {lock}: {other} began before {one} had ended: {job:?}, {before:?}"
                    );
                    report("one job of a lock is live", what);
                }
            }
        }
    }

    /// When each job was first claimed: the epoch of its first run.
    fn first_runs(&self) -> BTreeMap<&str, u64> {
        let mut first = BTreeMap::new();
        for run in self.runs.iter().filter(|run| run.moment == Moment::Start) {
            let epoch = first.entry(run.id.as_str()).or_insert(run.epoch);
            *epoch = run.epoch.min(*epoch);
        }
        first
    }

    /// Whether the result is that of one of the orders for which a job stands.
    pub(super) fn is_result_of_an_order(&self, id: &str, lock: u64) -> bool {
        let Some(job) = self.jobs.get(id) else { return false };
        let shared = self.submissions.iter().filter(|(_, it)| it.order.lock() == Some(lock));
        let mut shared = shared.filter(|(_, it)| it.ids.iter().any(|other| other == id));
        shared.any(|(number, it)| it.order.result(*number, job.epoch) == job.result)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::Entry;
    use crate::chaos::client::Submission;
    use crate::chaos::survey::Job;

    /// Two jobs of a lock: the second is created and begins at these times, and the first ends at 2000.
    fn broken(lock: u64, created_at: u64, begins: u64) -> Vec<&'static str> {
        let job = |created_at, finished_at| Job { created_at, finished_at, ..Job::default() };
        let of = |id: &str| Submission {
            ids: vec![id.to_owned()],
            order: Order::locked(lock),
            ..Submission::default()
        };
        let run = |id: &str, epoch| Entry {
            moment: Moment::Start,
            id: id.to_owned(),
            epoch,
            pid: 1,
            at_ms: epoch,
            in_child: false,
        };
        let evidence = Evidence {
            submissions: [(1, of("a")), (2, of("b"))].into(),
            jobs: HashMap::from([
                ("a".to_owned(), job(1000, 2000)),
                ("b".to_owned(), job(created_at, 9000)),
            ]),
            runs: vec![run("a", 1001), run("b", begins + 5), run("b", begins)],
            ..Evidence::default()
        };
        let mut promises = Vec::new();
        evidence.locks_are_kept(&mut |promise, _| promises.push(promise));
        promises
    }

    #[test]
    fn jobs_that_overlap_are_found() {
        const WRONG: &str = "one job of a lock is live";
        let [exclusive, following] = [false, true]
            .map(|follows| (0..).find(|lock| Order::may_follow(*lock) == follows).unwrap());
        assert_eq!(broken(exclusive, 2000, 2000), [""; 0]);
        assert_eq!(broken(exclusive, 1999, 2000), [WRONG]);
        assert_eq!(broken(following, 1500, 2000), [""; 0]);
        assert_eq!(broken(following, 1500, 1999), [WRONG]);
    }
}
