//! One connection to one node and its lifecycle: connect, use, drop on any error, back off with full jitter, reconnect.
//!
//! A caller uses the existing connection or starts one. Connecting is single-flight and belongs to the line, so a caller
//! that gives up does not break the connection of the others.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::broker::endpoint::{Connection, Endpoint, Node};
use crate::broker::error::{Error, Remedy};
use crate::broker::flow::Flow;
use crate::broker::{Settings, opening};
use crate::job::Partition;
use crate::telemetry::metrics::REDIS_CONNECTS;

const LONGEST_PAUSE_IN_CLUSTER: Duration = Duration::from_millis(500);

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

/// One connection to a node.
pub(super) struct Line {
    settings: Arc<Settings>,
    endpoint: Endpoint,
    node: Node,
    /// Maximum backoff between two tries to connect.
    max_pause: Duration,
    flow: Option<Flow>,
    state: Mutex<State>,
}

impl Line {
    pub(super) fn new(
        settings: Arc<Settings>,
        endpoint: Endpoint,
        node: Node,
        max_pause: Duration,
        flow: Option<Flow>,
    ) -> Self {
        let state = State {
            connection: None,
            connecting: None,
            generation: 0,
            failures: 0,
            not_before: Instant::now(),
        };
        Self { settings, endpoint, node, max_pause, flow, state: Mutex::new(state) }
    }

    pub(super) const fn node(&self) -> &Node {
        &self.node
    }

    /// Discards the connection, if there is one: the next call gets a new one. Calls in flight continue.
    pub(super) fn forget(&self) {
        self.state.lock().connection = None;
    }

    /// Returns the connection; if there is none, the one that is being opened, or a new one.
    pub(super) async fn connection(self: &Arc<Self>) -> Connected {
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
    fn start_connecting(self: &Arc<Self>) -> Shared<BoxFuture<'static, Connected>> {
        let line = self.clone();
        let task = tokio::spawn(async move { line.connect_once().await });
        let line = self.clone();
        let outcome = async move {
            task.await.unwrap_or_else(|_| {
                // Only a runtime that is being shut down drops the task.
                line.state.lock().connecting = None;
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
                let pause = Backoff::FOR_CONNECTIONS.draw(state.failures).min(self.max_pause());
                state.not_before = Instant::now() + pause;
                tracing::debug!(%error, failures = state.failures, "cannot connect to Redis");
                // The next try opens a new connection in any case.
                Err((if remedy == Remedy::GiveUp { remedy } else { Remedy::Wait }, error))
            }
        }
    }

    async fn connect(&self) -> Result<Connection, (Remedy, Error)> {
        let connected = self.endpoint.connect(&self.node, self.flow.as_ref()).await;
        let mut connection = connected?;
        let in_cluster = self.endpoint.is_cluster();
        let partitions = self.partitions();
        opening::open(&mut connection.commands, &self.settings, &partitions, in_cluster).await?;
        Ok(connection)
    }

    /// Discards the connection of this generation; a later one is kept.
    pub(super) fn drop_connection(&self, generation: u64) {
        let mut state = self.state.lock();
        if generation == state.generation {
            state.connection = None;
        }
    }

    /// In a cluster another node may have taken over meanwhile, and calls wait for this one.
    fn max_pause(&self) -> Duration {
        match self.endpoint.is_cluster() {
            true => self.max_pause.min(LONGEST_PAUSE_IN_CLUSTER),
            false => self.max_pause,
        }
    }

    /// Returns the partitions that the node has.
    fn partitions(&self) -> Vec<Partition> {
        let is_here = |partition: &Partition| {
            let slot = self.settings.keys(*partition).slot();
            self.endpoint.known_node(slot).as_ref() == Some(&self.node)
        };
        self.settings.partitions().filter(is_here).collect()
    }
}
