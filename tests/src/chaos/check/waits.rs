//! Whether jobs that must start in time did, by the times of Redis, or were canceled; and only jobs were put off that may be.

use super::Evidence;
use crate::chaos::orders::Order;
use crate::chaos::survey::{Job, PastAttempt};

impl Evidence {
    pub(super) fn jobs_start_in_time_or_expire(
        &self,
        report: &mut impl FnMut(&'static str, String),
    ) {
        for submission in self.submissions.values() {
            let order = &submission.order;
            for (id, job) in submission.ids.iter().filter_map(|id| self.jobs.get_key_value(id)) {
                if let Some(promise) = broken(order, job) {
                    report(promise, format!("{id}: {order:?}, {job:?}"));
                }
                let put_off = job.history.iter().filter(|past| past.outcome == "snoozed").count();
                if put_off > 0 && !order.may_be_put_off() {
                    report("only a handler puts its job off", format!("{id}: {job:?}"));
                }
            }
        }
    }
}

/// Whether that attempt was begun, as far as Redis knows.
fn was_begun(past: &PastAttempt) -> bool {
    past.outcome != "unheard"
}

fn broken(order: &Order, job: &Job) -> Option<&'static str> {
    let has_expired = job.status == "canceled" && job.error.contains("expired");
    let Some(within) = order.starts_within_ms() else {
        return has_expired.then_some("only jobs with a time to start expire");
    };
    let start_by = job.created_at + within;
    let first = job.history.iter().find(|past| was_begun(past));
    // A history keeps the newest attempts only.
    let is_whole = job.history.len() < super::HISTORY;
    if has_expired {
        let too_early = job.finished_at < start_by;
        return (first.is_some() || too_early).then_some("no job that started in time expires");
    }
    if job.status == "canceled" && !job.cancel_requested {
        return Some("jobs are canceled for a reason");
    }
    let ended_running = job.status == "succeeded" || job.status == "failed";
    let started = first.map(|past| past.started_at_ms).or(ended_running.then_some(job.started_at));
    let is_late = started.is_some_and(|started| started > 0 && started >= start_by);
    (is_whole && is_late).then_some("no job starts too late")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(outcome: &str, started_at_ms: u64) -> PastAttempt {
        let outcome = outcome.to_owned();
        PastAttempt { started_at_ms, finished_at_ms: started_at_ms + 1, outcome, error: None }
    }

    fn job(status: &str, started_at: u64) -> Job {
        let (created_at, finished_at) = (1000, 2000);
        Job { status: status.to_owned(), created_at, started_at, finished_at, ..Job::default() }
    }

    fn expired(finished_at: u64) -> Job {
        let error = r#"{"code":"expired"}"#.to_owned();
        Job { error, finished_at, ..job("canceled", 0) }
    }

    #[test]
    fn what_starts_too_late_or_expires_for_no_reason_is_found() {
        let order = Order::to_start(Some(100), 400);
        let late = Some("no job starts too late");
        assert_eq!(broken(&order, &job("succeeded", 1499)), None);
        assert_eq!(broken(&order, &job("succeeded", 1500)), late);
        let retried = |at| Job { history: vec![past("failed", at)], ..job("succeeded", 9000) };
        assert_eq!(broken(&order, &retried(1499)), None);
        assert_eq!(broken(&order, &retried(1500)), late);
        let unheard = Job { history: vec![past("unheard", 1100)], ..job("succeeded", 9000) };
        assert_eq!(broken(&order, &unheard), late);

        let wrong = Some("no job that started in time expires");
        assert_eq!(broken(&order, &expired(1500)), None);
        assert_eq!(broken(&order, &expired(1499)), wrong);
        let started = Job { history: vec![past("released", 1100)], ..expired(1500) };
        assert_eq!(broken(&order, &started), wrong);
        let only = Some("only jobs with a time to start expire");
        assert_eq!(broken(&Order::default(), &expired(1500)), only);
        let unasked = Some("jobs are canceled for a reason");
        assert_eq!(broken(&order, &job("canceled", 0)), unasked);
    }
}
