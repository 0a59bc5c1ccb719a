//! One connection to Redis and its life: connect, use, on any error drop, back off with full jitter, connect again.
//!
//! Whoever calls drives it; there is no task behind it. Connecting is single-flight: callers that come meanwhile wait,
//! each within its own deadline. Every call has a deadline, so nothing here can hang.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Settings;
use super::error::{Error, Remedy, classify};
use super::functions::Function;
use super::opening;
use crate::backoff::Backoff;
use crate::job::Partition;

/// Longer than any TCP handshake on a working network; shorter than the 2 s in which a client gets its 503.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How a call may be repeated when its connection breaks under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Until the deadline: doing it twice is the same as doing it once.
    UntilDeadline,
    /// Not at all: the caller repeats by itself, and counts.
    Never,
}

#[derive(Debug)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// Grows with each connection, so that a late error of an old one does not drop its successor.
    generation: u64,
    failures: u32,
    not_before: Instant,
}

/// A connection of its own, shared by those who clone it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    settings: Arc<Settings>,
    client: Client,
    state: Arc<Mutex<State>>,
}

impl Link {
    pub(crate) fn new(settings: Arc<Settings>, client: Client) -> Self {
        let state =
            State { connection: None, generation: 0, failures: 0, not_before: Instant::now() };
        Self { settings, client, state: Arc::new(Mutex::new(state)) }
    }

    /// Calls a function on its partition.
    pub(crate) async fn call(
        &self,
        function: Function,
        partition: Partition,
        repeat: Repeat,
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<Value, Error> {
        let mut command = redis::cmd("FCALL");
        let name = self.settings.library.name_of(function);
        command.arg(name).arg(1).arg(self.settings.keys(partition).root());
        arguments(&mut command);
        let mut replies = self.send(Request::One(&command), repeat, self.settings.deadline).await?;
        replies.pop().ok_or_else(|| Error::unreadable("no reply"))
    }

    /// Sends commands that only read, as one round trip.
    pub(crate) async fn read(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        self.send(Request::Many(pipeline), Repeat::UntilDeadline, self.settings.deadline).await
    }

    /// Sends one command that may block in Redis for up to `patience`.
    pub(crate) async fn block(&self, command: &Cmd, patience: Duration) -> Result<Value, Error> {
        let deadline = self.settings.deadline + patience;
        let mut replies = self.send(Request::One(command), Repeat::Never, deadline).await?;
        replies.pop().ok_or_else(|| Error::unreadable("no reply"))
    }

    /// Makes sure there is a working connection to a Redis we can use.
    pub(crate) async fn open(&self) -> Result<(), Error> {
        let deadline = Instant::now() + self.settings.deadline;
        timeout_at(deadline, self.connection()).await.map_err(|_| Error::timed_out())?.map(|_| ())
    }

    async fn send(
        &self,
        request: Request<'_>,
        repeat: Repeat,
        patience: Duration,
    ) -> Result<Vec<Value>, Error> {
        let deadline = Instant::now() + patience;
        let mut last = Error::timed_out();
        while Instant::now() < deadline {
            let mut used = None;
            let attempt = timeout_at(deadline, self.attempt(request, &mut used)).await;
            let (remedy, error) = match attempt {
                Ok(Ok(values)) => return Ok(values),
                Ok(Err(failure)) => failure,
                Err(_elapsed) => {
                    // The connection may be a black hole: whoever comes next gets a new one.
                    if let Some(generation) = used {
                        self.drop_connection(generation).await;
                    }
                    return Err(if matches!(last, Error::Refused { .. }) {
                        last
                    } else {
                        Error::timed_out()
                    });
                }
            };
            match remedy {
                Remedy::GiveUp => return Err(error),
                Remedy::Reload => last = error,
                Remedy::Wait | Remedy::Reconnect if repeat == Repeat::Never => return Err(error),
                Remedy::Wait | Remedy::Reconnect => {
                    last = error;
                    sleep_until((Instant::now() + Backoff::FOR_CONNECTIONS.draw(1)).min(deadline))
                        .await;
                }
            }
        }
        Err(last)
    }

    /// Sends once; notes in `used` which connection it went over.
    async fn attempt(
        &self,
        request: Request<'_>,
        used: &mut Option<u64>,
    ) -> Result<Vec<Value>, (Remedy, Error)> {
        let (generation, mut connection) =
            self.connection().await.map_err(|error| (Remedy::Wait, error))?;
        *used = Some(generation);
        let outcome = match request {
            Request::One(command) => {
                connection.send_packed_command(command).await.map(|value| vec![value])
            }
            Request::Many(pipeline) => {
                connection.send_packed_commands(pipeline, 0, pipeline.cmd_iter().count()).await
            }
        };
        let error = match outcome.and_then(server_errors) {
            Ok(values) => return Ok(values),
            Err(error) => Arc::new(error),
        };
        let (remedy, error) = classify(&error);
        match remedy {
            Remedy::Reconnect => self.drop_connection(generation).await,
            Remedy::Reload => opening::load(&mut connection, &self.settings.library)
                .await
                .map_err(|error| classify(&Arc::new(error)))?,
            Remedy::Wait | Remedy::GiveUp => {}
        }
        Err((remedy, error))
    }

    /// The connection, made now if there is none.
    async fn connection(&self) -> Result<(u64, MultiplexedConnection), Error> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((state.generation, connection.clone()));
        }
        sleep_until(state.not_before).await;
        match self.connect().await {
            Ok(connection) => {
                state.failures = 0;
                state.generation += 1;
                state.connection = Some(connection.clone());
                Ok((state.generation, connection))
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                state.not_before = Instant::now() + Backoff::FOR_CONNECTIONS.draw(state.failures);
                tracing::debug!(%error, failures = state.failures, "cannot connect to redis");
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        // Our own deadlines bound every call, so that a blocking read may be longer than others.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| classify(&Arc::new(error)).1)?;
        let opened = tokio::time::timeout(
            self.settings.deadline,
            opening::open(&mut connection, &self.settings),
        );
        opened.await.map_err(|_| Error::timed_out())??;
        Ok(connection)
    }

    /// Forgets the connection of that generation; a later one stays.
    async fn drop_connection(&self, generation: u64) {
        let mut state = self.state.lock().await;
        if generation == state.generation {
            state.connection = None;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
}

/// Turns an error that Redis sent inside a reply into ours.
fn server_errors(values: Vec<Value>) -> Result<Vec<Value>, RedisError> {
    values.into_iter().map(Value::extract_error).collect()
}
