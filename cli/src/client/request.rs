//! One request: its path, query, headers and body, which can be sent again.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http;

use crate::config::Target;
use crate::error::Error;

/// What stands for itself in a path and in a query (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// A status that is an answer like 2xx.
    accepted: Option<u16>,
}

impl Request {
    /// Creates a request; parts of the path are encoded.
    pub(crate) fn new(method: &'static str, path: &[&str]) -> Self {
        let parts = path.iter().map(|part| format!("/{}", utf8_percent_encode(part, ENCODED)));
        Self {
            method,
            path: parts.collect(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Vec::new(),
            accepted: None,
        }
    }

    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn post(path: &[&str]) -> Self {
        Self::new("POST", path)
    }

    /// Sets a query parameter, in place of an earlier one of this name.
    pub(crate) fn query(mut self, name: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.query.retain(|(known, _)| known != name);
        self.query.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets a query parameter if there is a value.
    pub(crate) fn query_if(self, name: &str, value: Option<&(impl ToString + ?Sized)>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(self, content_type: &str, body: Vec<u8>) -> Self {
        Self { body, ..self }.header("content-type", content_type)
    }

    /// Takes answers with this status for no problem.
    pub(crate) fn accepting(self, status: u16) -> Self {
        Self { accepted: Some(status), ..self }
    }

    pub(super) fn accepts(&self, status: u16) -> bool {
        (200..300).contains(&status) || self.accepted == Some(status)
    }

    /// Path and query.
    pub(super) fn target(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        let pairs =
            self.query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) }
    }

    pub(super) fn build(&self, target: &Target) -> Result<http::Request<Vec<u8>>, Error> {
        let mut request = http::Request::builder().method(self.method).uri(format!(
            "{}{}",
            target.url,
            self.target()
        ));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(key) = &target.key {
            request = request.header("authorization", format!("Bearer {}", key.reveal()));
        }
        request.body(self.body.clone()).map_err(|error| {
            Error::usage(
                format!("this cannot be sent: {error}"),
                "check the arguments for line breaks and control characters",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_encoded() {
        let request = Request::get(&["queues", "a/../b?c"]).query("task", "ä b&c").query("x", &1);
        assert_eq!(request.target(), "/queues/a%2F..%2Fb%3Fc?task=%C3%A4%20b%26c&x=1");
        assert_eq!(
            request.query("x", &2).target(),
            "/queues/a%2F..%2Fb%3Fc?task=%C3%A4%20b%26c&x=2"
        );
        assert_eq!(Request::get(&["jobs"]).query_if("a", None::<&u8>).target(), "/jobs");
    }
}
