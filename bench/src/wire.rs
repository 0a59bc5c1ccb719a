//! HTTP/1.1 over a plain socket: a client that costs so little that the measured costs are those of the server.
//!
//! One request at a time on a persistent connection. It does not support chunked bodies: no measured route has one.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A persistent connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// Enough for the document of a job with its headers; it grows for larger responses.
const BUFFER: usize = 4096;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

impl Connection {
    /// `address` is host and port.
    pub(crate) async fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; BUFFER] }
    }

    /// Sends a request and reads the response; returns its body.
    pub(crate) async fn request(&mut self, request: &[u8]) -> &[u8] {
        self.send(request).await;
        self.response().await
    }

    /// Sends a request, or a part of one.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads one whole response, whose status must be 2xx; returns its body.
    pub(crate) async fn response(&mut self) -> &[u8] {
        let mut filled = 0;
        let mut complete = None;
        while complete.is_none_or(|(_, end)| filled < end) {
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
            let read = self.stream.read(&mut self.buffer[filled..]).await.unwrap();
            assert!(
                read > 0,
                "the server closed the connection: {:?}",
                text(&self.buffer[..filled])
            );
            filled += read;
            complete = complete.or_else(|| extent(&self.buffer[..filled]));
        }
        let response = &self.buffer[..filled];
        assert!(response.starts_with(b"HTTP/1.1 2"), "{}", text(response));
        let (body, end) = complete.unwrap();
        &response[body..end]
    }
}

/// Where the body of a response begins and ends, once its head is complete.
fn extent(response: &[u8]) -> Option<(usize, usize)> {
    let head = response.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)?;
    let lines = response[..head].split(|&byte| byte == b'\n');
    let length = lines.filter_map(length).next().unwrap_or(0);
    let body = head + END_OF_HEAD.len();
    Some((body, body + length))
}

fn length(line: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let (name, value) = line.split_at_checked(NAME.len())?;
    name.eq_ignore_ascii_case(NAME).then(|| text(value).trim().parse().unwrap())
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// A `POST` without a body.
pub(crate) fn post_empty(path: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

/// A request with a body of JSON.
pub(crate) fn post(path: &str, body: &str) -> Vec<u8> {
    let mut request = head_of_post(path, "application/json", body.len());
    request.extend_from_slice(body.as_bytes());
    request
}

/// The head of a request with a body of this many bytes.
pub(crate) fn head_of_post(path: &str, content_type: &str, length: usize) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_after_its_content_length() {
        let response = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(extent(response), Some((response.len() - 2, response.len())));
        assert_eq!(extent(&response[..response.len() - 4]), None);
        assert_eq!(extent(b"HTTP/1.1 204 No Content\r\n\r\n"), Some((27, 27)));
    }
}
