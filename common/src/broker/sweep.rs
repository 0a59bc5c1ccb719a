//! Sweeps, by the first process that calls one: expired leases, due jobs, expired records.

use redis::Cmd;

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::{Broker, reply};
use crate::job::Partition;

/// The outcome of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Jobs reclaimed from silent workers and made ready again.
    pub requeued: u64,
    /// Jobs that failed because of too many losses.
    pub failed: u64,
    /// Due jobs made ready.
    pub promoted: u64,
    /// Expired entries deleted.
    pub trimmed: u64,
}

/// Maximum number of calls in one sweep: a hundred thousand jobs. The next sweep continues where it stopped.
const MAX_CALLS: usize = 1000;

impl Broker {
    /// Sweeps one partition until nothing is left to do, if the last sweep by any process is older than a second.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn sweep(&self, partition: Partition) -> Result<Swept, Error> {
        let mut total = Swept::default();
        for _ in 0..MAX_CALLS {
            let watermark = self.settings.memory_watermark;
            let call = Call::new(Function::Sweep, partition).once();
            let arguments = |command: &mut Cmd| {
                command.arg(watermark);
            };
            let reply = self.link.call(call, arguments).await?;
            let [_, requeued, failed, promoted, trimmed, more] = reply::fields(reply)?;
            total.requeued += reply::unsigned(&requeued)?;
            total.failed += reply::unsigned(&failed)?;
            total.promoted += reply::unsigned(&promoted)?;
            total.trimmed += reply::unsigned(&trimmed)?;
            if reply::integer(&more)? == 0 {
                break;
            }
        }
        Ok(total)
    }
}
