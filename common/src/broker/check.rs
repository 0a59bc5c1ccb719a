//! Whether Redis can be used: the functions are loaded, the key space is this layout's, writes are accepted, submissions are as
//! durable as they must be.

use redis::Cmd;

use super::connection::Call;
use super::durability::Proof;
use super::error::Error;
use super::functions::Function;
use super::opening::{check_layout, write};
use super::{Broker, reply};
use crate::job::Partition;

impl Broker {
    /// Loads the functions of this version, if they are missing, and returns the name of their library.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is away, [`Error::Rejected`] and [`Error::Refused`] if it does not let us.
    pub async fn load_functions(&self) -> Result<String, Error> {
        self.link.open().await?;
        Ok(self.settings.library.name().to_owned())
    }

    /// Asks whether Redis accepts writes right now; writes nothing.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        let call = Call::new(Function::Open, Partition::default());
        self.link.call(call, |_| ()).await.map(|_| ())
    }

    /// Founds the key space of a partition again, if Redis lost its memory while we were connected.
    pub(crate) async fn initialize(&self, partition: Partition) -> Result<(), Error> {
        let arguments = |command: &mut Cmd| write(command, &self.settings);
        let reply = self.link.call(Call::new(Function::Open, partition), arguments).await?;
        let [layout, partitions] = reply::fields(reply)?;
        let partitions = u16::try_from(reply::unsigned(&partitions)?).unwrap_or(u16::MAX);
        check_layout((reply::unsigned(&layout)?, partitions), &self.settings)
    }

    /// Whether Redis, as it is set up, can give what this broker min_durability on.
    pub(crate) async fn check_durability(&self) -> Result<(), Error> {
        Proof::of(&self.link, self.min_durability).await.map(|_| ())
    }
}
