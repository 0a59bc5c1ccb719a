//! Fetches the payload of a claimed job that is too large to come with its claim.
//!
//! Meanwhile the job occupies its slot and its lease is extended, other jobs start, and it can be canceled. The
//! attempt's timeout begins when the input is complete; the job's deadline does not wait.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crunch_common::backoff::Backoff;
use crunch_common::broker::{Broker, LeaseKey};

use crate::stop::{Stop, StopReason};

/// How long the transfer of a payload may take: 64 MiB at 16 KiB/s take 68 minutes. A job whose payload does not arrive
/// within that has failed, or nothing would ever end it; the lease of a job whose result does not is not extended any
/// longer.
pub(crate) const LONGEST_FETCH: Duration = Duration::from_secs(75 * 60);

/// Fetches payloads.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) broker: Broker,
}

/// The reason why there is no input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoInput {
    /// The attempt must stop.
    Stopped(StopReason),
    /// The job was deleted, or another attempt holds it.
    NotHeld,
    /// The payload did not arrive in time.
    TooLate,
}

impl Input {
    /// Fetches until the payload is complete, or the attempt must stop. `deadline` is that of the job, if it has one.
    pub(crate) async fn fetch(
        &self,
        lease: LeaseKey,
        stop: &Stop,
        deadline: Option<Instant>,
    ) -> Result<Bytes, NoInput> {
        let latest = Instant::now() + LONGEST_FETCH;
        let ends = deadline.map_or(latest, |deadline| deadline.min(latest));
        let reason = if ends < latest {
            NoInput::Stopped(StopReason::DeadlineExceeded)
        } else {
            NoInput::TooLate
        };
        tokio::select! {
            biased;
            () = stop.token().cancelled() => {
                Err(NoInput::Stopped(stop.reason().unwrap_or(StopReason::Canceled)))
            }
            () = tokio::time::sleep_until(ends.into()) => Err(reason),
            fetched = self.repeat(lease) => fetched.ok_or(NoInput::NotHeld),
        }
    }

    async fn repeat(&self, lease: LeaseKey) -> Option<Bytes> {
        let mut failures = 0_u32;
        loop {
            match self.broker.claimed_payload(lease).await {
                Ok(payload) => return payload,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!(%error, "cannot fetch the payload, retrying");
                    }
                    tokio::time::sleep(Backoff::FOR_CONNECTIONS.draw(failures)).await;
                }
            }
        }
    }
}
