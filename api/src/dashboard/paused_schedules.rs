//! The schedules that are paused although nobody requested it, for the overview: read at most every five seconds, and so
//! rarely that it takes at most 2 % of Redis' time.

use std::sync::Arc;
use std::time::Duration;

use crunch_common::broker::{Broker, Error, Pause, ScheduleRecord};
use crunch_common::queue::QueueName;
use crunch_common::schedule::ScheduleName;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::routes::paging::MAX_LIMIT;

const FRESH: Duration = Duration::from_secs(5);
/// They are read again after this many times as long as the last read took.
const SHARE: u32 = 50;

/// A schedule that nobody paused.
#[derive(Debug)]
pub(super) struct Paused {
    pub(super) name: ScheduleName,
    pub(super) queue: QueueName,
    pub(super) reason: String,
}

/// Those among the first thousand by name, as they were read last, and until when that is good enough.
#[derive(Debug, Default)]
pub(super) struct PausedSchedules(Mutex<Option<(Instant, Arc<Vec<Paused>>)>>);

impl PausedSchedules {
    /// # Errors
    /// If Redis is unavailable.
    pub(super) async fn get(&self, broker: &Broker) -> Result<Arc<Vec<Paused>>, Error> {
        let mut last = self.0.lock().await;
        if let Some((until, paused)) = &*last
            && Instant::now() < *until
        {
            return Ok(paused.clone());
        }
        let started = Instant::now();
        let records = broker.schedules(None, None, MAX_LIMIT).await?;
        let paused = Arc::new(records.into_iter().filter_map(paused).collect::<Vec<_>>());
        let until = Instant::now() + FRESH.max(started.elapsed() * SHARE);
        *last = Some((until, paused.clone()));
        Ok(paused)
    }

    /// Forgets them: a viewer has changed something.
    pub(super) async fn clear(&self) {
        *self.0.lock().await = None;
    }
}

fn paused(record: ScheduleRecord) -> Option<Paused> {
    let pause = record.paused.filter(|pause| pause.code != Pause::REQUESTED)?;
    Some(Paused { name: record.name, queue: record.spec.queue, reason: pause.reason })
}
