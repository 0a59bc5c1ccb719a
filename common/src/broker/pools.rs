//! Lists and operators' requests: rare, so they share a small pool of connections to each node.

use std::sync::Arc;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Object, Pool, PoolError};
use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{Pipeline, Value};
use tokio::time::{Instant, sleep, timeout_at};

use super::endpoint::{AtNode, ByNode, Endpoint, Node};
use super::error::{Error, Remedy, classify};
use super::functions::Library;
use super::reply::server_errors;
use super::{Broker, CALL_DEADLINE, opening};
use crate::backoff::Backoff;
use crate::job::Partition;

/// Connections to a node: few requests run at once.
const SIZE: usize = 4;
/// An idle connection that does not answer within this time is replaced: so a call has time for that.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// The pools of all nodes. Clones share them.
#[derive(Clone)]
pub(crate) struct Pools {
    endpoint: Endpoint,
    pools: Arc<Mutex<ByNode<Pool<AtNode>>>>,
}

impl Pools {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, pools: Arc::default() }
    }

    fn of(&self, node: Node) -> Result<Pool<AtNode>, Error> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(Some(&node)) {
            return Ok(pool.clone());
        }
        let pool = Pool::builder(self.endpoint.at(node.clone()))
            .max_size(SIZE)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CALL_DEADLINE))
            .create_timeout(Some(CALL_DEADLINE))
            .recycle_timeout(Some(PING_TIMEOUT))
            .build()
            .map_err(|error| Error::Refused { reason: error.to_string() })?;
        pools.keep(|node| !self.endpoint.is_gone(node));
        Ok(pools.get_or_make(Some(node), || pool).clone())
    }

    /// Sends once; loads the functions if they are missing.
    async fn send(
        &self,
        node: Node,
        pipeline: &Pipeline,
        library: &Library,
    ) -> Result<Vec<Value>, (Remedy, Error)> {
        let pool = self.of(node).map_err(|error| (Remedy::GiveUp, error))?;
        let mut connection = pool.get().await.map_err(|error| match error {
            PoolError::Backend(failure) => failure,
            _ => {
                (Remedy::GiveUp, Error::Unavailable { reason: "no connection in time".to_owned() })
            }
        })?;
        let count = pipeline.cmd_iter().count();
        let values = connection.commands.req_packed_commands(pipeline, 0, count).await;
        let values = values.and_then(|values| server_errors(values, |_| false));
        let (remedy, error) = match values {
            Ok(values) => return Ok(values),
            Err(error) => classify(&Arc::new(error)),
        };
        match remedy {
            Remedy::Reload => opening::load(&mut connection.commands, library).await?,
            // A master that became a replica still answers pings.
            Remedy::Reconnect => drop(Object::take(connection)),
            Remedy::Wait | Remedy::Relocate | Remedy::Moving | Remedy::GiveUp => {}
        }
        Err((remedy, error))
    }
}

impl Broker {
    /// Sends commands to the node of a partition over its pool, in one round trip. They are repeated while Redis rejects
    /// them and that may change soon: then nothing was written. If a reply is missing they are not repeated.
    pub(crate) async fn pooled(
        &self,
        partition: Partition,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, Error> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        // The connection for steps loads the library and checks the key space first.
        self.link.open(partition).await?;
        let slot = self.settings.keys(partition).slot();
        let deadline = Instant::now() + CALL_DEADLINE;
        loop {
            let sent = timeout_at(deadline, self.send_once(slot, pipeline)).await;
            let (remedy, error) = match sent.map_err(|_| Error::timed_out())? {
                Ok(values) => return Ok(values),
                Err(failure) => failure,
            };
            let pause = match remedy {
                Remedy::Reload => Duration::ZERO,
                _ => Backoff::FOR_CONNECTIONS.draw(1),
            };
            let is_rejected = matches!(error, Error::Rejected { .. }) && remedy != Remedy::GiveUp;
            if !is_rejected || Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn send_once(
        &self,
        slot: u16,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, (Remedy, Error)> {
        let node = self.endpoint.node(slot).await?;
        let sent = self.pools.send(node.clone(), pipeline, &self.settings.library).await;
        if matches!(sent, Err((Remedy::Relocate, _))) {
            self.endpoint.doubt(&node);
        }
        sent
    }
}
