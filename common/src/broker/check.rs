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
        self.link.open().await?;
        Ok(self.settings.library.name().to_owned())
    }

    /// Checks whether Redis accepts writes now; writes nothing.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        let call = Call::new(Function::Open, Partition::default());
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

    /// Checks whether Redis, as it is configured, supports the minimum durability of this broker.
    pub(crate) async fn check_durability(&self) -> Result<(), Error> {
        Proof::of(&self.link, self.min_durability).await.map(|_| ())
    }
}
