//! The state of all queues together, for the overview. With a thousand queues it takes Redis some 50 ms, so it is read
//! less often than pages are made, and viewers need not wait for it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::rt;
use crunch_common::broker::{Broker, Error, QueuePage, QueueQuery};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::routes::paging::MAX_LIMIT;

/// It is read again after this many times as long as the last read took: so it costs at most 2 % of Redis.
const SHARE: u32 = 50;
/// And no more often than this.
const MIN_AGE: Duration = Duration::from_millis(900);
/// An older state is not shown: nobody has looked at the overview meanwhile, and the first viewer waits.
const MAX_AGE: Duration = Duration::from_secs(15);

/// The last state that was read.
#[derive(Debug, Clone, Default)]
pub(super) struct AllQueues(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    last: Option<Read>,
    is_reading: bool,
}

#[derive(Debug, Clone)]
struct Read {
    queues: Arc<QueuePage>,
    at: Instant,
    took: Duration,
}

impl AllQueues {
    /// Returns the first thousand queues by name, as they were at most some seconds ago.
    ///
    /// # Errors
    /// If Redis is unavailable.
    pub(super) async fn get(&self, broker: &Broker) -> Result<Arc<QueuePage>, Error> {
        let Some(last) = self.last() else { return self.read(broker).await };
        let is_due = last.at.elapsed() >= MIN_AGE.max(last.took * SHARE);
        if is_due && self.begin() {
            let (all, broker) = (self.clone(), broker.clone());
            rt::spawn(async move {
                if let Err(error) = all.read(&broker).await {
                    tracing::debug!(%error, "cannot read the queues for the overview");
                }
                all.0.lock().is_reading = false;
            });
        }
        Ok(last.queues)
    }

    fn last(&self) -> Option<Read> {
        let last = self.0.lock().last.clone();
        last.filter(|last| last.at.elapsed() < MAX_AGE)
    }

    /// Whether nobody reads it already.
    fn begin(&self) -> bool {
        !std::mem::replace(&mut self.0.lock().is_reading, true)
    }

    async fn read(&self, broker: &Broker) -> Result<Arc<QueuePage>, Error> {
        let started = Instant::now();
        let all = QueueQuery { among: None, after: None, limit: MAX_LIMIT };
        let queues = Arc::new(broker.queues(&all).await?);
        let read = Read { queues: queues.clone(), at: Instant::now(), took: started.elapsed() };
        self.0.lock().last = Some(read);
        Ok(queues)
    }
}
