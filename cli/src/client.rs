//! Requests to the API, repeated while it is away.
//!
//! It is synchronous: a command does one thing after another, and a program without an async runtime starts faster and
//! is smaller. What runs side by side (`top`, submissions of lines) uses threads.

pub(crate) mod events;
mod pace;
pub(crate) mod pages;
mod request;
mod tls;

use std::fmt;
use std::io::Read;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

pub(crate) use self::request::Request;

use self::pace::Pace;
use crate::config::Target;
use crate::documents::Lines;
use crate::error::{Error, Problem};
use crate::output::log;

/// How long a connection may take: longer than a lost packet costs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the API may take before it begins to answer: it ends bulk actions after five seconds, and a body of lines
/// when Redis has all of them.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may be silent in an answer: a stream has a comment every 15 seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(40);
/// How long a look at the state may take: it is worth nothing later.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer: twice as much as the largest result that a task may declare.
const LARGEST_ANSWER: u64 = 128 * 1024 * 1024;

/// A client of one API.
pub(crate) struct Client {
    agent: Agent,
    pub(crate) target: Target,
    retry_for: Duration,
    /// How long a whole answer may take.
    limit: Option<Duration>,
    /// Whether outages are reported on standard error.
    reports: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("target", &self.target).finish_non_exhaustive()
    }
}

/// An answer that is no problem.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads the body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self, url: &str) -> Result<T, Error> {
        let not_crunch = |_| Error::NotCrunch { url: url.to_owned(), status: self.status };
        serde_json::from_slice(&self.body).map_err(not_crunch)
    }

    /// When the API answered, by its own clock: the second that had begun.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        let date = self.headers.get("date")?.to_str().ok()?;
        Some(rfc2822::parse(&date.replace("GMT", "+0000")).ok()?.timestamp())
    }
}

/// Why one request failed.
struct Failure {
    error: Error,
    /// Whether repeating it may help.
    is_temporary: bool,
    /// When to repeat it, if the API said so.
    retry_after: Option<Duration>,
    /// Whether the request may have taken effect.
    in_doubt: bool,
}

impl Client {
    pub(crate) fn new(target: Target, retry_for: Duration) -> Result<Self, Error> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A key must not follow a redirect; one is reported with its target.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT))
            .proxy(target.proxy.clone())
            .user_agent(concat!("crunch/", env!("CARGO_PKG_VERSION")))
            .accept("*/*");
        let config = match &target.ca_file {
            Some(file) => config.tls_config(tls::trusting(file)?),
            None => config,
        };
        Ok(Self { agent: config.build().into(), target, retry_for, limit: None, reports: true })
    }

    /// The same for one that does not wait for an answer: an outage is no message, and an answer that takes longer than
    /// `limit` is none.
    pub(crate) fn impatient(self, limit: Duration) -> Self {
        Self { reports: false, limit: Some(limit), ..self }
    }

    /// How long requests are repeated.
    pub(crate) fn retry_for(&self) -> Duration {
        self.retry_for
    }

    /// Sends a request until it is answered; fails if the answer is a problem.
    pub(crate) fn send(&self, request: &Request) -> Result<Answer, Error> {
        self.send_in_doubt(request).map_err(|(error, _)| error)
    }

    /// Sends a request and reads the answer as JSON.
    pub(crate) fn read<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        self.send(request)?.json(&self.target.url)
    }

    /// Sends a request once, and reads the answer as JSON.
    pub(crate) fn look<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        let answer = self.try_once(request, Some(LOOK_TIMEOUT));
        answer.map_err(|failure| failure.error)?.json(&self.target.url)
    }

    /// Sends a request that must take effect at most once: it is repeated only while no try may have had an effect. An error
    /// comes with whether one may have.
    pub(crate) fn send_once(&self, request: &Request) -> Result<Answer, (Error, bool)> {
        let mut pace = Pace::new(self.retry_for);
        loop {
            let failure = match self.try_once(request, self.limit) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let is_temporary = failure.is_temporary && !failure.in_doubt;
            if !is_temporary || !self.wait(&mut pace, &failure) {
                return Err((failure.error.after(self.retry_for), failure.in_doubt));
            }
        }
    }

    /// Like [`Client::send`]; an error comes with whether an earlier try may have taken effect.
    pub(crate) fn send_in_doubt(&self, request: &Request) -> Result<Answer, (Error, bool)> {
        let mut in_doubt = false;
        let mut pace = Pace::new(self.retry_for);
        loop {
            let failure = match self.try_once(request, self.limit) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.is_temporary || !self.wait(&mut pace, &failure) {
                return Err((failure.error.after(self.retry_for), in_doubt));
            }
            in_doubt |= failure.in_doubt;
        }
    }

    /// Sends a request once, and reads the whole answer, which must arrive within `limit`.
    fn try_once(&self, request: &Request, limit: Option<Duration>) -> Result<Answer, Failure> {
        let response = self.open_once(request, limit)?;
        let (head, body) = response.into_parts();
        let mut bytes = Vec::new();
        let read = body.into_reader().take(LARGEST_ANSWER + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.broken(&error.to_string(), true))?;
        if bytes.len() as u64 > LARGEST_ANSWER {
            let failure = self.broken("the answer is too large", true);
            return Err(Failure { is_temporary: false, ..failure });
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes })
    }

    /// Sends a request once; the whole answer must arrive within `limit`. Problems are errors.
    fn open_once(
        &self,
        request: &Request,
        limit: Option<Duration>,
    ) -> Result<Response<Body>, Failure> {
        let built = request.build(&self.target).map_err(|error| Failure {
            error,
            is_temporary: false,
            retry_after: None,
            in_doubt: false,
        })?;
        let configured = self.agent.configure_request(built).timeout_global(limit).build();
        let response = self.agent.run(configured).map_err(|error| self.unanswered(&error))?;
        let status = response.status().as_u16();
        if request.accepts(status) { Ok(response) } else { Err(self.problem(request, response)) }
    }

    /// An answer with another status than 2xx.
    fn problem(&self, request: &Request, response: Response<Body>) -> Failure {
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after = header("retry-after").and_then(|text| text.parse().ok());
        let retry_after = retry_after.map(Duration::from_secs);
        let location = header("location").filter(|_| (300..400).contains(&status));
        let location =
            location.map(|to| to.strip_suffix(&request.target()).unwrap_or(to).to_owned());
        let mut text = Vec::new();
        let read = response.into_body().into_reader().take(LARGEST_ANSWER).read_to_end(&mut text);
        let problem = read.ok().and_then(|_| serde_json::from_slice::<Problem>(&text).ok());
        let problem = problem.filter(Problem::is_one).or_else(|| {
            // None of several lines was accepted: all for a reason like the first one's.
            let lines: Lines = serde_json::from_slice(&text).ok()?;
            lines.errors.into_iter().next().map(|error| error.problem)
        });
        // 502 and 504 come from a proxy in front of an API that restarts.
        let is_temporary = matches!(status, 408 | 429 | 502..=504);
        let in_doubt = problem.as_ref().map_or(is_temporary, Problem::is_in_doubt);
        let url = self.target.url.clone();
        let error = match (problem, location) {
            (Some(problem), _) => Error::Problem(Box::new(problem.resolved(&url))),
            (None, Some(location)) => Error::Redirected { url, status, location },
            (None, None) => Error::NotCrunch { url, status },
        };
        Failure { error, is_temporary, retry_after, in_doubt }
    }

    /// There is no answer.
    fn unanswered(&self, error: &ureq::Error) -> Failure {
        use std::io::ErrorKind::{ConnectionRefused, InvalidData};
        use ureq::Error::{BadUri, ConnectionFailed, HostNotFound, Io, Rustls, Tls};
        let is = |kind| matches!(error, Io(cause) if cause.kind() == kind);
        let never_sent = matches!(error, HostNotFound | ConnectionFailed) || is(ConnectionRefused);
        let cause = match error {
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            other => other.to_string(),
        };
        let failure = self.broken(&cause, !never_sent);
        // A certificate that does not fit now will not fit in a second; a handshake reports it as invalid data.
        let is_final = matches!(error, Tls(_) | Rustls(_) | BadUri(_)) || is(InvalidData);
        Failure { is_temporary: !is_final, ..failure }
    }

    fn broken(&self, cause: &str, in_doubt: bool) -> Failure {
        let cause = cause.strip_prefix("io: ").unwrap_or(cause).to_owned();
        let error = Error::Away { url: self.target.url.clone(), cause, retried: Duration::ZERO };
        Failure { error, is_temporary: true, retry_after: None, in_doubt }
    }

    /// Waits before a request is repeated; returns false if it was repeated for long enough.
    fn wait(&self, pace: &mut Pace, failure: &Failure) -> bool {
        if self.reports && pace.is_worth_a_message() {
            log::note(&format!("{}; trying again", failure.error));
        }
        pace.wait(failure.retry_after)
    }
}

impl Error {
    /// Adds for how long the request was repeated.
    fn after(self, retried: Duration) -> Self {
        match self {
            Self::Away { url, cause, .. } => Self::Away { url, cause, retried },
            other => other,
        }
    }
}
