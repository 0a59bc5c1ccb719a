//! One connection to Redis and its lifecycle: connect, use, drop on any error, back off with full jitter, reconnect.
//!
//! A caller uses the existing connection or starts one. Connecting is single-flight and belongs to the link, so a
//! caller that gives up does not break the connection of the others. Every call has a deadline, so nothing here can
//! hang.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::endpoint::{Connection, Endpoint};
use super::error::{Error, Remedy, classify};
use super::flow::Flow;
use super::functions::Function;
use super::reply::server_errors;
use super::transfer::transfer_time;
use super::{CALL_DEADLINE, Settings, opening};
use crate::backoff::Backoff;
use crate::job::Partition;
use crate::telemetry::metrics::REDIS_CONNECTS;

/// How a call may be repeated when its connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Until the deadline: the call is idempotent.
    UntilDeadline,
    /// Not at all: the caller repeats it, and counts.
    Never,
}

/// A call of a function: which function, on which partition, and its time limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    function: Function,
    partition: Partition,
    repeat: Repeat,
    time_limit: Duration,
}

impl Call {
    /// A call that is repeated until it is answered, within the default time limit.
    pub(crate) const fn new(function: Function, partition: Partition) -> Self {
        Self { function, partition, repeat: Repeat::UntilDeadline, time_limit: CALL_DEADLINE }
    }

    /// Sends the call once; the caller repeats it.
    pub(crate) const fn once(self) -> Self {
        Self { repeat: Repeat::Never, ..self }
    }

    /// Waits at least this long for the reply.
    pub(crate) fn with_min_time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit: self.time_limit.max(time_limit), ..self }
    }

    /// Extends the time limit by the transfer time of the call's data.
    pub(crate) fn carrying(self, bytes: usize) -> Self {
        Self { time_limit: self.time_limit + transfer_time(bytes), ..self }
    }
}

/// A connection and its generation, or the error and what to do about it.
type Connected = Result<(u64, Connection), (Remedy, Error)>;

struct State {
    connection: Option<Connection>,
    /// In progress, shared by all callers that wait for it.
    connecting: Option<Shared<BoxFuture<'static, Connected>>>,
    /// Incremented with each connection, so that a late error of an old one does not drop its successor.
    generation: u64,
    failures: u32,
    not_before: Instant,
}

/// One connection, shared by all clones.
#[derive(Clone)]
pub(crate) struct Link {
    settings: Arc<Settings>,
    endpoint: Endpoint,
    /// Maximum backoff between two tries to connect.
    max_pause: Duration,
    /// Counts the bytes that arrive, if calls may take longer while some do.
    flow: Option<Flow>,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(settings: Arc<Settings>, endpoint: Endpoint) -> Self {
        let state = State {
            connection: None,
            connecting: None,
            generation: 0,
            failures: 0,
            not_before: Instant::now(),
        };
        let max_pause = Duration::MAX;
        Self { settings, endpoint, max_pause, flow: None, state: Arc::new(Mutex::new(state)) }
    }

    /// Tries to connect at least this often, for callers that cannot wait.
    pub(crate) fn with_max_pause(self, max_pause: Duration) -> Self {
        Self { max_pause, ..self }
    }

    /// Gives up a call only when no more bytes arrive, or at its deadline.
    pub(crate) fn with_idle_timeout(self) -> Self {
        Self { flow: Some(Flow::default()), ..self }
    }

    /// Calls a function on its partition.
    pub(crate) async fn call(
        &self,
        call: Call,
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<Value, Error> {
        let mut command = self.settings.call(call.function, call.partition);
        arguments(&mut command);
        self.send_one(&command, call.repeat, call.time_limit).await
    }

    /// Sends commands that only read, as one round trip.
    pub(crate) async fn read(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        self.send(Request::Many(pipeline), Repeat::UntilDeadline, CALL_DEADLINE).await
    }

    /// Sends commands as one round trip, and does not repeat them: they take something.
    pub(crate) async fn once(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        self.send(Request::Many(pipeline), Repeat::Never, CALL_DEADLINE).await
    }

    /// Like [`Link::read`], for replies that take longer.
    pub(crate) async fn read_within(
        &self,
        pipeline: &Pipeline,
        time_limit: Duration,
    ) -> Result<Vec<Value>, Error> {
        self.send(Request::Many(pipeline), Repeat::UntilDeadline, time_limit).await
    }

    /// Sends commands that are answered one by one: one that is rejected does not hide the outcome of the others. An
    /// error that a retry may resolve repeats all of them, so each must be safe to repeat.
    pub(crate) async fn send_all(
        &self,
        pipeline: &Pipeline,
        time_limit: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let replies = self.send(Request::Each(pipeline), Repeat::UntilDeadline, time_limit).await?;
        let result =
            |reply: Value| reply.extract_error().map_err(|error| classify(&Arc::new(error)).1);
        Ok(replies.into_iter().map(result).collect())
    }

    /// Like [`Link::read`], but for a key of an unexpected type it returns [`Value::ServerError`] instead of an error.
    pub(crate) async fn read_any_type(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        self.send(Request::ReadAnyType(pipeline), Repeat::UntilDeadline, CALL_DEADLINE).await
    }

    /// Sends one command that may block in Redis for up to `time_limit`.
    pub(crate) async fn block(&self, command: &Cmd, time_limit: Duration) -> Result<Value, Error> {
        self.send_one(command, Repeat::Never, CALL_DEADLINE + time_limit).await
    }

    /// Ensures that there is a working connection to a usable Redis.
    pub(crate) async fn open(&self) -> Result<(), Error> {
        let deadline = Instant::now() + CALL_DEADLINE;
        let connected = timeout_at(deadline, self.connection()).await;
        connected.map_err(|_| Error::timed_out())?.map(|_| ()).map_err(|(_, error)| error)
    }

    /// Discards the connection, if there is one: the next call gets a new one. Calls in flight continue.
    pub(crate) fn forget(&self) {
        self.state.lock().connection = None;
    }

    async fn send_one(
        &self,
        command: &Cmd,
        repeat: Repeat,
        time_limit: Duration,
    ) -> Result<Value, Error> {
        let mut replies = self.send(Request::One(command), repeat, time_limit).await?;
        replies.pop().ok_or_else(|| Error::unreadable("no reply"))
    }

    async fn send(
        &self,
        request: Request<'_>,
        repeat: Repeat,
        time_limit: Duration,
    ) -> Result<Vec<Value>, Error> {
        let deadline = Instant::now() + time_limit;
        // Where only silence ends a call, retries during an outage must not take as long as a transfer could.
        let retry_until =
            if self.flow.is_some() { Instant::now() + CALL_DEADLINE } else { deadline };
        let mut last = Error::timed_out();
        // Whether some try may have taken effect: then a rejection of a later one does not prove that nothing happened.
        let mut in_doubt = false;
        while Instant::now() < retry_until {
            let mut used = None;
            let attempt = {
                // Pinned here and passed by reference: otherwise each layer and each waiting caller would store it
                // twice.
                let attempt = pin!(self.attempt(request, &mut used));
                self.within(deadline, attempt).await
            };
            let (remedy, error) = match attempt {
                Some(Ok(values)) => return Ok(values),
                Some(Err(failure)) => failure,
                None => {
                    // The connection may be a black hole: the next call gets a new one.
                    used.inspect(|&generation| self.drop_connection(generation));
                    return Err(if used.is_some() { last.in_doubt() } else { last });
                }
            };
            let refused = matches!(error, Error::Refused { .. });
            in_doubt |= used.is_some() && matches!(error, Error::Unavailable { .. });
            last = if in_doubt { error.in_doubt() } else { error };
            match remedy {
                Remedy::GiveUp => break,
                Remedy::Reload => {}
                Remedy::Wait | Remedy::Reconnect if repeat == Repeat::Never => break,
                // Permissions and settings do not change within the time of one call.
                Remedy::Wait | Remedy::Reconnect if refused => break,
                Remedy::Wait | Remedy::Reconnect => {
                    sleep_until((Instant::now() + Backoff::FOR_CONNECTIONS.draw(1)).min(deadline))
                        .await;
                }
            }
        }
        Err(last)
    }

    /// Waits for a call until the deadline; where bytes are counted, also only while they arrive.
    async fn within<T>(
        &self,
        deadline: Instant,
        call: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        match &self.flow {
            Some(flow) => flow.during(CALL_DEADLINE, deadline, call).await,
            None => timeout_at(deadline, call).await.ok(),
        }
    }

    /// Sends once; writes to `used` which connection it used.
    async fn attempt(
        &self,
        request: Request<'_>,
        used: &mut Option<u64>,
    ) -> Result<Vec<Value>, (Remedy, Error)> {
        self.settings.check_usable().map_err(|error| (Remedy::GiveUp, error))?;
        let (generation, mut connection) = self.connection().await?;
        *used = Some(generation);
        let outcome = match request {
            Request::One(command) => {
                let commands = &mut connection.commands;
                commands.send_packed_command(command).await.map(|value| vec![value])
            }
            Request::Many(pipeline) | Request::ReadAnyType(pipeline) | Request::Each(pipeline) => {
                let count = pipeline.cmd_iter().count();
                connection.commands.send_packed_commands(pipeline, 0, count).await
            }
        };
        let error = match outcome
            .and_then(|values| server_errors(values, |error| request.expects(error)))
        {
            Ok(values) => return Ok(values),
            Err(error) => Arc::new(error),
        };
        let (remedy, error) = classify(&error);
        match remedy {
            Remedy::Reconnect => self.drop_connection(generation),
            Remedy::Reload => {
                opening::load(&mut connection.commands, &self.settings.library).await?;
            }
            Remedy::Wait | Remedy::GiveUp => {}
        }
        Err((remedy, error))
    }

    /// Returns the connection; if there is none, the one that is being opened, or a new one.
    async fn connection(&self) -> Connected {
        let connecting = {
            let mut state = self.state.lock();
            if let Some(connection) = &state.connection {
                return Ok((state.generation, connection.clone()));
            }
            state.connecting.get_or_insert_with(|| self.start_connecting()).clone()
        };
        connecting.await
    }

    /// Connects in its own task, which continues when the callers that wait for it give up.
    fn start_connecting(&self) -> Shared<BoxFuture<'static, Connected>> {
        let link = self.clone();
        let task = tokio::spawn(async move { link.connect_once().await });
        let link = self.clone();
        let outcome = async move {
            task.await.unwrap_or_else(|_| {
                // Only a runtime that is being shut down drops the task.
                link.state.lock().connecting = None;
                Err((Remedy::GiveUp, Error::timed_out()))
            })
        };
        outcome.boxed().shared()
    }

    async fn connect_once(&self) -> Connected {
        let not_before = self.state.lock().not_before;
        sleep_until(not_before).await;
        let connected = self.connect().await;
        let mut state = self.state.lock();
        state.connecting = None;
        match connected {
            Ok(connection) => {
                metrics::counter!(REDIS_CONNECTS, "outcome" => "connected").increment(1);
                state.failures = 0;
                state.generation += 1;
                state.connection = Some(connection.clone());
                Ok((state.generation, connection))
            }
            Err((remedy, error)) => {
                metrics::counter!(REDIS_CONNECTS, "outcome" => "failed").increment(1);
                state.failures = state.failures.saturating_add(1);
                let pause = Backoff::FOR_CONNECTIONS.draw(state.failures).min(self.max_pause);
                state.not_before = Instant::now() + pause;
                tracing::debug!(%error, failures = state.failures, "cannot connect to Redis");
                // The next try opens a new connection in any case.
                Err((if remedy == Remedy::GiveUp { remedy } else { Remedy::Wait }, error))
            }
        }
    }

    async fn connect(&self) -> Result<Connection, (Remedy, Error)> {
        let connected = self.endpoint.connect(self.flow.as_ref()).await;
        let mut connection = connected?;
        opening::open(&mut connection.commands, &self.settings).await?;
        Ok(connection)
    }

    /// Discards the connection of this generation; a later one is kept.
    fn drop_connection(&self, generation: u64) {
        let mut state = self.state.lock();
        if generation == state.generation {
            state.connection = None;
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
    /// A key of an unexpected type is a reply, not a failure.
    ReadAnyType(&'a Pipeline),
    /// Errors of single commands are returned in their place, unless a retry may resolve them.
    Each(&'a Pipeline),
}

impl Request<'_> {
    /// Whether the sender of this request accepts this error as a single reply.
    fn expects(self, error: &Arc<RedisError>) -> bool {
        match self {
            Self::One(_) | Self::Many(_) => false,
            Self::ReadAnyType(_) => error.code() == Some("WRONGTYPE"),
            Self::Each(_) => classify(error).0 == Remedy::GiveUp,
        }
    }
}
