//! Checks responses, for any request.

use serde_json::Value;
use tokio::io::AsyncBufReadExt;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::TcpStream;

use super::request::Request;

/// The parts of a response that are checked.
#[derive(Debug)]
pub(super) struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    is_head: bool,
}

/// Reads a response; `None` if the connection ends before it begins.
pub(super) async fn read(
    stream: &mut TcpStream,
    request: &Request,
) -> Result<Option<Response>, String> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some((status, headers)) = head(&mut stream).await? else { return Ok(None) };
        // An interim response: the final one follows.
        if status == 100 {
            continue;
        }
        let mut response = Response { status, headers, body: Vec::new(), is_head: request.is_head };
        response.body = response.read_body(&mut stream).await?;
        return Ok(Some(response));
    }
}

type Head = (u16, Vec<(String, String)>);

async fn head(stream: &mut BufReader<&mut TcpStream>) -> Result<Option<Head>, String> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        // A reset also ends the connection.
        let read = stream.read_until(b'\n', &mut line).await.unwrap_or(0);
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        match (read, line.is_empty(), lines.is_empty()) {
            (0, _, true) => return Ok(None),
            (0, _, false) => return Err(format!("the head of a response is truncated: {lines:?}")),
            (_, true, _) => break,
            (_, false, _) => lines.push(line),
        }
    }
    let first = lines.remove(0);
    let code = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
    let code = code.ok_or_else(|| format!("not a status line: {first:?}"))?;
    let pair = |line: &String| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Some((code, lines.iter().filter_map(pair).collect())))
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    async fn read_body(&self, stream: &mut BufReader<&mut TcpStream>) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        if self.is_head || matches!(self.status, 204 | 304) {
            return Ok(body);
        }
        if let Some(length) = self.header("content-length").and_then(|it| it.parse().ok()) {
            body.resize(length, 0);
            let read = stream.read_exact(&mut body).await;
            let truncated = |error| {
                format!("the body of a response is truncated ({error}): {} {length}", self.status)
            };
            return read.map(|_| body).map_err(truncated);
        }
        // Streams are chunked, and some do not end: the first bytes are enough.
        let first = stream.fill_buf().await;
        Ok(first.map(<[u8]>::to_vec).unwrap_or_default())
    }

    /// Checks that the contract allows the response.
    pub(super) fn check(&self) -> Result<(), String> {
        let invalid = |what: String| {
            let body = String::from_utf8_lossy(&self.body[..self.body.len().min(600)]).into_owned();
            Err(format!("{what}: {} {:?} {body}", self.status, self.headers))
        };
        if self.status >= 500 && self.status != 503 {
            return invalid("an undocumented 5xx".to_owned());
        }
        if self.status == 503 && self.header("retry-after").is_none() {
            return invalid("503 without Retry-After".to_owned());
        }
        if self.header("x-request-id").is_none() && self.status != 400 && self.status != 408 {
            return invalid("no X-Request-Id".to_owned());
        }
        let kind = self.header("content-type").unwrap_or_default();
        let is_json =
            kind.starts_with("application/json") || kind.starts_with("application/problem+json");
        if self.body.is_empty() || !is_json || self.header("content-length").is_none() {
            return Ok(());
        }
        let Ok(json) = serde_json::from_slice::<Value>(&self.body) else {
            // The content of a result is up to its handler.
            return if kind.starts_with("application/problem+json") {
                invalid("not JSON".to_owned())
            } else {
                Ok(())
            };
        };
        if self.status >= 400 && !is_error(&json, self.status) {
            return invalid("an error without a problem document".to_owned());
        }
        Ok(())
    }

    /// Returns the cursor of the next page.
    pub(super) fn cursor(&self) -> Option<String> {
        let json: Value = serde_json::from_slice(&self.body).ok()?;
        json["next_cursor"].as_str().map(str::to_owned)
    }

    /// Returns the id of the accepted job.
    pub(super) fn job(&self) -> Option<String> {
        if self.status != 202 {
            return None;
        }
        let json: Value = serde_json::from_slice(&self.body).ok()?;
        json["id"].as_str().map(str::to_owned)
    }
}

/// Whether this is a problem document with this status, or has one for an item of a batch or a line of a stream.
fn is_error(json: &Value, status: u16) -> bool {
    let is_problem =
        |json: &Value, status: &Value| json["status"] == *status && json["type"].is_string();
    let is_item = |item: &Value| {
        is_problem(&item["problem"], &item["problem"]["status"])
            && (item["line"].is_u64() || item["status"] == item["problem"]["status"])
    };
    let is_batch = || {
        let items = json["items"].as_array().or(json["errors"].as_array());
        items.is_some_and(|items| items.iter().any(is_item))
    };
    is_problem(json, &Value::from(status)) || is_batch()
}
