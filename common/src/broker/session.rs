//! Sessions of the dashboard, so that every API accepts a session that one of them opened. Redis has only the digest of
//! what the browser sends: a copy of Redis opens no session.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use redis::Value;

use super::error::Error;
use super::{Broker, reply};
use crate::job::Partition;
use crate::time::whole_ms;

/// The SHA-256 of the secret of a session: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionDigest([u8; 32]);

/// Not the digest of a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits")]
pub struct InvalidSessionDigest;

impl From<[u8; 32]> for SessionDigest {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl FromStr for SessionDigest {
    type Err = InvalidSessionDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 64 || !text.bytes().all(is_digit) {
            return Err(InvalidSessionDigest);
        }
        let mut digest = [0; 32];
        for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| InvalidSessionDigest)?;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for SessionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Broker {
    /// Keeps a session for a time. `owner` is what it belongs to; it is not interpreted here.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn open_session(
        &self,
        digest: &SessionDigest,
        owner: &str,
        lifetime: Duration,
    ) -> Result<(), Error> {
        let mut command = redis::cmd("SET");
        command.arg(self.session_key(digest)).arg(owner).arg("PX").arg(whole_ms(lifetime));
        self.on_session(command).await.map(drop)
    }

    /// Returns what each of these sessions belongs to; `None` if there is no such session, or it has expired. One command.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable.
    pub async fn sessions(&self, digests: &[SessionDigest]) -> Result<Vec<Option<String>>, Error> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        for digest in digests {
            command.arg(self.session_key(digest));
        }
        let owners = reply::array(self.on_session(command).await?)?.into_iter();
        owners
            .map(|owner| match owner {
                Value::Nil => Ok(None),
                owner => reply::text(owner).map(Some),
            })
            .collect()
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if Redis is unavailable; the session may go on.
    pub async fn end_session(&self, digest: &SessionDigest) -> Result<(), Error> {
        let mut command = redis::cmd("DEL");
        command.arg(self.session_key(digest));
        self.on_session(command).await.map(drop)
    }

    fn session_key(&self, digest: &SessionDigest) -> String {
        self.settings.keys(Partition::default()).session(digest)
    }

    async fn on_session(&self, command: redis::Cmd) -> Result<Value, Error> {
        let mut replies =
            self.pooled(Partition::default(), redis::pipe().add_command(command)).await?;
        replies.pop().ok_or_else(|| Error::unreadable("no reply"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_as_it_is_written() {
        let digest = SessionDigest::from([0xa5; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for wrong in ["", "a5", &"g".repeat(64), &"A".repeat(64), &"a".repeat(65)] {
            assert_eq!(wrong.parse::<SessionDigest>(), Err(InvalidSessionDigest), "{wrong}");
        }
    }
}
