//! A receiver of webhooks, controlled by its test: the test sees every call and decides what to respond and when.

use std::net::SocketAddr;

use reqwest::header::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::in_time;

/// A server that webhooks are sent to.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    addr: SocketAddr,
}

/// One call, waiting for its response.
#[derive(Debug)]
pub struct Call {
    /// Method, path and version.
    pub line: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    stream: BufReader<TcpStream>,
}

impl Receiver {
    /// Opens a receiver on a free port of this machine.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    /// Returns its URL with this path and query.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Waits for the next call.
    pub async fn next_call(&self) -> Call {
        in_time("a webhook is delivered", self.accept()).await
    }

    /// Whether no call has arrived. Checks once; never waits.
    pub async fn has_no_call(&self) -> bool {
        futures_util::poll!(std::pin::pin!(self.listener.accept())).is_pending()
    }

    async fn accept(&self) -> Call {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(
                stream.read_until(b'\n', &mut head).await.unwrap() > 0,
                "the connection closed in the head"
            );
        }
        let head = String::from_utf8(head).unwrap();
        let (line, rest) = head.split_once("\r\n").unwrap();
        let headers: HeaderMap = rest
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let length = headers["content-length"].to_str().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        Call { line: line.to_owned(), headers, body, stream }
    }
}

impl Call {
    /// Parses the body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns a header.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Responds with a status; further header lines end in CRLF.
    pub async fn answer(mut self, status: u16, headers: &str) {
        let response =
            format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: 2\r\n\r\nok");
        // The caller may have disconnected; that is for the test to check.
        let _ = self.stream.write_all(response.as_bytes()).await;
    }

    /// Checks the signature as receivers do, with the library of Standard Webhooks.
    #[must_use]
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let webhook = standardwebhooks::Webhook::new(secret).unwrap();
        webhook.verify(&self.body, &self.headers).is_ok()
    }
}
