//! A receiver of webhooks, directed by its test: it sees every call, and decides what is answered and when.

use std::net::SocketAddr;

use reqwest::header::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::in_time;

/// Where webhooks are sent to.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    addr: SocketAddr,
}

/// One call, waiting for its answer.
#[derive(Debug)]
pub struct Call {
    /// Method, path and version.
    pub line: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    stream: BufReader<TcpStream>,
}

impl Receiver {
    /// Opens it on a free port of this machine.
    ///
    /// # Panics
    /// If there is none.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    /// Its URL, with that path and query.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The next call.
    pub async fn called(&self) -> Call {
        in_time("a webhook is delivered", self.accept()).await
    }

    /// Whether nobody has called. Looks once; never waits.
    pub async fn is_quiet(&self) -> bool {
        futures_util::poll!(std::pin::pin!(self.listener.accept())).is_pending()
    }

    async fn accept(&self) -> Call {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_until(b'\n', &mut head).await.unwrap() > 0, "the head breaks off");
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
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Answers with a status; further header lines end in CRLF.
    pub async fn answer(mut self, status: u16, headers: &str) {
        let answer = format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: 2\r\n\r\nok");
        // Whoever called may be gone; that is for the test to see.
        let _ = self.stream.write_all(answer.as_bytes()).await;
    }

    /// Checks the signature as receivers do, with the library of Standard Webhooks.
    #[must_use]
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let webhook = standardwebhooks::Webhook::new(secret).unwrap();
        webhook.verify(&self.body, &self.headers).is_ok()
    }
}
