//! The log of what operators did: the newest 10 000 actions, in the first partition. What an action is, and who may see
//! it, is decided by the API: here it is opaque.

use redis::{Cmd, Value};

use super::connection::Call;
use super::error::Error;
use super::functions::Function;
use super::transfer::MinRate;
use super::{Broker, reply};
use crate::job::Partition;
use crate::time::Timestamp;

/// How long an action is at most: a filter may have a few long values.
pub const MAX_ACTION_BYTES: usize = 4096;

/// An action that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedAction {
    /// When.
    pub at: Timestamp,
    /// What was recorded: JSON.
    pub action: String,
}

impl Broker {
    /// Records an action, JSON of at most [`MAX_ACTION_BYTES`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn log_action(&self, action: &str) -> Result<(), Error> {
        let arguments = |command: &mut Cmd| {
            command.arg(action);
        };
        let call = Call::new(Function::LogAction, Partition::default());
        self.link.call(call, arguments).await.map(drop)
    }

    /// Returns recorded actions, the newest first: `limit` after the first `skip`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn logged_actions(
        &self,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<LoggedAction>, Error> {
        let partition = Partition::default();
        let mut pipeline = redis::pipe();
        let key = self.settings.keys(partition).actions();
        pipeline.cmd("LRANGE").arg(key).arg(skip).arg((skip + limit).saturating_sub(1));
        let bytes = (limit * MAX_ACTION_BYTES) as u64;
        let replies = self.pages.read(partition, &pipeline, bytes, MinRate::ForCaller).await?;
        let [actions] = reply::fields(Value::Array(replies))?;
        reply::array(actions)?.into_iter().map(|action| read(&reply::text(action)?)).collect()
    }
}

fn read(text: &str) -> Result<LoggedAction, Error> {
    let (at, action) = text.split_once(' ').unwrap_or(("", text));
    let at = Timestamp::from_unix_ms(reply::parse(at)?);
    Ok(LoggedAction { at, action: action.to_owned() })
}
