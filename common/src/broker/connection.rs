//! One connection to Redis and its life: connect, use, on any error drop, back off with full jitter, connect again.
//!
//! Whoever calls finds a connection or starts one; connecting is single-flight and belongs to the link, so a caller that
//! gives up does not take the others' connection with it. Every call has a deadline, so nothing here can hang.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::{Error, Remedy, classify};
use super::flow::Flow;
use super::functions::Function;
use super::reply::server_errors;
use super::transfer::transfer_time;
use super::{CALL_DEADLINE, Settings, opening};
use crate::backoff::Backoff;
use crate::job::Partition;
use crate::telemetry::metrics::REDIS_CONNECTS;

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

/// A call of a function: which, where, and how patiently.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    function: Function,
    partition: Partition,
    repeat: Repeat,
    time_limit: Duration,
}

impl Call {
    /// A call that is repeated until it is answered, within the deadline of every call.
    pub(crate) const fn new(function: Function, partition: Partition) -> Self {
        Self { function, partition, repeat: Repeat::UntilDeadline, time_limit: CALL_DEADLINE }
    }

    /// The caller repeats it by itself.
    pub(crate) const fn once(self) -> Self {
        Self { repeat: Repeat::Never, ..self }
    }

    /// Waits at least that long for the answer.
    pub(crate) fn patient(self, time_limit: Duration) -> Self {
        Self { time_limit: self.time_limit.max(time_limit), ..self }
    }

    /// Waits longer for what it carries.
    pub(crate) fn carrying(self, bytes: usize) -> Self {
        Self { time_limit: self.time_limit + transfer_time(bytes), ..self }
    }
}

/// An open connection, closed with its last clone.
#[derive(Clone)]
struct Connection {
    commands: MultiplexedConnection,
    _driver: Option<Arc<Driver>>,
}

/// The task that moves the bytes of a connection, where we spawned it. The client library documents that the task ends by itself only
/// when every command was answered, and asks for the abort. The version in use ends it once every command was sent.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection under the number it was made with, or what to do about there being none.
type Connected = Result<(u64, Connection), (Remedy, Error)>;

struct State {
    connection: Option<Connection>,
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
    /// The backoff between two tries to connect grows no further than this.
    longest_pause: Duration,
    /// Counts what arrives, where calls may take longer while something does.
    flow: Option<Flow>,
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
        let longest_pause = Duration::MAX;
        Self { settings, client, longest_pause, flow: None, state: Arc::new(Mutex::new(state)) }
    }

    /// Tries to connect at least that often, for those who cannot wait.
    pub(crate) fn trying_every(self, longest_pause: Duration) -> Self {
        Self { longest_pause, ..self }
    }

    /// Gives a call up when nothing arrives any more, and not before, within its deadline.
    pub(crate) fn while_bytes_flow(self) -> Self {
        Self { flow: Flow::over(self.client.get_connection_info()), ..self }
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

    /// As [`Link::read`], for answers that take longer.
    pub(crate) async fn read_within(
        &self,
        pipeline: &Pipeline,
        time_limit: Duration,
    ) -> Result<Vec<Value>, Error> {
        self.send(Request::Many(pipeline), Repeat::UntilDeadline, time_limit).await
    }

    /// Sends commands of which each is answered for itself: one that is refused does not hide what became of the others.
    /// What another try may mend is tried again for all of them, so each must stand being repeated.
    pub(crate) async fn send_all(
        &self,
        pipeline: &Pipeline,
        time_limit: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let replies = self.send(Request::Each(pipeline), Repeat::UntilDeadline, time_limit).await?;
        let own =
            |reply: Value| reply.extract_error().map_err(|error| classify(&Arc::new(error)).1);
        Ok(replies.into_iter().map(own).collect())
    }

    /// As [`Link::read`], but a key of another type than expected is an answer, [`Value::ServerError`], and no failure.
    pub(crate) async fn look(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        self.send(Request::Look(pipeline), Repeat::UntilDeadline, CALL_DEADLINE).await
    }

    /// Sends one command that may block in Redis for up to `time_limit`.
    pub(crate) async fn block(&self, command: &Cmd, time_limit: Duration) -> Result<Value, Error> {
        self.send_one(command, Repeat::Never, CALL_DEADLINE + time_limit).await
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
        // Where only silence ends a call, an outage must not be waited for as long as bytes could be.
        let last_try = if self.flow.is_some() { Instant::now() + CALL_DEADLINE } else { deadline };
        let mut last = Error::timed_out();
        // Whether some try may have taken effect: then a rejection of a later one does not say that nothing happened.
        let mut in_doubt = false;
        while Instant::now() < last_try {
            let mut used = None;
            let attempt = {
                // Pinned here, and passed on by reference: each layer would hold it twice, and so would whoever waits.
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
                // Nobody changes a right or a setting within the time of one call.
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
                let commands = &mut connection.commands;
                commands.send_packed_command(command).await.map(|value| vec![value])
            }
            Request::Many(pipeline) | Request::Look(pipeline) | Request::Each(pipeline) => {
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
                metrics::counter!(REDIS_CONNECTS, "outcome" => "connected").increment(1);
                state.failures = 0;
                state.generation += 1;
                state.connection = Some(connection.clone());
                Ok((state.generation, connection))
            }
            Err((remedy, error)) => {
                metrics::counter!(REDIS_CONNECTS, "outcome" => "failed").increment(1);
                state.failures = state.failures.saturating_add(1);
                let pause = Backoff::FOR_CONNECTIONS.draw(state.failures).min(self.longest_pause);
                state.not_before = Instant::now() + pause;
                tracing::debug!(%error, failures = state.failures, "cannot connect to redis");
                // A new try makes a new connection in any case.
                Err((if remedy == Remedy::GiveUp { remedy } else { Remedy::Wait }, error))
            }
        }
    }

    async fn connect(&self) -> Result<Connection, (Remedy, Error)> {
        // Our own deadlines bound every call, so that a blocking read may be longer than others.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(None);
        let connected = match &self.flow {
            Some(flow) => connect_counted(flow, &self.client, config).await,
            None => {
                let connected = self.client.get_multiplexed_async_connection_with_config(&config);
                connected.await.map(|commands| Connection { commands, _driver: None })
            }
        };
        let mut connection = connected.map_err(|error| classify(&Arc::new(error)))?;
        opening::open(&mut connection.commands, &self.settings).await?;
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

/// As the client connects, over a stream whose bytes are counted.
async fn connect_counted(
    flow: &Flow,
    client: &Client,
    config: AsyncConnectionConfig,
) -> Result<Connection, RedisError> {
    let info = client.get_connection_info();
    let connect = async {
        let stream = flow.connect(info).await?;
        let settings = info.redis_settings();
        let (commands, driver) =
            MultiplexedConnection::new_with_config(settings, stream, config).await?;
        let driver = Driver(tokio::spawn(driver).abort_handle());
        Ok(Connection { commands, _driver: Some(Arc::new(driver)) })
    };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
    connected.map_err(|_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))?
}

#[derive(Debug, Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    Many(&'a Pipeline),
    /// A key of another type than expected is an answer, and no failure.
    Look(&'a Pipeline),
    /// Errors of single commands are left in their place, unless another try may mend them.
    Each(&'a Pipeline),
}

impl Request<'_> {
    /// Whether whoever sent this takes an error in a single reply for an answer.
    fn expects(self, error: &Arc<RedisError>) -> bool {
        match self {
            Self::One(_) | Self::Many(_) => false,
            Self::Look(_) => error.code() == Some("WRONGTYPE"),
            Self::Each(_) => classify(error).0 == Remedy::GiveUp,
        }
    }
}
