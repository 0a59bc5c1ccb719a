//! Calls: each finds the node of its partition, has a deadline, and is repeated if that may help, so that nothing here
//! can hang. The connections are in `line.rs`.

mod line;

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::commands::{Commands, in_order};
use super::endpoint::{ByNode, Endpoint, Node};
use super::error::{Error, Remedy, classify};
use super::flow::Flow;
use super::functions::Function;
use super::reply::server_errors;
use super::transfer::transfer_time;
use super::{CALL_DEADLINE, Settings, opening};
use crate::backoff::Backoff;
use crate::job::Partition;
use line::Line;

/// How a call may be repeated when its connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Until the deadline: the call is idempotent.
    UntilDeadline,
    /// The same, unless the partition is being moved to another node: others would have to wait.
    UnlessMoving,
    /// The same, nor if it has been moved: the commands are for several partitions, which may be on different nodes now.
    UnlessMoved,
    /// Not at all, except to load the functions: the caller repeats it, and counts.
    Never,
}

impl Repeat {
    /// Whether a call is repeated after this remedy.
    fn after(self, remedy: Remedy) -> bool {
        match remedy {
            Remedy::GiveUp => false,
            Remedy::Reload => true,
            Remedy::Wait | Remedy::Reconnect => self != Self::Never,
            Remedy::Moving => self == Self::UntilDeadline,
            Remedy::Relocate => matches!(self, Self::UntilDeadline | Self::UnlessMoving),
        }
    }
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

/// Connections to the nodes of a Redis, one to each that is needed, shared by all clones.
#[derive(Clone)]
pub(crate) struct Link {
    settings: Arc<Settings>,
    endpoint: Endpoint,
    /// Maximum backoff between two tries to connect.
    max_pause: Duration,
    /// Counts the bytes that arrive, if calls may take longer while some do.
    flow: Option<Flow>,
    lines: Arc<Mutex<ByNode<Arc<Line>>>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(settings: Arc<Settings>, endpoint: Endpoint) -> Self {
        Self { settings, endpoint, max_pause: Duration::MAX, flow: None, lines: Arc::default() }
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
        self.send_one(call.partition, &command, call.repeat, call.time_limit).await
    }

    /// Sends commands that only read, as one round trip.
    pub(crate) async fn read(
        &self,
        partition: Partition,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, Error> {
        self.read_within(partition, pipeline, CALL_DEADLINE).await
    }

    /// Like [`Link::read`], for replies that take longer.
    pub(crate) async fn read_within(
        &self,
        partition: Partition,
        pipeline: &Pipeline,
        time_limit: Duration,
    ) -> Result<Vec<Value>, Error> {
        let request = Request::Many(pipeline, Accepted::None);
        self.send(partition, request, Repeat::UntilDeadline, time_limit).await
    }

    /// Sends commands that only read, to all nodes at once.
    pub(crate) async fn read_all(
        &self,
        commands: &Commands,
        time_limit: Duration,
    ) -> Result<Vec<Value>, Error> {
        let replies = self.send_each(commands, Accepted::None, Repeat::UntilDeadline, time_limit);
        replies.await.into_iter().collect()
    }

    /// Like [`Link::read_all`]; if a node cannot be reached, the replies of the others are returned, and no call waits
    /// for one that is away.
    pub(crate) async fn read_reachable(&self, commands: &Commands) -> Vec<Result<Value, Error>> {
        self.send_reachable(commands, Repeat::UntilDeadline).await
    }

    /// Like [`Link::read_reachable`], without repeats: the commands take something.
    pub(crate) async fn take_reachable(&self, commands: &Commands) -> Vec<Result<Value, Error>> {
        self.send_reachable(commands, Repeat::Never).await
    }

    /// Like [`Link::read_all`], but for a key of an unexpected type it returns [`Value::ServerError`] instead of an
    /// error.
    pub(crate) async fn read_any_type(&self, commands: &Commands) -> Result<Vec<Value>, Error> {
        let (accepted, repeat) = (Accepted::AnyType, Repeat::UntilDeadline);
        let replies = self.send_each(commands, accepted, repeat, CALL_DEADLINE).await;
        replies.into_iter().collect()
    }

    /// Sends commands to the node of a partition, which are answered one by one: one that is rejected does not hide the
    /// outcome of the others. An error that a retry may resolve repeats all of them, so each must be safe to repeat.
    pub(crate) async fn send_all(
        &self,
        partition: Partition,
        pipeline: &Pipeline,
        repeat: Repeat,
        time_limit: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let replies = self
            .send(partition, Request::Many(pipeline, Accepted::Final), repeat, time_limit)
            .await?;
        let result =
            |reply: Value| reply.extract_error().map_err(|error| classify(&Arc::new(error)).1);
        Ok(replies.into_iter().map(result).collect())
    }

    /// Sends one command that may block in Redis for up to `time_limit`.
    pub(crate) async fn block(
        &self,
        partition: Partition,
        command: &Cmd,
        time_limit: Duration,
    ) -> Result<Value, Error> {
        self.send_one(partition, command, Repeat::Never, CALL_DEADLINE + time_limit).await
    }

    /// Ensures that there is a working connection to the node of a partition, and that it is usable.
    pub(crate) async fn open(&self, partition: Partition) -> Result<(), Error> {
        let deadline = Instant::now() + CALL_DEADLINE;
        let connected = async { self.line(partition).await?.connection().await };
        let connected = timeout_at(deadline, connected).await;
        connected.map_err(|_| Error::timed_out())?.map(|_| ()).map_err(|(_, error)| error)
    }

    /// Discards all connections: the next calls get new ones. Calls in flight continue.
    pub(crate) fn forget(&self) {
        self.lines.lock().values().for_each(|line| line.forget());
    }

    /// Discards the connection to the node of a partition.
    pub(crate) fn forget_at(&self, partition: Partition) {
        let node = self.known_node(partition);
        self.lines.lock().get(node.as_ref()).inspect(|line| line.forget());
    }

    fn known_node(&self, partition: Partition) -> Option<Node> {
        self.endpoint.known_node(self.settings.keys(partition).slot())
    }

    /// Returns the line to the node of a partition. Lines to nodes that are gone are closed.
    async fn line(&self, partition: Partition) -> Result<Arc<Line>, (Remedy, Error)> {
        let node = self.endpoint.node(self.settings.keys(partition).slot()).await?;
        let mut lines = self.lines.lock();
        if let Some(line) = lines.get(Some(&node)) {
            return Ok(line.clone());
        }
        lines.keep(|node| !self.endpoint.is_gone(node));
        let (settings, endpoint) = (self.settings.clone(), self.endpoint.clone());
        let line = Line::new(settings, endpoint, node.clone(), self.max_pause, self.flow.clone());
        Ok(lines.get_or_make(Some(node), || Arc::new(line)).clone())
    }

    /// Sends the commands of each partition to its node, all at once; to a single node as one request.
    async fn send_each(
        &self,
        commands: &Commands,
        accepted: Accepted,
        repeat: Repeat,
        time_limit: Duration,
    ) -> Vec<Result<Value, Error>> {
        let parts = commands.parts(self.endpoint.is_cluster());
        let sent = join_all(parts.iter().map(|part| {
            let request = Request::Many(&part.pipeline, accepted);
            self.send(part.partition, request, repeat, time_limit)
        }));
        in_order(&parts, sent.await)
    }

    /// The same for commands that are sent again and again: those for nodes that are away fail at once.
    async fn send_reachable(
        &self,
        commands: &Commands,
        repeat: Repeat,
    ) -> Vec<Result<Value, Error>> {
        let parts = commands.parts(self.endpoint.is_cluster());
        let sent = join_all(parts.iter().map(async |part| {
            if self.endpoint.is_away(self.known_node(part.partition).as_ref()) {
                return Err(Error::timed_out());
            }
            let request = Request::Many(&part.pipeline, Accepted::None);
            self.send(part.partition, request, repeat, CALL_DEADLINE).await
        }));
        in_order(&parts, sent.await)
    }

    async fn send_one(
        &self,
        partition: Partition,
        command: &Cmd,
        repeat: Repeat,
        time_limit: Duration,
    ) -> Result<Value, Error> {
        let mut replies = self.send(partition, Request::One(command), repeat, time_limit).await?;
        replies.pop().ok_or_else(|| Error::unreadable("no reply"))
    }

    /// Sends commands to the node of a partition.
    async fn send(
        &self,
        partition: Partition,
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
                let attempt = pin!(self.attempt(partition, request, &mut used));
                self.within(deadline, attempt).await
            };
            let (remedy, error) = match attempt {
                Some(Ok(values)) => return Ok(values),
                Some(Err(failure)) => failure,
                None => {
                    // The connection may be a black hole: the next call gets a new one.
                    if let Some((line, generation)) = &used {
                        line.drop_connection(*generation);
                    }
                    return Err(if used.is_some() { last.in_doubt() } else { last });
                }
            };
            let refused = matches!(error, Error::Refused { .. });
            in_doubt |= used.is_some() && matches!(error, Error::Unavailable { .. });
            last = if in_doubt { error.in_doubt() } else { error };
            // Permissions and settings do not change within the time of one call.
            if !repeat.after(remedy) || (refused && remedy != Remedy::Reload) {
                break;
            }
            if remedy != Remedy::Reload {
                let pause = Backoff::FOR_CONNECTIONS.draw(1);
                sleep_until((Instant::now() + pause).min(deadline)).await;
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
        partition: Partition,
        request: Request<'_>,
        used: &mut Option<(Arc<Line>, u64)>,
    ) -> Result<Vec<Value>, (Remedy, Error)> {
        self.settings.check_usable().map_err(|error| (Remedy::GiveUp, error))?;
        let line = self.line(partition).await?;
        let (generation, mut connection) = line.connection().await?;
        let (line, _) = used.insert((line, generation));
        let outcome = match request {
            Request::One(command) => {
                let commands = &mut connection.commands;
                commands.send_packed_command(command).await.map(|value| vec![value])
            }
            Request::Many(pipeline, _) => {
                let count = pipeline.cmd_iter().count();
                connection.commands.send_packed_commands(pipeline, 0, count).await
            }
        };
        let error = match outcome
            .and_then(|values| server_errors(values, |error| request.accepts(error)))
        {
            Ok(values) => {
                self.endpoint.record(line.node(), true);
                return Ok(values);
            }
            Err(error) => Arc::new(error),
        };
        let (remedy, error) = classify(&error);
        match remedy {
            Remedy::Reconnect => line.drop_connection(generation),
            Remedy::Relocate => self.endpoint.doubt(line.node()),
            Remedy::Reload => {
                opening::load(&mut connection.commands, &self.settings.library).await?;
            }
            Remedy::Wait | Remedy::Moving | Remedy::GiveUp => {}
        }
        Err((remedy, error))
    }
}

/// What is sent as one request.
#[derive(Debug, Clone, Copy)]
enum Request<'a> {
    One(&'a Cmd),
    /// The errors that count as the reply to one of them.
    Many(&'a Pipeline, Accepted),
}

/// Errors that count as a reply, not as the failure of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepted {
    None,
    /// A key of an unexpected type.
    AnyType,
    /// Those that a retry does not resolve.
    Final,
}

impl Request<'_> {
    /// Whether the sender of this request accepts this error as a single reply.
    fn accepts(self, error: &Arc<RedisError>) -> bool {
        match self {
            Self::One(_) | Self::Many(_, Accepted::None) => false,
            Self::Many(_, Accepted::AnyType) => error.code() == Some("WRONGTYPE"),
            Self::Many(_, Accepted::Final) => classify(error).0 == Remedy::GiveUp,
        }
    }
}
