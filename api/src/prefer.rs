//! How long a client wants its answer to be delayed: `Prefer: wait=N` (RFC 7240) or `?wait=N`.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponseBuilder};

use crate::auth::Caller;
use crate::places::{LATER, Place, Places};
use crate::problem::Problem;
use crate::query;

/// Longer waits are cut to this: proxies close silent connections.
const LONGEST: Duration = Duration::from_secs(60);

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// How a client wants to wait.
#[derive(Debug)]
pub(crate) struct WaitPreference {
    /// How long the answer may be delayed; `None`: not at all.
    pub(crate) time_limit: Option<Duration>,
    /// The preferences of `Prefer` that are applied.
    applied: Vec<String>,
    /// The place of the request, if it waits.
    place: Option<Place>,
    /// Whether there was no place to wait.
    crowded: bool,
}

impl WaitPreference {
    /// Reads query and header; the query takes precedence.
    pub(crate) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let query = wait_in(request.query_string())?;
        let mut preference =
            Self { time_limit: query, applied: Vec::new(), place: None, crowded: false };
        for (name, value) in preferences(request.headers()) {
            match (name.as_str(), value.as_str()) {
                ("respond-async", "") => preference.applied.push(name),
                ("wait", seconds) if query.is_none() => {
                    let Some(time_limit) = seconds_of(seconds) else { continue };
                    preference.time_limit = Some(time_limit);
                    preference.applied.push(format!("wait={}", time_limit.as_secs()));
                }
                _ => {}
            }
        }
        Ok(preference)
    }

    /// Takes a place, if the request is to wait. Without a free one it does not wait: a preference need not be applied
    /// (RFC 7240, section 2), and an accepted submission must be answered with its job in any case.
    pub(crate) fn take_place(&mut self, places: &Arc<Places>, caller: &Caller) {
        if self.place.is_some() || self.time_limit.is_none_or(|time_limit| time_limit.is_zero()) {
            return;
        }
        match places.take(caller.identity()) {
            Ok(place) => self.place = Some(place),
            Err(_) => {
                self.time_limit = None;
                self.crowded = true;
                self.applied.retain(|applied| !applied.starts_with("wait="));
            }
        }
    }

    /// `Retry-After` for a job that has not ended, in seconds: longer if there was no place to wait, because a client
    /// that waits asks again at once.
    pub(crate) fn retry_after(&self) -> &'static str {
        if self.crowded { LATER } else { "1" }
    }

    /// Adds the headers that report what was applied, and that the answer depends on it.
    pub(crate) fn write_to(&self, response: &mut HttpResponseBuilder) {
        response.insert_header((header::VARY, HeaderValue::from_static("Prefer")));
        if !self.applied.is_empty() {
            response.insert_header((APPLIED, self.applied.join(", ")));
        }
    }
}

/// Reads the parameter `wait` of a query.
fn wait_in(query: &str) -> Result<Option<Duration>, Problem> {
    let pairs = query::pairs(query)?;
    let mut waits = pairs.iter().filter(|(name, _)| name == WAIT);
    let Some((_, text)) = waits.next() else { return Ok(None) };
    if waits.next().is_some() {
        return Err(query::invalid(WAIT, "is given twice"));
    }
    let wait = seconds_of(text);
    wait.map(Some).ok_or_else(|| query::invalid(WAIT, "expected whole seconds, such as 30"))
}

/// The parameter's name.
pub(crate) const WAIT: &str = "wait";

fn seconds_of(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than fit into a number are a long time, too.
    digits.then(|| text.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST))
}

/// The preferences that may be applied.
const KNOWN: [&str; 2] = ["respond-async", WAIT];

/// Returns the known preferences in their order, each name once (RFC 7240, section 2: the first counts), names in lower
/// case, values without quotes and parameters. Malformed ones are ignored.
fn preferences(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.get_all(PREFER).filter_map(|value| value.to_str().ok());
    let mut found: Vec<(String, String)> = Vec::new();
    for item in lines.flat_map(|line| split_outside_quotes(line, ',')) {
        let first = split_outside_quotes(item, ';').next().unwrap_or_default();
        let (name, value) = first.split_once('=').unwrap_or((first, ""));
        let name = name.trim().to_ascii_lowercase();
        // Others are not kept: a head has room for thirty thousand of them.
        if KNOWN.contains(&name.as_str()) && !found.iter().any(|(known, _)| *known == name) {
            found.push((name, value.trim().trim_matches('"').to_owned()));
        }
    }
    found
}

/// Splits a list at separators outside of quoted strings.
fn split_outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character: char| {
        let ends = character == separator && !quoted;
        quoted ^= character == '"' && !escaped;
        escaped = quoted && character == '\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn preference(uri: &str, prefer: &[&str]) -> Result<(Option<u64>, String), Problem> {
        let request = prefer.iter().fold(TestRequest::with_uri(uri), |request, value| {
            request.append_header((PREFER, *value))
        });
        let preference = WaitPreference::of(&request.to_http_request())?;
        Ok((
            preference.time_limit.map(|time_limit| time_limit.as_secs()),
            preference.applied.join(", "),
        ))
    }

    #[test]
    fn preferences_are_read_as_a_list() {
        let cases: &[(&[&str], Option<u64>, &str)] = &[
            (&[], None, ""),
            (&["wait=5"], Some(5), "wait=5"),
            (&["respond-async"], None, "respond-async"),
            (&["respond-async, wait=10"], Some(10), "respond-async, wait=10"),
            (&["respond-async", "Wait = 10"], Some(10), "respond-async, wait=10"),
            (&["wait=\"7\"; foo=\"a,b\""], Some(7), "wait=7"),
            (&["foo=\"wait=3, \\\" \", wait=4"], Some(4), "wait=4"),
            (&["wait=1, wait=2"], Some(1), "wait=1"),
            (&["wait=3600"], Some(60), "wait=60"),
            (&["wait=99999999999999999999999"], Some(60), "wait=60"),
            (&["wait=soon, handling=lenient, ,;"], None, ""),
            (&["wait=-1"], None, ""),
            (&["wait=1.5"], None, ""),
        ];
        for (headers, time_limit, applied) in cases {
            let preferred = preference("/jobs/x", headers).unwrap();
            assert_eq!(preferred, (*time_limit, (*applied).to_owned()), "{headers:?}");
        }
    }

    #[test]
    fn the_query_has_the_last_word_and_must_be_right() {
        assert_eq!(preference("/?wait=2", &["wait=9"]).unwrap(), (Some(2), String::new()));
        assert_eq!(preference("/?wait=600", &[]).unwrap().0, Some(60));
        for bad in ["/?wait=", "/?wait=-1", "/?wait=1.5", "/?wait=1s", "/?wait=1&wait=1"] {
            assert!(preference(bad, &[]).unwrap_err().to_string().contains("wait"), "{bad}");
        }
    }
}
