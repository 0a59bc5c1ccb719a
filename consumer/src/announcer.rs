//! Declares in Redis, for every API, which tasks a worker has and which queues it serves.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error};
use crunch_common::telemetry::LogLimit;
use tokio_util::sync::CancellationToken;

use crate::declared::Declared;
use crate::{Pulse, Reachability};

/// Enough to notice; an operator must act.
static REJECTED: LogLimit = LogLimit::new(Duration::from_secs(60));
/// How soon tasks that were rejected are declared again: there may be room.
const WHILE_REJECTED: Duration = Duration::from_secs(2);

pub(crate) struct Announcer {
    pub(crate) broker: Broker,
    pub(crate) declared: Arc<Declared>,
    /// Shows that the tasks were declared, or that some were rejected. Other pulses show whether Redis is reachable.
    pub(crate) pulse: Pulse,
}

impl Announcer {
    /// Redis keeps a task for 30 days after its last declaration, and an unused queue for an hour.
    const INTERVAL: Duration = Duration::from_secs(60);

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut reachability = Reachability::of("announcer");
        // The first heartbeat comes before.
        let Some(()) = shutdown.run_until_cancelled(self.declared.outdated.notified()).await else {
            return;
        };
        while let Some(announced) = shutdown.run_until_cancelled(self.announce()).await {
            let pause = match announced {
                Ok(()) => {
                    reachability.succeeded();
                    self.pulse.answered();
                    Self::INTERVAL
                }
                // Redis is reachable: other tasks would have to be forgotten first.
                Err(error @ Error::TooManyTasks { .. }) => {
                    if let Some(left_out) = REJECTED.admit() {
                        tracing::warn!(%error, left_out, "some tasks of this worker are not declared, retrying");
                    }
                    self.pulse.failed(&error);
                    WHILE_REJECTED
                }
                Err(error) => reachability.failed(&error),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.declared.outdated.notified() => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn announce(&self) -> Result<(), Error> {
        self.broker.announce(&self.declared.queues(), &self.declared.tasks()).await
    }
}
