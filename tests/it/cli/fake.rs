//! A server in place of an API: it answers what no real API would answer when a test wants it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that answers each request on a connection of its own.
pub(super) struct Fake {
    pub(super) url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// `answer` gets the head of a request; an empty answer closes the connection.
    pub(super) async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (heads, answer) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(answer));
        let known = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, known) = (Arc::clone(&answer), Arc::clone(&known));
                tokio::spawn(async move {
                    let head = read_head(&mut stream).await;
                    known.lock().unwrap().push(head.clone());
                    // A client that has gone needs no answer.
                    let _ = stream.write_all(answer(&head).as_bytes()).await;
                });
            }
        });
        Self { url, heads }
    }

    /// The heads of all requests so far.
    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut part = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(count @ 1..) => head.extend(&part[..count]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// An answer with some further lines in its head.
pub(super) fn answer(status: &str, head: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{head}\r\n{body}"
    )
}

pub(super) fn ok(body: &Value) -> String {
    answer("200 OK", "content-type: application/json\r\n", &body.to_string())
}

pub(super) fn problem(status: u16, slug: &str, head: &str) -> String {
    let body = json!({ "type": format!("/problems/{slug}"), "title": slug, "status": status });
    answer(&format!("{status} Problem"), head, &body.to_string())
}

/// A page of a list.
pub(super) fn page(items: &Value, next: Option<&str>) -> String {
    ok(&json!({ "items": items, "next_cursor": next }))
}

pub(super) fn job(id: &str, status: &str) -> Value {
    json!({ "id": id, "task": "t", "queue": "q", "priority": "normal", "status": status,
        "attempt": 0, "max_attempts": 3, "created_at": "2026-11-30T10:00:00Z", "payload_size": 1 })
}
