//! Reports the end of a job over HTTP: what accepting and delivering webhooks have in common.
//!
//! Receivers verify with any library of Standard Webhooks (<https://www.standardwebhooks.com>, version 1.0).

mod allow;
mod config;
mod guard;
mod secret;
mod target;

use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::broker::Webhook;
use crunch_common::job::{ContentType, JobId, JobOptions, Metadata, Status, TraceContext};
use tokio_rustls::rustls::pki_types::CertificateDer;

pub use allow::Allow;
pub use config::{SecretText, WebhookConfig, WebhookUse};
pub(crate) use guard::{Forbidden, Guard, Resolve};
pub(crate) use secret::{Secret, Secrets};
pub(crate) use target::{InvalidTarget, Target};

/// Time limit of one attempt, from the look-up of the name to the status. Standard Webhooks recommends 15 to 30 s.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// The webhook that a client requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebhookRequest {
    pub(crate) target: Target,
    /// The final statuses to report.
    pub(crate) events: Vec<Status>,
}

/// Whether and how this API reports the end of jobs.
#[derive(Debug)]
pub(crate) struct Webhooks {
    pub(crate) guard: Guard,
    /// Empty: webhooks are neither accepted nor delivered.
    pub(crate) secrets: Secrets,
    /// The wait after each failed attempt; there is one attempt more.
    pub(crate) delays: Vec<Duration>,
    /// Certificate authorities that are trusted besides those of the web.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
}

impl Webhooks {
    /// # Errors
    /// The reason as text, if secrets or certificates cannot be read.
    pub(crate) fn new(config: &WebhookConfig) -> Result<Self, String> {
        let guard = Guard::new(config.allow());
        Ok(Self {
            guard,
            secrets: config.secrets()?,
            delays: config.delays(),
            authorities: config.authorities()?,
        })
    }

    /// Whether webhooks are accepted and delivered.
    pub(crate) fn are_on(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Checks a requested webhook as far as possible before its name is looked up: the address itself, and the port.
    pub(crate) fn check(&self, wanted: &WebhookRequest) -> Result<(), &'static str> {
        if !self.are_on() {
            return Err(
                "webhooks are not configured: the operator must set CRUNCH_WEBHOOK_SECRETS or CRUNCH_WEBHOOK_SECRETS_FILE",
            );
        }
        self.guard.check_spelling(&wanted.target).map_err(Forbidden::as_str)
    }

    /// Creates the webhook of a job.
    pub(crate) fn of(
        &self,
        job: JobId,
        wanted: WebhookRequest,
        trace: Option<TraceContext>,
    ) -> Webhook {
        let options = JobOptions {
            max_attempts: u32::try_from(self.delays.len() + 1).unwrap_or(u32::MAX),
            timeout: ATTEMPT_TIMEOUT,
            deadline: None,
            start_within: None,
            unique: None,
            backoff: Backoff::default(),
            content_type: ContentType::json(),
            payload_size: 0,
            metadata: Metadata::default(),
            group: None,
            trace,
        };
        Webhook::new(job, wanted.target.as_str().to_owned(), wanted.events, options)
    }
}

/// Returns the event name of a final status, as sent to receivers.
pub(crate) fn event(status: Status) -> String {
    format!("job.{status}")
}
