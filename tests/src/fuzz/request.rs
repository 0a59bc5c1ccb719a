//! Random requests, and the check of their responses.

use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::draw::Draw;
use super::{answer, options};
use crate::Api;

/// Every response begins within this time: no request here waits for longer than a second.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
/// This many ids of jobs are kept for later requests.
const IDS_KEPT: usize = 64;

const METHODS: &[&str] =
    &["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH", "TRACE", "get", "BREW"];
const PATHS: &[&str] = &[
    "/crunch",
    "/jobs",
    "/jobs/batch",
    "/tasks/echo/jobs",
    "/tasks/fuzz.tree/jobs",
    "/tasks/fuzz.bytes/jobs",
    "/tasks/none/jobs",
    "/result/{id}",
    "/jobs/{id}",
    "/jobs/{id}/result",
    "/jobs/{id}/payload",
    "/jobs/{id}/attempts",
    "/jobs/{id}/deliveries",
    "/jobs/{id}/events",
    "/jobs/{id}/logs",
    "/jobs/{id}/cancel",
    "/jobs/{id}/retry",
    "/tasks",
    "/tasks/fuzz.tree",
    "/queues",
    "/queues/default",
    "/queues/echo/pause",
    "/queues/echo/resume",
    "/queues/a/redrive",
    "/queues/a/purge",
    "/queues/echo/groups",
    "/queues/echo/groups/a%2Fb",
    "/queues/echo/groups/%ff",
    "/schedules",
    "/schedules/s",
    "/schedules/s/run",
    "/schedules/s/backfill",
    "/workers",
    "/livez",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/x",
    "/problems/gone",
    "/",
    "/stream-tickets",
    "/nothing",
    "//",
    "/%00",
    "*",
];
const HEADERS: &[&str] = &[
    "Accept",
    "Accept-Encoding",
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Expect",
    "Host",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Origin",
    "Prefer",
    "Range",
    "Sec-Fetch-Site",
    "traceparent",
    "tracestate",
    "Upgrade",
    "Connection",
    "X-Request-Id",
    "Access-Control-Request-Method",
    "Cookie",
    "TE",
    "Via",
    "X-Forwarded-For",
];
const VALUES: &[&str] = &[
    "*/*",
    "text/html",
    "gzip",
    "identity",
    "Bearer crk_x_y",
    "Basic eDp5",
    "application/json",
    "application/x-ndjson",
    "text/plain",
    "text/plain; charset=x",
    "image/png",
    "100-continue",
    "localhost",
    "evil.example",
    "key-1",
    "\"key\"",
    "*",
    "W/\"1\"",
    "12-3",
    "null",
    "http://localhost",
    "respond-async, wait=1",
    "wait=0",
    "bytes=0-1",
    "cross-site",
    "same-origin",
    "close",
    "keep-alive",
    "Upgrade",
    "h2c",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "a=b,c=d",
    "",
    "é",
    "x",
];
const PARAMETERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "20",
    "101",
    "x",
    "",
    "%",
    "%ff",
    "1e9",
    "succeeded",
    "queued",
    "echo",
    "default",
    "null",
    "a b",
];

/// Ids of accepted jobs, and cursors of pages.
#[derive(Debug, Default)]
pub(super) struct Ids(Mutex<Vec<String>>, Mutex<Vec<String>>);

impl Ids {
    fn add(&self, id: &str) {
        keep(&self.0, id);
    }

    /// Returns one of the cursors.
    pub(super) fn cursor(&self, draw: &mut Draw) -> Option<String> {
        let cursors = self.1.lock();
        (!cursors.is_empty()).then(|| cursors[draw.below(cursors.len())].clone())
    }

    fn one(&self, draw: &mut Draw) -> String {
        let ids = self.0.lock();
        let known =
            (!ids.is_empty() && !draw.once_in(5)).then(|| ids[draw.below(ids.len())].clone());
        known.unwrap_or_else(|| {
            "018f3a3e-0000-8000-8000-00000000000".to_owned() + draw.one(&["0", "g", "", "00"])
        })
    }
}

fn keep(last: &Mutex<Vec<String>>, new: &str) {
    let mut last = last.lock();
    if last.len() == IDS_KEPT {
        last.remove(0);
    }
    last.push(new.to_owned());
}

/// A request as it is sent.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    pub(super) is_head: bool,
    /// Whether it is valid HTTP, so that a response is required.
    pub(super) is_valid: bool,
}

/// Sends one request and checks its response.
pub(super) async fn exchange(api: &Api, draw: &mut Draw, ids: &Ids) -> Result<(), String> {
    let request = request(draw, ids);
    let shown =
        || String::from_utf8_lossy(&request.bytes[..request.bytes.len().min(2000)]).into_owned();
    let mut stream = TcpStream::connect(api.address()).await.map_err(|error| format!("{error}"))?;
    let sent = async {
        // A server may respond and close before it has read everything.
        let _ = stream.write_all(&request.bytes).await;
        if !request.is_valid {
            let _ = stream.shutdown().await;
        }
        answer::read(&mut stream, &request).await
    };
    let response = timeout(RESPONSE_TIMEOUT, sent).await;
    let checked = match response {
        Err(_) => Err("no response in time".to_owned()),
        Ok(Err(what)) => Err(what),
        Ok(Ok(None)) if request.is_valid => Err("closed without a response".to_owned()),
        Ok(Ok(None)) => Ok(None),
        Ok(Ok(Some(response))) => {
            response.cursor().iter().for_each(|cursor| keep(&ids.1, cursor));
            response.check().map(|()| response.job())
        }
    };
    match checked {
        Ok(job) => job.iter().for_each(|id| ids.add(id)),
        Err(what) => return Err(format!("{what}\n{}", shown())),
    }
    Ok(())
}

fn request(draw: &mut Draw, ids: &Ids) -> Request {
    let method = if draw.once_in(4) { draw.one(METHODS) } else { draw.one(&["GET", "POST"]) };
    let path = draw.one(PATHS).replace("{id}", &ids.one(draw));
    let mut head = format!("{method} {path}{} HTTP/1.1\r\nHost: localhost\r\n", query(draw, ids));
    for _ in 0..draw.below(5) {
        let (name, value) = (draw.one(HEADERS), draw.one(VALUES));
        // A second one of these would change the meaning of the request or make it invalid.
        if !(["Host", "Expect"].contains(&name)) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    if draw.once_in(3) {
        head += &options::header(draw);
    }
    let body = if draw.once_in(4) && method != "POST" { Vec::new() } else { body(draw) };
    if draw.once_in(2) {
        head += "Content-Type: application/json\r\n";
    }
    let mut bytes = framed(draw, &head, &body);
    let is_valid = !draw.once_in(6);
    if !is_valid {
        bytes = draw.damaged(bytes);
    }
    Request { bytes, is_head: method == "HEAD", is_valid }
}

fn query(draw: &mut Draw, ids: &Ids) -> String {
    let pairs: Vec<_> = (0..draw.below(3))
        .map(|_| match draw.name() {
            _ if draw.once_in(2) => options::parameter(draw, ids),
            // Longer waits would test nothing more.
            "wait" => format!("wait={}", draw.one(&["0", "1", "x", "-1", ""])),
            name => format!(
                "{}={}",
                name.replace(['\\', ' '], ""),
                draw.one(PARAMETERS).replace(' ', "+")
            ),
        })
        .collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn body(draw: &mut Draw) -> Vec<u8> {
    let body = match draw.below(8) {
        0 if draw.once_in(40) => large(draw),
        0 => return draw.bytes(70_000),
        1 => draw.json(6),
        2 => draw.tree(),
        3 => {
            let lines: Vec<_> = (0..draw.below(20)).map(|_| envelope(draw)).collect();
            lines.join("\n")
        }
        4 => {
            let jobs: Vec<_> = (0..draw.below(20)).map(|_| envelope(draw)).collect();
            format!("{{\"jobs\":[{}]}}", jobs.join(","))
        }
        _ => envelope(draw),
    };
    if draw.once_in(8) { draw.damaged(body.into_bytes()) } else { body.into_bytes() }
}

/// Many members, jobs or elements, where an envelope or a batch normally has a few.
fn large(draw: &mut Draw) -> String {
    let count = draw.below(40_000);
    match draw.below(3) {
        0 => {
            let member = draw.one(&["\"a\":1", "\"task\":\"echo\"", "\"metadata\":{\"a\":1}"]);
            format!("{{{}}}", vec![member; count].join(","))
        }
        1 => format!("{{\"jobs\":[{}]}}", vec![envelope(draw); count.min(1200)].join(",")),
        _ => format!("{{\"task\":\"echo\",\"payload\":[{}]}}", vec!["1"; count].join(",")),
    }
}

fn envelope(draw: &mut Draw) -> String {
    let task = draw.one(&["echo", "fuzz.tree", "fuzz.bytes", "repeat", "return_bytes"]);
    let payload = if draw.once_in(2) { draw.tree() } else { draw.json(4) };
    let mut text = format!("{{\"task\":\"{task}\",\"payload\":{payload}");
    for _ in 0..draw.below(3) {
        let _ = write!(text, ",\"{}\":{}", draw.name(), draw.json(2));
    }
    for _ in 0..draw.below(4) {
        let _ = write!(text, ",{}", options::member(draw));
    }
    text + "}"
}

fn framed(draw: &mut Draw, head: &str, body: &[u8]) -> Vec<u8> {
    if body.is_empty() {
        return format!("{head}\r\n").into_bytes();
    }
    if !draw.once_in(5) {
        let mut bytes = format!("{head}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        return bytes;
    }
    let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(1 + draw.below(5000)) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
