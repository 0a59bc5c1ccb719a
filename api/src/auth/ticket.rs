//! Tickets: they give a browser's `EventSource`, which cannot send headers, access to the event stream of one job,
//! without a key in a URL.
//!
//! A ticket is signed with the stored hash of the key that requested it. So every API with the same file of keys
//! accepts it, nothing is stored with which a caller could fill memory, and it is invalid once its key is revoked. It
//! can be used several times until it expires: `EventSource` reconnects by itself. It is part of a query, so it is
//! never logged, and returned only in the answer that creates it.

use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crunch_common::job::JobId;
use crunch_common::time::{Timestamp, whole_ms};

use super::key::SecretHash;
use super::{ApiKey, KeyId};

/// The prefix of every ticket, by which scanners for leaked secrets find it.
pub(super) const PREFIX: &str = "crt_";
/// Lifetime of a ticket. A page opens its stream at once; the clocks of APIs may differ by less than this.
const LIFE: Duration = Duration::from_secs(60);
/// The prefix of the signed text, so that no other signature with this key is valid as a ticket.
const PURPOSE: &str = "crunch stream ticket 1";

/// The right to open one job's event stream until it expires: `crt_<key id>_<expiry, Unix milliseconds>_<signature>`.
pub(crate) struct Ticket {
    key: KeyId,
    pub(crate) expires_at: Timestamp,
    signature: Vec<u8>,
}

impl Ticket {
    /// The query parameter in which it is sent.
    pub(crate) const PARAMETER: &str = "ticket";

    /// Creates a ticket for a job's stream with the rights of a key.
    pub(super) fn issue(key: &KeyId, hash: &SecretHash, job: JobId, now: Timestamp) -> Self {
        let expires_at = Timestamp::from_unix_ms(now.unix_ms() + whole_ms(LIFE));
        let signature = hash.sign(signed_text(key, expires_at, job).as_bytes()).to_vec();
        Self { key: key.clone(), expires_at, signature }
    }

    pub(super) fn key(&self) -> &KeyId {
        &self.key
    }

    /// Whether it is signed with the key for the job, and has not expired.
    pub(super) fn opens(&self, job: JobId, key: &ApiKey, now: Timestamp) -> bool {
        let text = signed_text(&key.id, self.expires_at, job);
        key.hash.signed(text.as_bytes(), &self.signature) && now < self.expires_at
    }

    /// The text to give to a page.
    pub(crate) fn reveal(&self) -> String {
        let (key, expiry) = (&self.key, self.expires_at.unix_ms());
        format!("{PREFIX}{key}_{expiry}_{}", URL_SAFE_NO_PAD.encode(&self.signature))
    }
}

fn signed_text(key: &KeyId, expires_at: Timestamp, job: JobId) -> String {
    format!("{PURPOSE}\n{key}\n{}\n{job}", expires_at.unix_ms())
}

impl FromStr for Ticket {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.strip_prefix(PREFIX).ok_or(())?.splitn(3, '_');
        let mut part = || parts.next().ok_or(());
        let key = part()?.parse().map_err(|_| ())?;
        let expiry = part()?.parse().map_err(|_| ())?;
        let signature = URL_SAFE_NO_PAD.decode(part()?).map_err(|_| ())?;
        Ok(Self { key, expires_at: Timestamp::from_unix_ms(expiry), signature })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Token;
    use super::*;

    fn key() -> ApiKey {
        let token = Token::generate();
        ApiKey {
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
        let (key, issued) = (key(), Timestamp::from_unix_ms(1_000_000));
        let after = |ms: u64| Timestamp::from_unix_ms(issued.unix_ms() + ms);
        let text = Ticket::issue(&key.id, &key.hash, job, issued).reveal();
        let ticket: Ticket = text.parse().unwrap();
        assert!(ticket.opens(job, &key, issued) && ticket.opens(job, &key, after(59_999)));
        assert!(!ticket.opens(job, &key, after(60_000)), "it has expired");
        assert!(!ticket.opens(another, &key, issued), "another job");
        assert!(!ticket.opens(job, &ApiKey { id: key.id.clone(), ..self::key() }, issued));
        let later = text.replace("_1060000_", "_1070000_");
        assert!(later != text && !later.parse::<Ticket>().unwrap().opens(job, &key, issued));
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
