//! What an answer must be, whatever was asked.

use serde_json::Value;
use tokio::io::AsyncBufReadExt;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::TcpStream;

use super::request::Request;

/// The parts of an answer that are judged.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    is_head: bool,
}

/// Reads an answer; `None` if the connection ends before it begins.
pub(super) async fn read(
    stream: &mut TcpStream,
    request: &Request,
) -> Result<Option<Answer>, String> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some((status, headers)) = head(&mut stream).await? else { return Ok(None) };
        // An interim answer: the real one follows.
        if status == 100 {
            continue;
        }
        let mut answer = Answer { status, headers, body: Vec::new(), is_head: request.is_head };
        answer.body = answer.read_body(&mut stream).await?;
        return Ok(Some(answer));
    }
}

type Head = (u16, Vec<(String, String)>);

async fn head(stream: &mut BufReader<&mut TcpStream>) -> Result<Option<Head>, String> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        // A reset is an end as well.
        let read = stream.read_until(b'\n', &mut line).await.unwrap_or(0);
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        match (read, line.is_empty(), lines.is_empty()) {
            (0, _, true) => return Ok(None),
            (0, _, false) => return Err(format!("the head of an answer breaks off: {lines:?}")),
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

impl Answer {
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
            let torn = |error| {
                format!("the body of an answer breaks off ({error}): {} {length}", self.status)
            };
            return read.map(|_| body).map_err(torn);
        }
        // Streams are chunked, and some have no end: their beginning is enough.
        let begun = stream.fill_buf().await;
        Ok(begun.map(<[u8]>::to_vec).unwrap_or_default())
    }

    /// Whether it is what the contract allows.
    pub(super) fn judge(&self) -> Result<(), String> {
        let wrong = |what: String| {
            let body = String::from_utf8_lossy(&self.body[..self.body.len().min(600)]).into_owned();
            Err(format!("{what}: {} {:?} {body}", self.status, self.headers))
        };
        if self.status >= 500 && self.status != 503 {
            return wrong("a 5xx that is not documented".to_owned());
        }
        if self.status == 503 && self.header("retry-after").is_none() {
            return wrong("503 without Retry-After".to_owned());
        }
        if self.header("x-request-id").is_none() && self.status != 400 && self.status != 408 {
            return wrong("no X-Request-Id".to_owned());
        }
        let kind = self.header("content-type").unwrap_or_default();
        let is_json =
            kind.starts_with("application/json") || kind.starts_with("application/problem+json");
        if self.body.is_empty() || !is_json || self.header("content-length").is_none() {
            return Ok(());
        }
        let Ok(json) = serde_json::from_slice::<Value>(&self.body) else {
            // A result is what its handler made of it.
            return if kind.starts_with("application/problem+json") {
                wrong("not JSON".to_owned())
            } else {
                Ok(())
            };
        };
        if self.status >= 400 && !is_refusal(&json, self.status) {
            return wrong("a refusal that is no problem document".to_owned());
        }
        Ok(())
    }

    /// The cursor of the page behind it.
    pub(super) fn cursor(&self) -> Option<String> {
        let json: Value = serde_json::from_slice(&self.body).ok()?;
        json["next_cursor"].as_str().map(str::to_owned)
    }

    /// The job it took.
    pub(super) fn job(&self) -> Option<String> {
        if self.status != 202 {
            return None;
        }
        let json: Value = serde_json::from_slice(&self.body).ok()?;
        json["id"].as_str().map(str::to_owned)
    }
}

/// Whether it is a problem document of that status, or has one for an item of a batch or a line of a stream.
fn is_refusal(json: &Value, status: u16) -> bool {
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
