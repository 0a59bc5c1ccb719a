//! Reclaims the leases of a dead worker, for a supervisor that saw it exit: a lease time earlier than a sweep would.

use futures_util::stream::{self, StreamExt};
use redis::{Cmd, Value};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::worker_id::WorkerId;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;

/// The jobs reclaimed from a dead worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// Jobs that are ready again.
    pub requeued: u64,
    /// Jobs that failed because of too many losses.
    pub failed: u64,
}

/// Maximum number of queues in one call.
const MAX_QUEUES: usize = 32;
/// How many partitions reclaim at once.
const AT_ONCE: usize = 16;

impl Broker {
    /// Reclaims all leases of a dead worker, and counts a loss for each. Calls that the worker sent before and that
    /// arrive later are rejected. Idempotent.
    ///
    /// Only for a process that saw the worker exit: the jobs of a live worker would run twice.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; some may have been reclaimed; retry.
    pub async fn reclaim(&self, worker: WorkerId) -> Result<Reclaimed, Error> {
        // A partition that cannot be reached does not hold up the others.
        let partitions = stream::iter(self.partitions())
            .map(|partition| self.reclaim_all_in(partition, worker))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>();
        let partitions: Vec<_> = partitions.await.into_iter().collect::<Result<_, _>>()?;
        Ok(partitions.into_iter().fold(Reclaimed::default(), |sum, part| Reclaimed {
            requeued: sum.requeued + part.requeued,
            failed: sum.failed + part.failed,
        }))
    }

    async fn reclaim_all_in(
        &self,
        partition: Partition,
        worker: WorkerId,
    ) -> Result<Reclaimed, Error> {
        let mut reclaimed = Reclaimed::default();
        // First the worker is recorded as dead: from then on it gets no new jobs, and the queues listed after that are
        // all in which it can have any.
        self.reclaim_in(partition, worker, &[], &mut reclaimed).await?;
        let queues = self.all_queues(partition).await?;
        for queues in queues.chunks(MAX_QUEUES) {
            self.reclaim_in(partition, worker, queues, &mut reclaimed).await?;
        }
        Ok(reclaimed)
    }

    async fn reclaim_in(
        &self,
        partition: Partition,
        worker: WorkerId,
        mut queues: &[QueueName],
        reclaimed: &mut Reclaimed,
    ) -> Result<(), Error> {
        let mut cursor = "0".to_owned();
        loop {
            let arguments = |command: &mut Cmd| {
                command.arg(worker.to_string()).arg(&cursor);
                queues.iter().for_each(|queue| {
                    command.arg(queue.as_str());
                });
            };
            let reply = self.link.call(Call::new(Function::Reclaim, partition), arguments).await?;
            let [requeued, failed, finished, next] = reply::fields(reply)?;
            reclaimed.requeued += reply::unsigned(&requeued)?;
            reclaimed.failed += reply::unsigned(&failed)?;
            let finished = usize::try_from(reply::unsigned(&finished)?).unwrap_or(usize::MAX);
            queues = queues.get(finished..).unwrap_or_default();
            cursor = reply::text(next)?;
            if queues.is_empty() {
                return Ok(());
            }
        }
    }

    async fn all_queues(&self, partition: Partition) -> Result<Vec<QueueName>, Error> {
        let mut index = redis::pipe();
        index.cmd("ZRANGE").arg(self.settings.keys(partition).queues()).arg(0).arg(-1);
        let [names] = reply::fields(Value::Array(self.link.read(partition, &index).await?))?;
        reply::array(names)?.into_iter().map(reply::parsed).collect()
    }
}
