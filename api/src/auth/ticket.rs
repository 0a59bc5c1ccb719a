//! Tickets: what opens the event stream of one job for a browser's `EventSource`, which can send no header, without its key in
//! a URL.
//!
//! A ticket is signed with what is kept of the key that asked for it. So every API with the same file of keys takes it, nothing is
//! stored that a caller could fill memory with, and it opens nothing once its key is revoked. It can be used until its time is
//! over: `EventSource` connects again by itself. It stands in a query, so it is never logged, nor in any answer but the one that
//! makes it.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crunch_common::job::JobId;
use crunch_common::time::{Timestamp, whole_ms};

use super::key::SecretHash;
use super::{Key, KeyId};

/// What every ticket begins with, so that scanners for leaked secrets find it.
pub(super) const PREFIX: &str = "crt_";
/// A page opens its stream at once. The clocks of APIs need not agree any better than that.
const LIFE: Duration = Duration::from_secs(60);
/// What is signed begins with this, so that no other signature of ours is ever a ticket.
const PURPOSE: &str = "crunch stream ticket 1";

/// The right to open one job's event stream for a while: `crt_<key id>_<end, Unix milliseconds>_<signature>`.
pub(crate) struct Ticket {
    key: KeyId,
    pub(crate) expires_at: Timestamp,
    seal: Vec<u8>,
}

impl Ticket {
    /// The query parameter in which it is shown.
    pub(crate) const PARAMETER: &str = "ticket";

    /// A ticket for a job's stream by the right of a key.
    pub(super) fn issue(key: &KeyId, hash: &SecretHash, job: JobId, now: Timestamp) -> Self {
        let expires_at = Timestamp::from_unix_ms(now.unix_ms() + whole_ms(LIFE));
        let seal = hash.sign(text_of(key, expires_at, job).as_bytes()).to_vec();
        Self { key: key.clone(), expires_at, seal }
    }

    pub(super) fn key(&self) -> &KeyId {
        &self.key
    }

    /// Whether that key signed it for that job, and its time is not over.
    pub(super) fn opens(&self, job: JobId, key: &Key, now: Timestamp) -> bool {
        let text = text_of(&key.id, self.expires_at, job);
        key.hash.signed(text.as_bytes(), &self.seal) && now < self.expires_at
    }

    /// The text to hand to a page.
    pub(crate) fn reveal(&self) -> String {
        let (key, end) = (&self.key, self.expires_at.unix_ms());
        format!("{PREFIX}{key}_{end}_{}", URL_SAFE_NO_PAD.encode(&self.seal))
    }
}

fn text_of(key: &KeyId, expires_at: Timestamp, job: JobId) -> String {
    format!("{PURPOSE}\n{key}\n{}\n{job}", expires_at.unix_ms())
}

impl FromStr for Ticket {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.strip_prefix(PREFIX).ok_or(())?.splitn(3, '_');
        let mut part = || parts.next().ok_or(());
        let key = part()?.parse().map_err(|_| ())?;
        let end = part()?.parse().map_err(|_| ())?;
        let seal = URL_SAFE_NO_PAD.decode(part()?).map_err(|_| ())?;
        Ok(Self { key, expires_at: Timestamp::from_unix_ms(end), seal })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Token;
    use super::*;

    fn key() -> Key {
        let token = Token::generate();
        Key {
            id: token.id.clone(),
            name: "test".to_owned(),
            hash: token.hash(),
            scopes: "read".parse().unwrap(),
            queues: None,
            rate: None,
            created_at: Timestamp::now(),
        }
    }

    #[test]
    fn a_ticket_opens_one_jobs_stream_for_a_minute() {
        let jobs = ["01a20c36-14f1-8000-8f8f-f34074aa25aa", "01a20c36-14f1-8000-8f8f-f34074aa25ab"];
        let [job, another] = jobs.map(|id| id.parse().unwrap());
        let (key, begun) = (key(), Timestamp::from_unix_ms(1_000_000));
        let after = |ms: u64| Timestamp::from_unix_ms(begun.unix_ms() + ms);
        let text = Ticket::issue(&key.id, &key.hash, job, begun).reveal();
        let ticket: Ticket = text.parse().unwrap();
        assert!(ticket.opens(job, &key, begun) && ticket.opens(job, &key, after(59_999)));
        assert!(!ticket.opens(job, &key, after(60_000)), "its time is over");
        assert!(!ticket.opens(another, &key, begun), "another job");
        assert!(!ticket.opens(job, &Key { id: key.id.clone(), ..self::key() }, begun));
        let later = text.replace("_1060000_", "_1070000_");
        assert!(later != text && !later.parse::<Ticket>().unwrap().opens(job, &key, begun));
        assert!(text.len() < 100 && text.bytes().all(|byte| byte.is_ascii_graphic()));
    }

    #[test]
    fn other_text_is_no_ticket() {
        for bad in [
            "",
            "crt_",
            "crt_abcdefghij_1_",
            "crt_abcdefghij_x_AA",
            "crk_abcdefghij_1_AA",
            "crt_abcdefghij_1_!",
        ] {
            let ticket = bad.parse::<Ticket>();
            let opens = |ticket: Ticket| {
                let job = "01a20c36-14f1-8000-8f8f-f34074aa25aa".parse().unwrap();
                ticket.opens(job, &key(), Timestamp::from_unix_ms(0))
            };
            assert!(!ticket.is_ok_and(opens), "{bad}");
        }
    }
}
