//! Settings of webhooks.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use crunch_common::config::comma_separated;
use crunch_common::job::MAX_ATTEMPTS_LIMIT;
use crunch_common::pem;
use crunch_common::time::whole_ms;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{Allow, Secrets};

/// Seconds at first, then hours: about a day in total.
const DELAYS: &str = "5000,30000,120000,600000,1800000,3600000,7200000,14400000,21600000,28800000";
/// The longest delay.
pub(super) const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// How webhooks are accepted and delivered.
#[derive(Debug, Clone, Args)]
pub struct WebhookConfig {
    /// Whether this API accepts and delivers webhooks. Without a secret it does neither.
    #[arg(long, env = "CRUNCH_WEBHOOKS", value_name = "WHAT", default_value = "on")]
    pub webhooks: WebhookUse,

    /// Secrets that sign webhooks, separated by commas: `whsec_` and 24 to 64 bytes in base64. Each of them signs, so
    /// that receivers can change from one to the next. Prefer a file.
    #[arg(long, env = "CRUNCH_WEBHOOK_SECRETS", value_name = "SECRETS", hide_env_values = true)]
    pub webhook_secrets: Option<SecretText>,

    /// A file of such secrets, one per line.
    #[arg(long, env = "CRUNCH_WEBHOOK_SECRETS_FILE", value_name = "PATH")]
    pub webhook_secrets_file: Option<PathBuf>,

    /// A file of certificates (PEM) of additional certificate authorities for receivers.
    #[arg(long, env = "CRUNCH_WEBHOOK_CA_FILE", value_name = "PATH")]
    pub webhook_ca_file: Option<PathBuf>,

    /// Where webhooks may be sent besides ports 80 and 443 of the public internet: addresses, networks, and host:port,
    /// separated by commas.
    #[arg(
        id = "webhook_allow",
        long = "webhook-allow",
        env = "CRUNCH_WEBHOOK_ALLOW",
        value_name = "WHERE"
    )]
    allow: Option<Allow>,

    /// The delay after each failed attempt of a webhook, in milliseconds, separated by commas; there is one attempt
    /// more than delays. Each is varied at random by up to a quarter.
    #[arg(id = "webhook_delays", long = "webhook-delays-ms", env = "CRUNCH_WEBHOOK_DELAYS_MS", value_name = "DELAYS",
        default_value = DELAYS)]
    delays: Delays,
}

/// Whether an API accepts and delivers webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WebhookUse {
    /// It accepts and delivers them.
    On,
    /// It rejects them, and leaves deliveries to other APIs.
    Off,
}

/// Secrets as given: parsed later, so that an error message does not contain them.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Delays(Vec<Duration>);

impl FromStr for Delays {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (max, longest) = (MAX_ATTEMPTS_LIMIT as usize - 1, whole_ms(LONGEST_DELAY));
        let numbers = comma_separated::<u64>(text).ok();
        let fits =
            |all: &Vec<u64>| all.len() <= max && all.iter().all(|ms| (1..=longest).contains(ms));
        let numbers = numbers.filter(fits).ok_or_else(|| {
            format!(
                "expected 1 to {max} whole milliseconds from 1 to {longest}, separated by commas"
            )
        })?;
        Ok(Self(numbers.into_iter().map(Duration::from_millis).collect()))
    }
}

impl WebhookConfig {
    pub(super) fn allow(&self) -> Allow {
        self.allow.clone().unwrap_or_default()
    }

    pub(super) fn delays(&self) -> Vec<Duration> {
        self.delays.0.clone()
    }

    /// Reads the certificates of additional authorities, at least one if there is a file.
    pub(super) fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let Some(path) = &self.webhook_ca_file else { return Ok(Vec::new()) };
        let wrong =
            |what: &dyn fmt::Display| format!("CRUNCH_WEBHOOK_CA_FILE={}: {what}", path.display());
        let read = pem::certificates(path).map_err(|reason| wrong(&reason))?;
        match RootCertStore::empty().add_parsable_certificates(read.iter().cloned()) {
            (_, 0) => Ok(read),
            (_, bad) => Err(wrong(&format!("{bad} of its certificates are not usable"))),
        }
    }

    /// Reads the secrets of the variable and the file; none if webhooks are off.
    pub(super) fn secrets(&self) -> Result<Secrets, String> {
        if self.webhooks == WebhookUse::Off {
            return Ok(Secrets::default());
        }
        let mut text =
            self.webhook_secrets.as_ref().map_or_else(String::new, |text| text.0.clone());
        if let Some(path) = &self.webhook_secrets_file {
            let file = std::fs::read_to_string(path).map_err(|error| {
                format!("CRUNCH_WEBHOOK_SECRETS_FILE={}: {error}", path.display())
            })?;
            text = format!("{text}\n{file}");
        }
        Secrets::read(&text).map_err(|error| format!("webhook secrets: {error}"))
    }
}
