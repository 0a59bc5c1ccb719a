//! Controls handlers from a test: a job of the task `act` connects to the stage and executes the instructions it gets
//! there.
//!
//! So a test knows that a handler runs (it connected), decides when and how it ends, and sees when it is asked to stop.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::wait::in_time;

/// A listener that the actors connect to.
#[derive(Debug)]
pub struct Stage {
    listener: TcpListener,
    addr: SocketAddr,
}

/// One run of a job, waiting for instructions.
#[derive(Debug)]
pub struct Actor {
    /// The job's id.
    pub id: String,
    /// The epoch of the claim.
    pub epoch: u64,
    /// Which charged attempt it is.
    pub attempt: u64,
    /// The worker's process id.
    pub pid: u32,
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Stage {
    /// Opens a stage.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self { listener, addr }
    }

    /// Returns the payload of a job that connects here.
    #[must_use]
    pub fn payload(&self) -> Value {
        json!({ "stage": self.addr })
    }

    /// Waits for the next run to start.
    pub async fn wait_for_handler(&self) -> Actor {
        in_time("a handler connects to the stage", self.accept()).await
    }

    /// Whether no handler has connected. Checks once; never waits.
    pub async fn is_empty(&self) -> bool {
        futures_util::poll!(std::pin::pin!(self.listener.accept())).is_pending()
    }

    async fn accept(&self) -> Actor {
        let (stream, _) = self.listener.accept().await.unwrap();
        Actor::handshake(stream).await
    }
}

impl Actor {
    async fn handshake(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let hello = lines.next_line().await.unwrap().expect("an actor sends a hello");
        let hello: Value = serde_json::from_str(&hello).unwrap();
        Self {
            id: hello["id"].as_str().unwrap().to_owned(),
            epoch: hello["epoch"].as_u64().unwrap(),
            attempt: hello["attempt"].as_u64().unwrap(),
            pid: u32::try_from(hello["pid"].as_u64().unwrap()).unwrap(),
            lines,
            writer,
        }
    }

    /// Sends an instruction of `tasks::Act`.
    ///
    /// # Panics
    /// If the handler has disconnected.
    pub async fn send(&mut self, act: &Value) {
        let line = format!("{act}\n");
        self.writer.write_all(line.as_bytes()).await.expect("the handler is connected");
    }

    /// Makes the handler return this result.
    pub async fn returns(mut self, result: &Value) {
        self.send(&json!({ "return": result })).await;
    }

    /// Makes the handler return, and waits until it has.
    pub async fn returns_and_ends(mut self, result: &Value) {
        self.send(&json!({ "return": result })).await;
        self.wait_until_ended().await;
    }

    /// Makes the handler fail with a retryable error.
    pub async fn fails(mut self, message: &str) {
        self.send(&json!({ "fail": message })).await;
    }

    /// Waits until the handler reports that it was asked to stop.
    ///
    /// # Panics
    /// If it reports something else.
    pub async fn wait_for_stop_request(&mut self) {
        let line = in_time("a handler is asked to stop", self.lines.next_line()).await;
        assert_eq!(line.unwrap().as_deref(), Some("stop"));
    }

    /// Waits until the handler has ended: it returned, was aborted, or its process was killed.
    pub async fn wait_until_ended(&mut self) {
        let disconnected = async { while matches!(self.lines.next_line().await, Ok(Some(_))) {} };
        in_time("a handler has ended", disconnected).await;
    }
}
