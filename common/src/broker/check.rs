//! Checks whether Redis is usable: the functions are loaded, the key space has this layout, writes are accepted, and
//! submissions can be as durable as required.

use redis::Cmd;

use super::Broker;
use super::connection::Call;
use super::durability::Proof;
use super::error::Error;
use super::functions::Function;
use super::opening::{check_layout, write};
use crate::job::Partition;

impl Broker {
    /// Loads the functions of this version if they are missing, and returns the name of their library.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable, [`Error::Rejected`] and [`Error::Refused`] if it does not permit
    /// that.
    pub async fn load_functions(&self) -> Result<String, Error> {
        for node in self.partition_of_each_node().await? {
            self.link.open(node).await?;
        }
        Ok(self.settings.library.name().to_owned())
    }

    /// Checks whether the node of a partition is usable: see [`Broker::open`].
    pub(crate) async fn open_node(&self, partition: Partition) -> Result<(), Error> {
        self.link.open(partition).await?;
        // A function that may write: Redis answers pings and reads while it rejects every write because replicas are
        // missing. Without memory it still runs this one, as it runs everything that frees memory.
        self.probe(partition).await?;
        self.check_durability(partition).await
    }

    /// Checks whether Redis accepts writes now; writes nothing.
    async fn probe(&self, partition: Partition) -> Result<(), Error> {
        let call = Call::new(Function::Open, partition);
        self.link.call(call, |_| ()).await.map(|_| ())
    }

    /// Initializes the key space of a partition again, if Redis lost its data while this process was connected.
    pub(crate) async fn initialize(&self, partition: Partition) -> Result<(), Error> {
        let arguments = |command: &mut Cmd| write(command, &self.settings);
        let reply = self.link.call(Call::new(Function::Open, partition), arguments).await?;
        let layout = redis::from_redis_value(reply);
        let layout = layout.map_err(|error| Error::unreadable(error.to_string()))?;
        check_layout(&layout, &self.settings)
    }

    /// Checks whether the node of a partition, as it is configured, supports the minimum durability of this broker.
    async fn check_durability(&self, partition: Partition) -> Result<(), Error> {
        Proof::of(&self.link, partition, self.min_durability).await.map(|_| ())
    }
}
