//! Authenticates callers and checks their rights. The routes declare what they need; this module decides before a
//! handler runs.
//!
//! Never reports why a key was rejected, so that guessing keys reveals nothing.

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
pub(crate) use key::{ApiKey, Token};
pub use rights::{Queues, Scope, Scopes};
pub(crate) use ring::KeyRing;
pub(crate) use ticket::Ticket;

use self::key::SecretHash;

use crate::problem::{BURST, INTERNAL, Problem, UNAUTHORIZED};
use crate::rate::Rate;

/// Prefixes of keys and tickets.
pub(crate) const SECRETS: [&str; 2] = [key::PREFIX, ticket::PREFIX];

/// How callers are authenticated.
#[derive(Debug, Clone)]
pub(crate) enum Authority {
    /// Not at all: every caller may do everything.
    Off,
    /// By their API keys.
    Keys(Arc<KeyRing>),
}

/// The sender of an authorized request.
#[derive(Debug, Clone)]
pub(crate) struct Caller(IdentifiedBy);

#[derive(Debug, Clone)]
enum IdentifiedBy {
    /// Only the address, where no key is required.
    Address(Option<IpAddr>),
    Key(Arc<ApiKey>),
}

/// The unit to which rate limits apply.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    Key(KeyId),
    Address(Option<IpAddr>),
}

impl Caller {
    /// A caller that may do everything, for what belongs to the deployment and to no key.
    pub(crate) const fn of_the_deployment() -> Self {
        Self(IdentifiedBy::Address(None))
    }

    /// Returns the id of the caller's key, if it has one.
    pub(crate) fn key_id(&self) -> Option<&KeyId> {
        match &self.0 {
            IdentifiedBy::Address(_) => None,
            IdentifiedBy::Key(key) => Some(&key.id),
        }
    }

    /// Whether the caller may use jobs of the queue.
    pub(crate) fn may_use(&self, queue: &QueueName) -> bool {
        self.queues().is_none_or(|queues| queues.contains(queue))
    }

    /// Returns the only queues the caller may use; `None` if it may use all.
    pub(crate) fn queues(&self) -> Option<&BTreeSet<QueueName>> {
        match &self.0 {
            IdentifiedBy::Address(_) => None,
            IdentifiedBy::Key(key) => key.queues.as_ref().map(Queues::names),
        }
    }

    /// Returns the namespace of the caller's idempotency keys: those of two callers never collide.
    pub(crate) fn idempotency_scope(&self) -> String {
        match &self.0 {
            // Unchanged since before API keys existed: clients that repeat a request across an upgrade get the same
            // job.
            IdentifiedBy::Address(_) => "anonymous".to_owned(),
            IdentifiedBy::Key(key) => format!("key {}", key.id),
        }
    }

    /// Returns the unit to which the caller's rate limit applies.
    pub(crate) fn identity(&self) -> Identity {
        match &self.0 {
            IdentifiedBy::Address(address) => Identity::Address(*address),
            IdentifiedBy::Key(key) => Identity::Key(key.id.clone()),
        }
    }

    /// Returns the rate of the caller's key, if it has its own.
    pub(crate) fn own_rate(&self) -> Option<Rate> {
        match &self.0 {
            IdentifiedBy::Address(_) => None,
            IdentifiedBy::Key(key) => key.rate,
        }
    }

    /// Issues a ticket for a job's stream, with this caller's rights. Where no key is required, the stream is open
    /// anyway.
    pub(crate) fn ticket(&self, job: JobId) -> Ticket {
        let now = Timestamp::now();
        match &self.0 {
            IdentifiedBy::Address(_) => {
                Ticket::issue(&KeyId::anonymous(), &SecretHash::NOTHING, job, now)
            }
            IdentifiedBy::Key(key) => Ticket::issue(&key.id, &key.hash, job, now),
        }
    }

    /// Returns the caller's address, if it has no key.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match &self.0 {
            IdentifiedBy::Address(address) => *address,
            IdentifiedBy::Key(_) => None,
        }
    }

    /// Returns the name of the caller's key, if it has one.
    pub(crate) fn key_name(&self) -> Option<&str> {
        match &self.0 {
            IdentifiedBy::Address(_) => None,
            IdentifiedBy::Key(key) => Some(&key.name),
        }
    }

    pub(crate) fn has(&self, scope: Scope) -> bool {
        match &self.0 {
            IdentifiedBy::Address(_) => true,
            IdentifiedBy::Key(key) => key.scopes.allow(scope),
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    /// The caller is set by `routes/guard.rs`; a route that bypasses it answers every request with 500.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| {
            tracing::error!("a route has no caller: it bypasses the guard");
            Problem::new(INTERNAL, "internal error")
        }))
    }
}

/// Any client can cause these lines: a burst logs one. The senders are in the log of a proxy, their number is in the
/// metrics.
static REJECTED_KEYS: LogLimit = LogLimit::new(BURST);
static REJECTED_TICKETS: LogLimit = LogLimit::new(BURST);

/// The value of `WWW-Authenticate`: how to send a key (RFC 6750, section 3).
pub(crate) const CHALLENGE: &str = "Bearer realm=\"crunch\"";

impl Authority {
    /// Authenticates a request by its ticket. A ticket together with a key is rejected: one of them may come from a
    /// third party.
    pub(crate) fn redeem(
        &self,
        ticket: &str,
        request: &ServiceRequest,
        address: Option<IpAddr>,
    ) -> Result<Caller, Problem> {
        let Self::Keys(ring) = self else { return Ok(Caller(IdentifiedBy::Address(address))) };
        let job = request.match_info().get("id").and_then(|id| id.parse().ok());
        let alone = !request.headers().contains_key(header::AUTHORIZATION);
        let ticket: Option<Ticket> = ticket.parse().ok().filter(|_| alone);
        let key = ticket.zip(job).and_then(|(ticket, job)| ring.find_by_ticket(&ticket, job));
        key.map(|key| Caller(IdentifiedBy::Key(key))).ok_or_else(|| {
            if let Some(left_out) = REJECTED_TICKETS.admit() {
                tracing::info!(?address, left_out, "stream ticket rejected");
            }
            let detail = "the ticket is not for this stream, is sent together with a key, or has expired after 60 seconds: POST /stream-tickets issues another";
            Problem::new(UNAUTHORIZED, detail).header(header::WWW_AUTHENTICATE, CHALLENGE)
        })
    }

    /// Returns the id of a key that was sent in a form, if the key is valid. Where no key is required, none is.
    pub(crate) fn key_of(&self, text: &str) -> Option<KeyId> {
        let Self::Keys(ring) = self else { return None };
        ring.find(&text.trim().parse().ok()?).map(|key| key.id.clone())
    }

    /// Returns a caller with the rights of a key, as long as the key is valid.
    pub(crate) fn caller_with(&self, key: &KeyId) -> Option<Caller> {
        let Self::Keys(ring) = self else { return None };
        ring.find_by_id(key).map(|key| Caller(IdentifiedBy::Key(key)))
    }

    /// Returns the caller that something belongs to which a key made, as long as the key is valid; where no keys are required,
    /// it belongs to the deployment.
    pub(crate) fn owner(&self, key: &KeyId) -> Option<Caller> {
        match self {
            Self::Off => Some(Caller::of_the_deployment()),
            Self::Keys(_) => self.caller_with(key),
        }
    }

    /// Returns the namespaces of the idempotency keys of all callers.
    pub(crate) fn idempotency_scopes(&self) -> Vec<String> {
        match self {
            Self::Off => vec![Caller(IdentifiedBy::Address(None)).idempotency_scope()],
            Self::Keys(ring) => {
                let callers = ring.all().into_iter().map(|key| Caller(IdentifiedBy::Key(key)));
                callers.map(|caller| caller.idempotency_scope()).collect()
            }
        }
    }

    /// Returns the caller from an address, if no key is required.
    pub(crate) fn anyone(&self, address: Option<IpAddr>) -> Option<Caller> {
        matches!(self, Self::Off).then_some(Caller(IdentifiedBy::Address(address)))
    }

    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> Result<Caller, Problem> {
        let ring = match self {
            Self::Off => return Ok(Caller(IdentifiedBy::Address(address))),
            Self::Keys(ring) => ring,
        };
        let mut given = headers.get_all(header::AUTHORIZATION);
        let Some(first) = given.next() else {
            let detail = "an API key is required: Authorization: Bearer crk_\u{2026}";
            return Err(
                Problem::new(UNAUTHORIZED, detail).header(header::WWW_AUTHENTICATE, CHALLENGE)
            );
        };
        // Two keys are rejected: one of them may come from a third party.
        let only = given.next().is_none().then_some(first);
        let token = only.and_then(|value| Token::from_header(value.to_str().ok()?));
        token
            .and_then(|token| ring.find(&token))
            .map(|key| Caller(IdentifiedBy::Key(key)))
            .ok_or_else(|| {
                if let Some(left_out) = REJECTED_KEYS.admit() {
                    tracing::info!(?address, left_out, "API key rejected");
                }
                let challenge = format!("{CHALLENGE}, error=\"invalid_token\"");
                Problem::new(UNAUTHORIZED, "the API key is not valid")
                    .header(header::WWW_AUTHENTICATE, &challenge)
            })
    }
}
