//! What a supervisor does for a worker that died under its eyes: take back what it held, a lease before a sweep would.

use redis::{Cmd, Value};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::lease::WorkerId;
use super::{Broker, reply};
use crate::job::Partition;
use crate::queue::QueueName;

/// What a dead worker held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// Jobs that are ready again.
    pub requeued: u64,
    /// Jobs that failed because they were lost too often.
    pub failed: u64,
}

/// One call looks at no more queues than this.
const QUEUES: usize = 32;

impl Broker {
    /// Takes back everything that a dead worker held, and counts a loss for each. What it had sent before and arrives only
    /// now is refused. Asking again changes nothing.
    ///
    /// Only for whoever saw the worker's process end: jobs of one that lives would run twice.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away; some may have been taken back. Ask again.
    pub async fn reclaim(&self, worker: WorkerId) -> Result<Reclaimed, Error> {
        let mut reclaimed = Reclaimed::default();
        for partition in self.partitions() {
            // First the worker is made known as dead: from then on it gets no new jobs, and the queues listed after that
            // are all where it can hold any.
            self.reclaim_in(partition, worker, &[], &mut reclaimed).await?;
            let queues = self.every_queue(partition).await?;
            for queues in queues.chunks(QUEUES) {
                self.reclaim_in(partition, worker, queues, &mut reclaimed).await?;
            }
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
            let [requeued, failed, done, next] = reply::fields(reply)?;
            reclaimed.requeued += reply::unsigned(&requeued)?;
            reclaimed.failed += reply::unsigned(&failed)?;
            let done = usize::try_from(reply::unsigned(&done)?).unwrap_or(usize::MAX);
            queues = queues.get(done..).unwrap_or_default();
            cursor = reply::text(next)?;
            if queues.is_empty() {
                return Ok(());
            }
        }
    }

    async fn every_queue(&self, partition: Partition) -> Result<Vec<QueueName>, Error> {
        let mut index = redis::pipe();
        index.cmd("ZRANGE").arg(self.settings.keys(partition).queues()).arg(0).arg(-1);
        let [names] = reply::fields(Value::Array(self.link.read(&index).await?))?;
        reply::array(names)?.into_iter().map(reply::parsed).collect()
    }
}
