//! What the client orders: mostly quick jobs, and a few of every other kind.

use std::time::Duration;

use crunch_worker::{JobContext, TaskError};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Plan;
use crate::Moment;
use crate::tasks::ledger;

/// The queues, in the order in which workers prefer them.
pub(super) const QUEUES: [&str; 3] = ["work.first", "work.bulk", "work.slow"];
/// The task.
pub(super) const TASK: &str = "chaos.work";

/// One job as the client wants it; the same for the same seed and number.
#[derive(Debug, Clone)]
pub(super) struct Order {
    number: u64,
    queue: &'static str,
    priority: &'static str,
    delay_ms: Option<u64>,
    work: Work,
    /// Whether the client cancels it as soon as it is taken.
    pub(super) is_canceled: bool,
}

/// Payload of the task.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Work {
    number: u64,
    busy_ms: u64,
    /// How many attempts fail first.
    fails: u32,
}

impl Order {
    pub(super) fn draw(plan: &Plan, number: u64) -> Self {
        let mut random =
            Pcg64Mcg::seed_from_u64(plan.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9)));
        let lease_ms = crunch_common::time::whole_ms(plan.lease);
        let is_slow = random.random_bool(0.002);
        let busy_ms = match random.random_range(0..100) {
            _ if is_slow => lease_ms * 3 / 2,
            0..70 => random.random_range(0..5),
            70..95 => random.random_range(20..200),
            _ => random.random_range(200..1000),
        };
        let queue = if is_slow { QUEUES[2] } else { QUEUES[random.random_range(0..2)] };
        let priority = ["low", "normal", "normal", "normal", "high"][random.random_range(0..5)];
        let delay_ms = random.random_bool(0.03).then(|| random.random_range(1..3000));
        let fails = u32::from(random.random_bool(0.01));
        let is_canceled = random.random_bool(0.01);
        Self {
            number,
            queue,
            priority,
            delay_ms,
            work: Work { number, busy_ms, fails },
            is_canceled,
        }
    }

    pub(super) fn is_delayed(&self) -> bool {
        self.delay_ms.is_some()
    }

    /// As an item of a batch.
    pub(super) fn json(&self) -> Value {
        json!({
            "task": TASK, "queue": self.queue, "priority": self.priority, "payload": self.work,
            "delay_ms": self.delay_ms, "idempotency_key": format!("order-{}", self.number),
        })
    }
}

/// The handler: notes its start, works, fails as often as it was told to, notes its end, and names the attempt in its
/// result.
pub(crate) async fn work(job: JobContext, input: Value) -> Result<Value, TaskError> {
    let input: Work = serde_json::from_value(input)?;
    let ledger = ledger()?;
    ledger.note(Moment::Start, &job)?;
    if input.busy_ms > 0 {
        let asleep = tokio::time::sleep(Duration::from_millis(input.busy_ms));
        if job.cancellation().run_until_cancelled(asleep).await.is_none() {
            return Err(TaskError::retryable("asked to stop"));
        }
    }
    if job.attempt() <= input.fails {
        return Err(TaskError::retryable("not yet"));
    }
    ledger.note(Moment::End, &job)?;
    Ok(json!({ "number": input.number, "epoch": job.epoch().number() }))
}
