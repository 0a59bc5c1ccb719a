//! Receives cancellations immediately, and that an operator requests something. A missed message comes with the next
//! heartbeat's reply.

use std::sync::Arc;

use crunch_common::backoff::Backoff;
use crunch_common::broker::{self, Broker, WorkerId};
use crunch_consumer::Reachability;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::running::RunningJobs;
use crate::stop::StopReason;

pub(crate) struct Control {
    pub(crate) broker: Broker,
    pub(crate) worker: WorkerId,
    pub(crate) running: Arc<RunningJobs>,
    /// Notified to have a heartbeat sent.
    pub(crate) requested: Arc<Notify>,
}

impl Control {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&self) {
        let mut reachability = Reachability::of("control");
        loop {
            match self.broker.controls(self.worker).await {
                Ok(mut controls) => {
                    reachability.succeeded();
                    while let Some(control) = controls.next(|| self.running.count() > 0).await {
                        self.apply(control);
                    }
                    tokio::time::sleep(Backoff::FOR_CONNECTIONS.draw(1)).await;
                }
                Err(error) => tokio::time::sleep(reachability.failed(&error)).await,
            }
        }
    }

    fn apply(&self, control: broker::Control) {
        match control {
            broker::Control::Cancel(lease) => self.running.stop(lease, StopReason::Canceled),
            broker::Control::Heartbeat => self.requested.notify_one(),
            _ => {}
        }
    }
}
