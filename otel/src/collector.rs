//! Sends what is exported to the collector: OTLP over HTTP, as protobuf.
//!
//! Called only on threads of the SDK that do nothing else, so it may block; a client for async code would need a runtime
//! there. One client serves spans and metrics, follows no redirects and uses no proxies of the environment. An outage of
//! the collector is logged once.

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::write::GzEncoder;
use opentelemetry_sdk::error::OTelSdkError;
use prost::Message;
use ureq::Agent;
use ureq::http::{HeaderName, HeaderValue, Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::Error;
use crate::config::{Compression, OtelConfig};

/// The largest response that is read: it says how many spans were rejected, and why.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024;
/// The wait before the first retry, doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Collector {
    agent: Agent,
    endpoint: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    compression: Compression,
    timeout: Duration,
    /// Exports that failed since the last one that succeeded.
    failures: AtomicU64,
    is_ending: AtomicBool,
}

/// Why a request had no effect.
struct Failure {
    reason: String,
    /// Whether the same request may succeed later.
    is_temporary: bool,
    /// For how long the collector wants no request.
    retry_after: Option<Duration>,
}

impl Collector {
    pub(crate) fn new(endpoint: &str, config: &OtelConfig) -> Result<Self, Error> {
        let headers = config.headers.iter().flat_map(|pairs| pairs.iter());
        let header = |(name, value): (&str, &str)| Some((name.parse().ok()?, value.parse().ok()?));
        Ok(Self {
            agent: agent(config)?,
            endpoint: endpoint.to_owned(),
            headers: headers.filter_map(header).collect(),
            compression: config.compression,
            timeout: config.timeout,
            failures: AtomicU64::new(0),
            is_ending: AtomicBool::new(false),
        })
    }

    /// Ends the wait for a collector that is away: the process ends.
    pub(crate) fn end_retries(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// Sends a message to the path of its signal; returns the body of the response. A request that may succeed later is
    /// sent again until the time of an export is over.
    pub(crate) fn send(&self, path: &str, message: &impl Message) -> Result<Vec<u8>, OTelSdkError> {
        let sent = self.encode(message).and_then(|body| self.deliver(path, &body));
        self.log(sent.as_ref().err());
        sent.map_err(OTelSdkError::InternalFailure)
    }

    fn encode(&self, message: &impl Message) -> Result<Vec<u8>, String> {
        let body = message.encode_to_vec();
        if self.compression == Compression::None {
            return Ok(body);
        }
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let zipped = gzip.write_all(&body).and_then(|()| gzip.finish());
        zipped.map_err(|error| error.to_string())
    }

    fn deliver(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + self.timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match self.post(path, body, left) {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let wait = failure.retry_after.unwrap_or(pause);
            let is_last = !failure.is_temporary || Instant::now() + wait >= deadline;
            if is_last || self.is_ending.load(Ordering::Relaxed) {
                return Err(failure.reason);
            }
            thread::sleep(wait);
            pause *= 2;
        }
    }

    fn post(&self, path: &str, body: &[u8], time_limit: Duration) -> Result<Vec<u8>, Failure> {
        let mut request = self.agent.post(format!("{}{path}", self.endpoint));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if self.compression == Compression::Gzip {
            request = request.header(header::CONTENT_ENCODING, "gzip");
        }
        let request = request.header(header::CONTENT_TYPE, "application/x-protobuf");
        let request = request.config().timeout_global(Some(time_limit)).build();
        let mut response = request.send(body).map_err(|error| Failure::unanswered(&error))?;
        let body = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_vec();
        match response.status().is_success() {
            // What was accepted stays accepted, whether or not the response is complete.
            true => Ok(body.unwrap_or_default()),
            false => Err(Failure::answered(&response)),
        }
    }

    /// Logs the begin and the end of an outage.
    fn log(&self, failure: Option<&String>) {
        match failure {
            None => {
                let failures = self.failures.swap(0, Ordering::Relaxed);
                if failures > 0 {
                    tracing::info!(
                        failures,
                        "the OpenTelemetry collector accepts spans and metrics again"
                    );
                }
            }
            Some(error) => {
                if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(endpoint = self.endpoint, %error, "cannot export to the OpenTelemetry collector, spans and metrics are dropped until it accepts them");
                }
            }
        }
    }
}

impl Failure {
    fn unanswered(error: &ureq::Error) -> Self {
        Self { reason: error.to_string(), is_temporary: true, retry_after: None }
    }

    /// The statuses after which a request may be sent again, by the specification of OTLP.
    fn answered<B>(response: &Response<B>) -> Self {
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        Self {
            reason: format!("it answered {status}"),
            is_temporary: matches!(status.as_u16(), 429 | 502 | 503 | 504),
            retry_after: retry_after.map(|seconds: u32| Duration::from_secs(seconds.into())),
        }
    }
}

fn agent(config: &OtelConfig) -> Result<Agent, Error> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = &config.certificate {
        let error =
            |reason: String| Error::Certificate { reason: format!("{}: {reason}", path.display()) };
        let pem = fs::read(path).map_err(|cause| error(cause.to_string()))?;
        let certificate = |item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        };
        let certificates: Vec<_> = parse_pem(&pem).filter_map(certificate).collect();
        if certificates.is_empty() {
            return Err(error("the file contains no certificate".to_owned()));
        }
        tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
    }
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("crunch/", env!("CARGO_PKG_VERSION")));
    Ok(config.build().into())
}
