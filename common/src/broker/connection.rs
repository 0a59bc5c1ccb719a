//! One connection to Redis and its life: connect, use, on any error drop, back off with full jitter, connect again.
//!
//! Whoever calls finds a connection or starts one; connecting is single-flight and belongs to the link, so a caller that
//! gives up does not take the others' connection with it. Every call has a deadline, so nothing here can hang.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::{Error, Remedy, classify};
use super::functions::Function;
use super::{CALL_DEADLINE, Settings, opening};
use crate::backoff::Backoff;
use crate::job::Partition;

/// Longer than any TCP handshake on a working network; shorter than the 2 s in which a client gets its 503.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// What any network between us and Redis carries, in bytes a second: large payloads and results get time for their way.
const SLOWEST_NETWORK: u64 = 1024 * 1024;

/// How a call may be repeated when its connection breaks under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Until the deadline: doing it twice is the same as doing it once.
    UntilDeadline,
    /// Not at all: the caller repeats by itself, and counts.
    Never,
}

/// A call of a function: which, where, and how patiently.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    function: Function,
    partition: Partition,
    repeat: Repeat,
    patience: Duration,
}

impl Call {
    /// A call that is repeated until it is answered, within the deadline of every call.
    pub(crate) const fn new(function: Function, partition: Partition) -> Self {
        Self { function, partition, repeat: Repeat::UntilDeadline, patience: CALL_DEADLINE }
    }

    /// The caller repeats it by itself.
    pub(crate) const fn once(self) -> Self {
        Self { repeat: Repeat::Never, ..self }
    }

    /// Waits at least that long for the answer.
    pub(crate) fn patient(self, patience: Duration) -> Self {
        Self { patience: self.patience.max(patience), ..self }
    }

    /// Waits longer for what it carries.
    pub(crate) fn carrying(self, bytes: usize) -> Self {
        let way = Duration::from_millis(bytes as u64 * 1000 / SLOWEST_NETWORK);
        Self { patience: self.patience + way, ..self }
    }
}

/// A connection under the number it was made with, or what to do about there being none.
type Connected = Result<(u64, MultiplexedConnection), (Remedy, Error)>;

struct State {
    connection: Option<MultiplexedConnection>,
    /// Under way, for everybody who waits for it.
    connecting: Option<Shared<BoxFuture<'static, Connected>>>,
    /// Grows with each connection, so that a late error of an old one does not drop its successor.
    generation: u64,
    failures: u32,
    not_before: Instant,
}

/// A connection of its own, shared by those who clone it.
#[derive(Clone)]
pub(crate) struct Link {
    settings: Arc<Settings>,
    client: Client,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(settings: Arc<Settings>, client: Client) -> Self {
        let state = State {
            connection: None,
            connecting: None,
            generation: 0,
            failures: 0,
            not_before: Instant::now(),
        };
        Self { settings, client, state: Arc::new(Mutex::new(state)) }
    }

    /// Calls a function on its partition.
    pub(crate) async fn call(
        &self,
        call: Call,
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<Value, Error> {
        let mut command = redis::cmd("FCALL");
        let name = self.settings.library.name_of(call.function);
        command.arg(name).arg(1).arg(self.settings.keys(call.partition).root());
        arguments(&mut command);
        self.send_one(&command, call.repeat, call.patience).await
    }

    /// Sends commands that only read, as one round trip.
    pub(crate) async fn read(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        self.send(Request::Many(pipeline), Repeat::UntilDeadline, CALL_DEADLINE).await
    }

    /// As [`Link::read`], but a key of another type than expected is an answer, [`Value::ServerError`], and no failure.
    pub(crate) async fn look(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        self.send(Request::Look(pipeline), Repeat::UntilDeadline, CALL_DEADLINE).await
    }

    /// Sends one command that may block in Redis for up to `patience`.
    pub(crate) async fn block(&self, command: &Cmd, patience: Duration) -> Result<Value, Error> {
        self.send_one(command, Repeat::Never, CALL_DEADLINE + patience).await
    }

    /// Makes sure there is a working connection to a Redis we can use.
    pub(crate) async fn open(&self) -> Result<(), Error> {
        let deadline = Instant::now() + CALL_DEADLINE;
        let connected = timeout_at(deadline, self.connection()).await;
        connected.map_err(|_| Error::timed_out())?.map(|_| ()).map_err(|(_, error)| error)
    }

    /// Forgets the connection, if there is one: whoever comes next gets a new one. Calls under way go on.
    pub(crate) fn forget(&self) {
        self.lock().connection = None;
    }

    async fn send_one(
        &self,
        command: &Cmd,
        repeat: Repeat,
        patience: Duration,
    ) -> Result<Value, Error> {
        let mut replies = self.send(Request::One(command), repeat, patience).await?;
        replies.pop().ok_or_else(|| Error::unreadable("no reply"))
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
                    used.inspect(|&generation| self.drop_connection(generation));
                    return Err(last);
                }
            };
            last = error;
            match remedy {
                Remedy::GiveUp => break,
                Remedy::Reload => {}
                Remedy::Wait | Remedy::Reconnect if repeat == Repeat::Never => break,
                Remedy::Wait | Remedy::Reconnect => {
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
        let (generation, mut connection) = self.connection().await?;
        *used = Some(generation);
        let outcome = match request {
            Request::One(command) => {
                connection.send_packed_command(command).await.map(|value| vec![value])
            }
            Request::Many(pipeline) | Request::Look(pipeline) => {
                connection.send_packed_commands(pipeline, 0, pipeline.cmd_iter().count()).await
            }
        };
        let look = matches!(request, Request::Look(_));
        let error = match outcome.and_then(|values| server_errors(values, look)) {
            Ok(values) => return Ok(values),
            Err(error) => Arc::new(error),
        };
        let (remedy, error) = classify(&error);
        match remedy {
            Remedy::Reconnect => self.drop_connection(generation),
            Remedy::Reload => opening::load(&mut connection, &self.settings.library)
                .await
                .map_err(|error| classify(&Arc::new(error)))?,
            Remedy::Wait | Remedy::GiveUp => {}
        }
        Err((remedy, error))
    }

    /// The connection; if there is none, the one that is being made, or a new one.
    async fn connection(&self) -> Connected {
        let connecting = {
            let mut state = self.lock();
            if let Some(connection) = &state.connection {
                return Ok((state.generation, connection.clone()));
            }
            state.connecting.get_or_insert_with(|| self.start_connecting()).clone()
        };
        connecting.await
    }

    /// Connects in a task of its own, which goes on when those who wait for it give up.
    fn start_connecting(&self) -> Shared<BoxFuture<'static, Connected>> {
        let link = self.clone();
        let task = tokio::spawn(async move { link.connect_once().await });
        let link = self.clone();
        let outcome = async move {
            task.await.unwrap_or_else(|_| {
                // Only a runtime that is being shut down drops the task.
                link.lock().connecting = None;
                Err((Remedy::GiveUp, Error::timed_out()))
            })
        };
        outcome.boxed().shared()
    }

    async fn connect_once(&self) -> Connected {
        let not_before = self.lock().not_before;
        sleep_until(not_before).await;
        let connected = self.connect().await;
        let mut state = self.lock();
        state.connecting = None;
        match connected {
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
                Err((Remedy::Wait, error))
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
        let opened =
            tokio::time::timeout(CALL_DEADLINE, opening::open(&mut connection, &self.settings));
        opened.await.map_err(|_| Error::timed_out())??;
        Ok(connection)
    }

    /// Forgets the connection of that generation; a later one stays.
    fn drop_connection(&self, generation: u64) {
        let mut state = self.lock();
        if generation == state.generation {
            state.connection = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Never held over an await; each change is whole: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
    Look(&'a Pipeline),
}

/// Turns an error that Redis sent inside a reply into ours. Whoever just looks around hears of a wrong type as such.
pub(crate) fn server_errors(values: Vec<Value>, look: bool) -> Result<Vec<Value>, RedisError> {
    let expected = |value: &Value| match value {
        Value::ServerError(error) => look && error.code() == "WRONGTYPE",
        _ => false,
    };
    let extract = |value: Value| if expected(&value) { Ok(value) } else { value.extract_error() };
    values.into_iter().map(extract).collect()
}
