//! HTTP/1.1 without a client library: requests that no library would send, and responses as they are on the wire.

use std::io;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::wait::in_time;
use crate::{Answer, Api};

/// One connection to an API.
#[derive(Debug)]
pub struct RawConnection {
    stream: BufReader<TcpStream>,
}

impl RawConnection {
    /// Connects to an API.
    ///
    /// # Panics
    /// If nothing listens.
    pub async fn to(api: &Api) -> Self {
        Self::to_address(api.address()).await
    }

    /// Connects to a host and a port.
    ///
    /// # Panics
    /// If nothing listens.
    pub async fn to_address(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the API listens");
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Connects with the smallest receive buffer that the system offers, so that unread responses stay in the API.
    ///
    /// # Panics
    /// If nothing listens.
    pub async fn with_small_buffer(api: &Api) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        let stream = socket.connect(api.address().parse().unwrap()).await;
        Self { stream: BufReader::new(stream.expect("the API listens")) }
    }

    /// Ends the small buffer: with one, a large answer may take the system of the API a fifth of a second for each
    /// kilobyte, because it asks only that often whether there is room.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn widen_buffer(&self) {
        let socket = self.stream.get_ref();
        rustix::net::sockopt::set_socket_recv_buffer_size(socket, 1 << 20).unwrap();
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// If the peer has closed the connection.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Writes the head of a request without the final blank line; `line` is its first line without the version. `Host`
    /// is localhost unless it is among the headers.
    ///
    /// # Panics
    /// If the peer has closed the connection.
    pub async fn write_head(&mut self, line: &str, headers: &[&str]) {
        let has_host = headers.iter().any(|header| header.starts_with("Host:"));
        let host = if has_host { "" } else { "Host: localhost\r\n" };
        let mut head = format!("{line} HTTP/1.1\r\n{host}");
        headers.iter().for_each(|header| head.extend([header, "\r\n"]));
        self.write(head).await.expect("the API reads the head");
    }

    /// Sends a request without a body and reads the response. `line` is as in [`Self::write_head`].
    pub async fn request(&mut self, line: &str, headers: &[&str]) -> Answer {
        self.write_head(line, headers).await;
        self.write("\r\n").await.unwrap();
        let is_head = line.starts_with("HEAD ");
        if is_head { self.answer_without_body().await } else { self.answer().await }
    }

    /// Sends a whole body in chunked encoding, in chunks of at most `size` bytes.
    ///
    /// # Errors
    /// If the peer closes the connection before the end.
    pub async fn write_chunks(&mut self, body: &[u8], size: usize) -> io::Result<()> {
        for chunk in body.chunks(size) {
            self.write(format!("{:x}\r\n", chunk.len())).await?;
            self.write(chunk).await?;
            self.write("\r\n").await?;
        }
        self.write("0\r\n\r\n").await
    }

    /// Closes the sending direction; responses can still be read.
    ///
    /// # Panics
    /// If the peer has closed the connection.
    pub async fn finish_sending(&mut self) {
        self.stream.shutdown().await.expect("the API is still connected");
    }

    /// Reads a response, with the body that `Content-Length` announces; the body of a chunked one is left unread.
    pub async fn answer(&mut self) -> Answer {
        in_time("a response", self.read(true)).await
    }

    /// Reads a response that has no body even if it has a `Content-Length`: to HEAD, or with status 304.
    pub async fn answer_without_body(&mut self) -> Answer {
        in_time("a response without a body", self.read(false)).await
    }

    /// Waits until the peer closes the connection; returns what it sent until then.
    pub async fn read_until_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let closed = async {
            // A reset also ends the connection.
            let _ = self.stream.read_to_end(&mut rest).await;
        };
        in_time("the end of a connection", closed).await;
        rest
    }

    /// Returns bytes once some arrive, or `None` at the end of the connection. If this is canceled, no bytes are lost.
    pub async fn read_some(&mut self) -> Option<Vec<u8>> {
        // A reset also ends the connection.
        let bytes = self.stream.fill_buf().await.map(<[u8]>::to_vec).unwrap_or_default();
        self.stream.consume(bytes.len());
        (!bytes.is_empty()).then_some(bytes)
    }

    async fn read(&mut self, has_body: bool) -> Answer {
        let status_line = self.read_line().await;
        let code = status_line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
        let status = code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let mut headers = HeaderMap::new();
        loop {
            let line = self.read_line().await;
            let Some((name, value)) = line.split_once(':') else { break };
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value.trim()).unwrap());
        }
        let length = headers.get("content-length").map(|value| value.to_str().unwrap());
        let length = length.filter(|_| has_body).map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.expect("the body is complete");
        Answer { status, headers, body: Bytes::from(body) }
    }

    async fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.expect("a response has lines");
        line.truncate(line.trim_end().len());
        line
    }
}
