//! A pool of connections to the gateway, shared by all jobs. It stands for the pool of your database or HTTP client,
//! which is used in the same way.

use std::io;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// What the gateway accepts from one host. Jobs wait here while all connections are in use.
const MAX_CONNECTIONS: usize = 4;
/// Longer than any reply.
const MAX_REPLY_BYTES: u64 = 1024;

/// Sends messages over at most four connections.
#[derive(Debug)]
pub struct Gateway {
    address: String,
    permits: Semaphore,
    idle: Mutex<Vec<BufStream<TcpStream>>>,
}

/// A request: one line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) id: &'a str,
    pub(crate) to: &'a str,
    pub(crate) text: &'a str,
}

/// A reply: one line of JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Accepted(u64),
    Busy,
    UnknownRecipient,
    HostNotAllowed,
}

impl Gateway {
    /// Creates a pool without connections: they are opened when they are needed.
    #[must_use]
    pub fn at(address: impl Into<String>) -> Self {
        let permits = Semaphore::new(MAX_CONNECTIONS);
        Self { address: address.into(), permits, idle: Mutex::default() }
    }

    pub(crate) async fn send(&self, message: &Message<'_>) -> io::Result<Reply> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => BufStream::new(TcpStream::connect(&self.address).await?),
        };
        // After an error, or if this future is dropped, the connection is closed.
        let reply = call(&mut connection, message).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(reply)
    }
}

async fn call(connection: &mut BufStream<TcpStream>, message: &Message<'_>) -> io::Result<Reply> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    connection.write_all(&line).await?;
    connection.flush().await?;
    let mut reply = String::new();
    connection.take(MAX_REPLY_BYTES).read_line(&mut reply).await?;
    if reply.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the gateway closed the connection",
        ));
    }
    Ok(serde_json::from_str(&reply)?)
}
