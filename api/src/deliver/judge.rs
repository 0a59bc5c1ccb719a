//! Evaluates the attempts of deliveries.

use std::time::Duration;

use actix_web::http::header::HttpDate;
use crunch_common::job::{ErrorCode, JobError};
use crunch_common::time::{Timestamp, whole_ms};

use super::post::{Answer, Unanswered};
use crate::webhook::ATTEMPT_TIMEOUT;

/// The longest `Retry-After` of a receiver that is respected.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What follows from an attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Judgement {
    /// The receiver accepted it.
    Delivered { status: u16 },
    /// The receiver wants no more messages about the job.
    Gone(JobError),
    /// Another attempt follows.
    Again { error: JobError, delay: Duration },
    /// That was the last attempt.
    GivenUp(JobError),
}

impl Judgement {
    /// Why the attempt failed; `None` if it did not.
    pub(super) const fn error(&self) -> Option<&JobError> {
        match self {
            Self::Delivered { .. } => None,
            Self::Gone(error) | Self::Again { error, .. } | Self::GivenUp(error) => Some(error),
        }
    }
}

/// Which attempt it was, and what follows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan<'a> {
    /// From 1.
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    /// The delay after each failed attempt; beyond the last entry, the last one.
    pub(super) delays: &'a [Duration],
}

impl Plan<'_> {
    fn delay(&self) -> Duration {
        let at = (self.attempt.max(1) as usize - 1).min(self.delays.len().saturating_sub(1));
        self.delays.get(at).copied().unwrap_or_default()
    }

    /// Returns [`Plan::delay`], up to a quarter shorter or longer: deliveries that failed together are not retried
    /// together.
    fn jittered(&self) -> Duration {
        self.delay().mul_f64(rand::random_range(0.75..=1.25))
    }

    fn failed(&self, error: JobError, min_wait: Option<Duration>) -> Judgement {
        if self.attempt >= self.max_attempts {
            return Judgement::GivenUp(JobError { retryable: false, ..error });
        }
        let requested = min_wait.unwrap_or_default().min(LONGEST_WAIT);
        Judgement::Again { error, delay: self.jittered().max(requested) }
    }

    /// Evaluates the answer of a receiver.
    pub(super) fn answered(&self, answer: &Answer) -> Judgement {
        let status = answer.status;
        if (200..300).contains(&status) {
            return Judgement::Delivered { status };
        }
        let message = format!("the receiver answered {status}");
        if status == 410 {
            return Judgement::Gone(JobError::permanent(code("webhook_gone"), message));
        }
        let requested =
            matches!(status, 429 | 503).then_some(answer.retry_after.as_deref()).flatten();
        let error = JobError::retryable(code(&format!("http_{status}")), message);
        self.failed(error, requested.and_then(|text| parse_retry_after(text, Timestamp::now())))
    }

    /// Evaluates an attempt without an answer.
    pub(super) fn unanswered(&self, why: &Unanswered) -> Judgement {
        let name = match why {
            Unanswered::Forbidden(_) => "webhook_forbidden",
            Unanswered::Unreachable(_) => "webhook_unreachable",
            Unanswered::Broken(_) => "webhook_broken",
        };
        self.failed(JobError::retryable(code(name), why.to_string()), None)
    }

    /// Evaluates an attempt that took too long.
    pub(super) fn late(&self) -> Judgement {
        let message =
            format!("the receiver did not answer within {} seconds", ATTEMPT_TIMEOUT.as_secs());
        self.failed(JobError::retryable(ErrorCode::timeout(), message), None)
    }
}

fn code(name: &str) -> ErrorCode {
    name.parse().expect("these codes are valid")
}

/// Parses Retry-After: seconds, or a date (RFC 9110, section 10.2.3).
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date: std::time::SystemTime = text.parse::<HttpDate>().ok()?.into();
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(now.until(Timestamp::from_unix_ms(whole_ms(date))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3600)];

    fn plan(attempt: u32) -> Plan<'static> {
        Plan { attempt, max_attempts: 3, delays: &DELAYS }
    }

    fn answer(status: u16, retry_after: Option<&str>) -> Answer {
        Answer { status, retry_after: retry_after.map(str::to_owned) }
    }

    fn delay(verdict: Judgement) -> Duration {
        match verdict {
            Judgement::Again { delay, .. } => delay,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn delays_grow_and_vary_by_a_quarter() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            let first = delay(plan(1).answered(&answer(500, None)));
            assert!((3750..=6250).contains(&first.as_millis()), "{first:?}");
            let second = delay(plan(2).late());
            assert!((2700..=4500).contains(&second.as_secs()), "{second:?}");
            seen.insert(first);
        }
        assert!(seen.len() > 50);
    }

    #[test]
    fn only_2xx_is_success_and_the_last_failure_is_final() {
        for status in [200, 202, 204, 299] {
            assert_eq!(plan(3).answered(&answer(status, None)), Judgement::Delivered { status });
        }
        for status in [301, 302, 307, 308, 400, 401, 404, 409, 429, 500, 503] {
            let Judgement::Again { error, .. } = plan(1).answered(&answer(status, None)) else {
                panic!("{status}");
            };
            assert_eq!(error.code.as_str(), format!("http_{status}"));
            let last = plan(3).answered(&answer(status, Some("1")));
            assert!(matches!(last, Judgement::GivenUp(error) if !error.retryable), "{status}");
        }
        let gone = plan(1).answered(&answer(410, None));
        assert!(matches!(gone, Judgement::Gone(error) if error.code.as_str() == "webhook_gone"));
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_but_not_for_more_than_a_day() {
        let requested = |status, text: &str| delay(plan(1).answered(&answer(status, Some(text))));
        assert_eq!(requested(429, "600"), Duration::from_secs(600));
        assert_eq!(requested(503, " 7200 "), Duration::from_secs(7200));
        assert_eq!(requested(503, "999999999"), LONGEST_WAIT);
        assert_eq!(requested(429, "Fri, 31 Dec 9999 23:59:59 GMT"), LONGEST_WAIT);
        for (status, text) in [
            (500, "600"),
            (429, "1"),
            (429, "-1"),
            (503, "soon"),
            (503, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            assert!(requested(status, text) <= Duration::from_millis(6250), "{status} {text}");
        }
    }

    #[test]
    fn a_date_is_as_far_as_it_is_from_now() {
        let now = "2026-11-24T09:00:00Z".parse().unwrap();
        let date = "Tue, 24 Nov 2026 09:02:00 GMT";
        assert_eq!(parse_retry_after(date, now), Some(Duration::from_secs(120)));
    }
}
