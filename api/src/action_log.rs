//! The log of operators' actions: who did what, to what, and to how many. Everything that needs the scope `admin` is in it,
//! and what is canceled in the dashboard; not submissions, and not what clients cancel themselves.
//!
//! An action is recorded once it is done. If that fails, it is in the log of the process only.

use crunch_common::broker::{LoggedAction, MAX_ACTION_BYTES};
use crunch_common::queue::QueueName;
use crunch_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::document::KindDocument;
use crate::document::words::OPERATOR_ACTIONS;
use crate::state::App;

/// What an operator did.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = OperatorAction)]
pub(crate) struct Action {
    /// By Redis' clock.
    #[serde(default = "epoch")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// The name of the key; null without keys.
    pub(crate) key: Option<String>,
    /// The address of the caller, where no key is required; null with keys.
    pub(crate) address: Option<String>,
    /// Such as `pause`, `retry` or `stop`.
    pub(crate) action: String,
    /// The queue that it concerned, if it was one.
    pub(crate) queue: Option<String>,
    /// The group of that queue, if it was one.
    pub(crate) group: Option<String>,
    /// The schedule, if it was one.
    pub(crate) schedule: Option<String>,
    /// The limit that queues share, if it was one.
    pub(crate) limit: Option<String>,
    /// The job, if it was one.
    pub(crate) job: Option<String>,
    /// The worker, if it was one.
    pub(crate) worker: Option<String>,
    /// Which jobs, if it was a filter: its parameters, such as `status=failed task=report`.
    pub(crate) filter: Option<String>,
    /// The kind of error, if the filter has one, as it was then.
    pub(crate) error: Option<KindDocument>,
    /// How many jobs were changed; null if it was not about jobs.
    pub(crate) count: Option<u64>,
}

/// Until it is recorded it has no time.
fn epoch() -> Timestamp {
    Timestamp::from_unix_ms(0)
}

impl Action {
    /// An action of that name, on nothing yet.
    pub(crate) fn named(action: &str) -> Self {
        debug_assert!(OPERATOR_ACTIONS.contains(&action), "{action} is not documented");
        Self {
            at: epoch(),
            key: None,
            address: None,
            action: action.to_owned(),
            queue: None,
            group: None,
            schedule: None,
            limit: None,
            job: None,
            worker: None,
            filter: None,
            error: None,
            count: None,
        }
    }

    pub(crate) fn on_queue(self, queue: &QueueName) -> Self {
        Self { queue: Some(queue.to_string()), ..self }
    }

    pub(crate) fn on_group(self, group: &impl ToString) -> Self {
        Self { group: Some(group.to_string()), ..self }
    }

    pub(crate) fn on_schedule(self, schedule: &impl ToString) -> Self {
        Self { schedule: Some(schedule.to_string()), ..self }
    }

    pub(crate) fn on_limit(self, limit: &impl ToString) -> Self {
        Self { limit: Some(limit.to_string()), ..self }
    }

    pub(crate) fn on_job(self, job: &impl ToString) -> Self {
        Self { job: Some(job.to_string()), ..self }
    }

    pub(crate) fn on_worker(self, worker: &impl ToString) -> Self {
        Self { worker: Some(worker.to_string()), ..self }
    }

    pub(crate) fn on_jobs(self, filter: String) -> Self {
        Self { filter: Some(filter), ..self }
    }

    pub(crate) fn with_error(self, error: Option<KindDocument>) -> Self {
        Self { error, ..self }
    }

    pub(crate) fn changing(self, count: u64) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Records that the caller did it.
    pub(crate) async fn record(mut self, app: &App, caller: &Caller) {
        self.key = caller.key_name().map(str::to_owned);
        self.address = caller.address().map(|address| address.to_string());
        let Self {
            key,
            address,
            action,
            queue,
            group,
            schedule,
            limit,
            job,
            worker,
            filter,
            count,
            ..
        } = &self;
        tracing::info!(
            key,
            address,
            action,
            queue,
            group,
            schedule,
            limit,
            job.id = job,
            worker.id = worker,
            filter,
            count,
            "an operator acted"
        );
        let recorded = match serde_json::to_string(&self) {
            Ok(json) if json.len() <= MAX_ACTION_BYTES => app.broker.log_action(&json).await,
            // Only a filter can be so long.
            _ => {
                self.filter = self.filter.map(|_| "…".to_owned());
                let json = serde_json::to_string(&self).unwrap_or_default();
                app.broker.log_action(&json).await
            }
        };
        if let Err(error) = recorded {
            tracing::warn!(%error, "cannot record an operator's action in Redis");
        }
    }

    /// Reads an action that was recorded; `None` if a later version wrote it otherwise.
    pub(crate) fn read(logged: &LoggedAction) -> Option<Self> {
        let action = serde_json::from_str(&logged.action).ok()?;
        Some(Self { at: logged.at, ..action })
    }
}
