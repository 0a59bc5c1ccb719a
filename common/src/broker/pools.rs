//! Lists and operators' requests: rare, so they share a small pool of connections to each node.

use std::sync::Arc;

use deadpool::Runtime;
use deadpool::managed::{Pool, PoolError};
use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{Pipeline, Value};
use tokio::time::{Instant, timeout_at};

use super::endpoint::{AtNode, ByNode, Endpoint, Node};
use super::error::{Error, Remedy, classify};
use super::reply::server_errors;
use super::{Broker, CALL_DEADLINE};
use crate::job::Partition;

/// Connections to a node: few requests run at once.
const SIZE: usize = 4;
/// An idle connection that does not answer within this time is replaced: so a call has time for that.
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);

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

    async fn send(&self, node: Node, pipeline: &Pipeline) -> Result<Vec<Value>, (Remedy, Error)> {
        let pool = self.of(node).map_err(|error| (Remedy::GiveUp, error))?;
        let mut connection = pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => (Remedy::GiveUp, error),
            other => (Remedy::GiveUp, Error::Unavailable { reason: other.to_string() }),
        })?;
        let count = pipeline.cmd_iter().count();
        let values = connection.commands.req_packed_commands(pipeline, 0, count).await;
        let values = values.and_then(|values| server_errors(values, |_| false));
        values.map_err(|error| classify(&Arc::new(error)))
    }
}

impl Broker {
    /// Sends commands to the node of a partition over its pool, in one round trip. They are repeated only if the node
    /// does not have the partition any more.
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
        let request = async {
            loop {
                let node = self.endpoint.node(slot).await.map_err(|(_, error)| error)?;
                match self.pools.send(node.clone(), pipeline).await {
                    Ok(values) => return Ok(values),
                    Err((Remedy::Relocate, _)) => {
                        self.endpoint.doubt(&node);
                        tokio::time::sleep(crate::backoff::Backoff::FOR_CONNECTIONS.draw(1)).await;
                    }
                    Err((_, error)) => return Err(error),
                }
            }
        };
        timeout_at(deadline, request).await.map_err(|_| Error::timed_out())?
    }
}
