//! Sends what is exported to the collector: OTLP over HTTP, as protobuf.
//!
//! Called only on threads of the SDK that do nothing else, so it may block; a client for async code would need a runtime
//! there. It follows no redirects and uses no proxies of the environment. An outage of the collector is logged once for
//! each signal: many collectors accept only one.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crunch_common::backoff::Backoff;
use crunch_common::pem;
use flate2::write::GzEncoder;
use opentelemetry_sdk::error::OTelSdkError;
use parking_lot::{Condvar, Mutex};
use prost::Message;
use ureq::Agent;
use ureq::http::{HeaderName, HeaderValue, Response, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::Error;
use crate::config::{Compression, OtelConfig};

/// The largest response that is read: it says how many spans were rejected, and why.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024;
/// The pauses between attempts of one export.
const PAUSES: Backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(5) };

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Spans,
    Metrics,
}

impl Signal {
    fn path(self) -> &'static str {
        match self {
            Self::Spans => "/v1/traces",
            Self::Metrics => "/v1/metrics",
        }
    }
}

/// The collector, for one signal.
#[derive(Debug)]
pub(crate) struct Collector {
    signal: Signal,
    agent: Agent,
    endpoint: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    compression: Compression,
    timeout: Duration,
    /// Exports that failed since the last one that succeeded.
    failures: AtomicU64,
    /// Whether the process ends.
    is_ending: Mutex<bool>,
    ends: Condvar,
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
    pub(crate) fn new(signal: Signal, endpoint: &str, config: &OtelConfig) -> Result<Self, Error> {
        let headers = config.headers.iter().flat_map(|pairs| pairs.iter());
        let header = |(name, value): (&str, &str)| {
            let mut value: HeaderValue = value.parse().ok()?;
            value.set_sensitive(true);
            Some((name.parse().ok()?, value))
        };
        Ok(Self {
            signal,
            agent: agent(config)?,
            endpoint: endpoint.to_owned(),
            headers: headers.filter_map(header).collect(),
            compression: config.compression,
            timeout: config.timeout,
            failures: AtomicU64::new(0),
            is_ending: Mutex::new(false),
            ends: Condvar::new(),
        })
    }

    /// Ends the wait for a collector that is away: the process ends.
    pub(crate) fn end_retries(&self) {
        *self.is_ending.lock() = true;
        self.ends.notify_all();
    }

    /// Sends a message; returns the body of the response. A request that may succeed later is sent again until the time
    /// of an export is over.
    pub(crate) fn send(&self, message: &impl Message) -> Result<Vec<u8>, OTelSdkError> {
        // The client panics where no thread can be started to look up a name; the thread of the SDK would end with it.
        let deliver = |body: Vec<u8>| catch_unwind(AssertUnwindSafe(|| self.deliver(&body)));
        let sent = self.encode(message).and_then(|body| {
            deliver(body).unwrap_or_else(|_| Err("the HTTP client panicked".to_owned()))
        });
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

    fn deliver(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        let deadline = Instant::now() + self.timeout;
        let mut failures = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match self.post(body, left) {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            failures += 1;
            let wait = failure.retry_after.unwrap_or_default().max(PAUSES.draw(failures));
            let is_last = !failure.is_temporary || Instant::now() + wait >= deadline;
            let mut is_ending = self.is_ending.lock();
            if is_last || *is_ending {
                return Err(failure.reason);
            }
            // A process that ends tries once more at once.
            self.ends.wait_for(&mut is_ending, wait);
        }
    }

    fn post(&self, body: &[u8], time_limit: Duration) -> Result<Vec<u8>, Failure> {
        let mut request = self.agent.post(format!("{}{}", self.endpoint, self.signal.path()));
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
        let (signal, endpoint) = (self.signal, origin(&self.endpoint));
        match failure {
            None => {
                let failures = self.failures.swap(0, Ordering::Relaxed);
                if failures > 0 {
                    tracing::info!(
                        ?signal,
                        failures,
                        "the OpenTelemetry collector accepts exports again"
                    );
                }
            }
            Some(error) => {
                if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(?signal, endpoint, %error, "cannot export to the OpenTelemetry collector, what it would get is dropped until it accepts it");
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

/// The endpoint as it is logged: its path may be secret.
pub(crate) fn origin(endpoint: &str) -> &str {
    let host = endpoint.find("://").map_or(0, |at| at + "://".len());
    endpoint[host..].find('/').map_or(endpoint, |length| &endpoint[..host + length])
}

fn agent(config: &OtelConfig) -> Result<Agent, Error> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = &config.certificate {
        let certificates = pem::certificates(path).map_err(|reason| Error::Certificate {
            reason: format!("{}: {reason}", path.display()),
        })?;
        let certificates: Vec<_> =
            certificates.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
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
