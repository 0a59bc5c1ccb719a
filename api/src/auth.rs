//! Who asks, and what they may do. The routes declare what they need; this decides before a handler runs.
//!
//! Never says why a key was not taken: whoever guesses learns nothing.

mod file;
mod key;
mod rights;
mod ring;
mod ticket;

use std::collections::BTreeSet;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use crunch_common::job::JobId;
use crunch_common::queue::QueueName;
use crunch_common::telemetry::LogLimit;
use crunch_common::time::Timestamp;

pub(crate) use file::{FileError, KeyFile};
pub use key::KeyId;
pub(crate) use key::{Key, Token};
pub use rights::{Queues, Scope, Scopes};
pub(crate) use ring::KeyRing;
pub(crate) use ticket::Ticket;

use self::key::SecretHash;

use crate::problem::{BURST, INTERNAL, Problem, UNAUTHORIZED};
use crate::rate::Rate;

/// What keys and tickets begin with.
pub(crate) const SECRETS: [&str; 2] = [key::PREFIX, ticket::PREFIX];

/// How callers are known.
#[derive(Debug, Clone)]
pub(crate) enum Authority {
    /// Not at all: anybody may do anything.
    Off,
    /// By their keys.
    Keys(Arc<KeyRing>),
}

/// Whoever sent a request that was let in.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Known);

#[derive(Debug, Clone)]
enum Known {
    /// Only by address, where nobody must show a key.
    Address(Option<IpAddr>),
    Key(Arc<Key>),
}

/// Who is limited together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    Key(KeyId),
    Address(Option<IpAddr>),
}

impl Caller {
    /// Whether jobs of that queue are the caller's business.
    pub(crate) fn may_use(&self, queue: &QueueName) -> bool {
        self.queues().is_none_or(|queues| queues.contains(queue))
    }

    /// The only queues the caller may use; `None` if it may use all.
    pub(crate) fn queues(&self) -> Option<&BTreeSet<QueueName>> {
        match &self.0 {
            Known::Address(_) => None,
            Known::Key(key) => key.queues.as_ref().map(Queues::names),
        }
    }

    /// Whose idempotency keys these are: those of two callers never meet.
    pub(crate) fn idempotency_scope(&self) -> String {
        match &self.0 {
            // As it was before there were API keys: clients that repeat a request over an upgrade get the same job.
            Known::Address(_) => "anonymous".to_owned(),
            Known::Key(key) => format!("key {}", key.id),
        }
    }

    /// Who is limited together with this caller.
    pub(crate) fn identity(&self) -> Identity {
        match &self.0 {
            Known::Address(address) => Identity::Address(*address),
            Known::Key(key) => Identity::Key(key.id.clone()),
        }
    }

    /// The rate that the caller's key was given.
    pub(crate) fn own_rate(&self) -> Option<Rate> {
        match &self.0 {
            Known::Address(_) => None,
            Known::Key(key) => key.rate,
        }
    }

    /// A ticket for a job's stream by this caller's right. Where nobody must show anything it opens what is open.
    pub(crate) fn ticket(&self, job: JobId) -> Ticket {
        let now = Timestamp::now();
        match &self.0 {
            Known::Address(_) => Ticket::issue(&KeyId::nobody(), &SecretHash::NOTHING, job, now),
            Known::Key(key) => Ticket::issue(&key.id, &key.hash, job, now),
        }
    }

    pub(crate) fn has(&self, scope: Scope) -> bool {
        match &self.0 {
            Known::Address(_) => true,
            Known::Key(key) => key.scopes.allow(scope),
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    /// Set by `routes/guard.rs`; a route that went around it serves nobody.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| Problem::new(INTERNAL, "nobody was let in")))
    }
}

/// Anybody may send keys: one line for a burst. Who sends them stands in the log of a proxy, or in the metrics how many.
static REFUSED: LogLimit = LogLimit::new(BURST);
static TICKETS_REFUSED: LogLimit = LogLimit::new(BURST);

/// How to show a key (RFC 6750, section 3).
pub(crate) const CHALLENGE: &str = "Bearer idempotency_scope=\"crunch\"";

impl Authority {
    /// Who shows a ticket instead of a key. Beside a key it is not looked at: one of them may have been put there by somebody
    /// else.
    pub(crate) fn redeem(
        &self,
        ticket: &str,
        request: &ServiceRequest,
        address: Option<IpAddr>,
    ) -> Result<Caller, Problem> {
        let Self::Keys(ring) = self else { return Ok(Caller(Known::Address(address))) };
        let job = request.match_info().get("id").and_then(|id| id.parse().ok());
        let alone = !request.headers().contains_key(header::AUTHORIZATION);
        let ticket: Option<Ticket> = ticket.parse().ok().filter(|_| alone);
        let key = ticket.zip(job).and_then(|(ticket, job)| ring.find_by_ticket(&ticket, job));
        key.map(|key| Caller(Known::Key(key))).ok_or_else(|| {
            if let Some(left_out) = TICKETS_REFUSED.admit() {
                tracing::info!(?address, left_out, "a ticket for a stream was refused");
            }
            let detail = "the ticket does not open this stream, is beside a key, or its 60 seconds are over: POST /stream-tickets makes another";
            Problem::new(UNAUTHORIZED, detail).header(header::WWW_AUTHENTICATE, CHALLENGE)
        })
    }

    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> Result<Caller, Problem> {
        let ring = match self {
            Self::Off => return Ok(Caller(Known::Address(address))),
            Self::Keys(ring) => ring,
        };
        let mut given = headers.get_all(header::AUTHORIZATION);
        let Some(first) = given.next() else {
            let detail = "an API key is needed: Authorization: Bearer crk_\u{2026}";
            return Err(
                Problem::new(UNAUTHORIZED, detail).header(header::WWW_AUTHENTICATE, CHALLENGE)
            );
        };
        // Two keys are no key: one of them may have been put there by somebody else.
        let only = given.next().is_none().then_some(first);
        let token = only.and_then(|value| Token::from_header(value.to_str().ok()?));
        token.and_then(|token| ring.find(&token)).map(|key| Caller(Known::Key(key))).ok_or_else(
            || {
                if let Some(left_out) = REFUSED.admit() {
                    tracing::info!(?address, left_out, "an API key was refused");
                }
                let challenge = format!("{CHALLENGE}, error=\"invalid_token\"");
                Problem::new(UNAUTHORIZED, "the API key is not one that is taken here")
                    .header(header::WWW_AUTHENTICATE, &challenge)
            },
        )
    }
}
