//! Housekeeping by whoever comes first: expired leases, due jobs, expired records.

use redis::Cmd;

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::{Broker, reply};
use crate::job::Partition;

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Jobs taken back from silent workers and made ready again.
    pub requeued: u64,
    /// Jobs that failed because they were lost too often.
    pub failed: u64,
    /// Due jobs made ready.
    pub promoted: u64,
    /// Expired entries forgotten.
    pub trimmed: u64,
}

/// One sweep goes on for no more calls than this: a hundred thousand jobs. The next one goes on where it stopped.
const MOST_CALLS: usize = 1000;

impl Broker {
    /// Sweeps one partition until nothing is left to do, if the last sweep by anybody is older than a second.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away.
    pub async fn sweep(&self, partition: Partition) -> Result<Swept, Error> {
        let mut total = Swept::default();
        for _ in 0..MOST_CALLS {
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
