//! Where Redis is, and how to connect to it. The only place that opens a connection. One that is to be encrypted is
//! never opened without TLS, nor to a Redis whose certificate is not valid for the host of its address.
//!
//! Redis is at one address; or where Sentinels say that its master is: they are asked for each new connection, and since
//! they may know less than Redis itself, it is used only if Redis says that it is a master; or on the nodes of a
//! cluster, each of which has some slots, and so some partitions.

mod ask;
mod cluster;
mod dialer;
mod node;
mod sentinels;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ProtocolVersion, PushInfo, RedisConnectionInfo,
    RedisError, Value,
};
use tokio::sync::mpsc::UnboundedSender;

pub(crate) use dialer::Connection;
pub use node::{ByNode, Node};
pub use sentinels::SentinelLogin;

use super::error::{Error, Remedy, classify};
use super::flow::Flow;
use super::redis_tls::RedisTls;
use super::redis_url::{Address, RedisUrl, Servers};
use super::reply;
use cluster::Cluster;
use dialer::Dialer;
use sentinels::Sentinels;

/// Longer than it takes on a working network to find the address, connect, agree on TLS and log in; shorter than the
/// 2 s in which a client gets its 503.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where Redis is, and how to connect to it.
#[derive(Clone)]
pub(crate) struct Endpoint(Arc<Inner>);

struct Inner {
    dialer: Arc<Dialer>,
    place: Place,
    /// User, password and database.
    settings: RedisConnectionInfo,
}

/// Where Redis is.
enum Place {
    Fixed(ConnectionAddr),
    /// Where they say.
    Watched(Sentinels),
    /// On its nodes.
    Spread(Cluster),
}

impl Endpoint {
    /// # Errors
    /// [`Error::Refused`] if the files for TLS cannot be used, or settings do not belong to this kind of address.
    pub(crate) fn new(
        url: &RedisUrl,
        tls: &RedisTls,
        login: &SentinelLogin,
    ) -> Result<Self, Error> {
        let refuse = |reason: &str| Err(Error::Refused { reason: reason.to_owned() });
        if tls.is_set() && !url.uses_tls() {
            return refuse(
                "there are files for TLS to Redis, but CRUNCH_REDIS_URL does not begin with rediss://, rediss+sentinel:// or rediss+cluster://",
            );
        }
        let dialer = Arc::new(Dialer::new(url.uses_tls().then(|| tls.clone()))?);
        let settings = url.settings().clone();
        let place = match url.servers() {
            Servers::One(_) | Servers::Cluster(_) if login.is_set() => {
                return refuse(
                    "there is a password of Sentinel, but CRUNCH_REDIS_URL begins neither with redis+sentinel:// nor with rediss+sentinel://",
                );
            }
            Servers::One(address) => Place::Fixed(address.clone()),
            Servers::Sentinels { addresses, master } => {
                Place::Watched(Sentinels::new(addresses.clone(), master.clone(), login))
            }
            Servers::Cluster(nodes) => {
                Place::Spread(Cluster::new(dialer.clone(), settings.clone(), nodes.clone()))
            }
        };
        Ok(Self(Arc::new(Inner { dialer, place, settings })))
    }

    /// Whether there may be several nodes.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.0.place, Place::Spread(_))
    }

    /// Returns the node that has a slot.
    ///
    /// # Errors
    /// If no node has it, or none could be asked.
    pub(crate) async fn node(&self, slot: u16) -> Result<Node, (Remedy, Error)> {
        match &self.0.place {
            Place::Fixed(_) | Place::Watched(_) => Ok(Node::Only),
            Place::Spread(cluster) => cluster.node(slot).await,
        }
    }

    /// Returns the node that has a slot, as far as it is known: without asking.
    pub(crate) fn known_node(&self, slot: u16) -> Option<Node> {
        match &self.0.place {
            Place::Fixed(_) | Place::Watched(_) => Some(Node::Only),
            Place::Spread(cluster) => cluster.known(slot),
        }
    }

    /// Records that a node may not have the slots any more that it had.
    pub(crate) fn doubt(&self, node: &Node) {
        if let Place::Spread(cluster) = &self.0.place {
            cluster.doubt(node);
        }
    }

    /// Connects to a node and logs in; counts the bytes if there is a flow.
    pub(crate) async fn connect(
        &self,
        node: &Node,
        flow: Option<&Flow>,
    ) -> Result<Connection, (Remedy, Error)> {
        self.within(node, flow, &self.0.settings, AsyncConnectionConfig::new()).await
    }

    /// Connects to a node and logs in, with the version of the protocol that has pushes beside replies; they are sent
    /// there.
    pub(crate) async fn connect_for_pushes(
        &self,
        node: &Node,
        pushes: UnboundedSender<PushInfo>,
    ) -> Result<Connection, (Remedy, Error)> {
        let settings = self.0.settings.clone().set_protocol(ProtocolVersion::RESP3);
        let config = AsyncConnectionConfig::new().set_push_sender(pushes);
        self.within(node, None, &settings, config).await
    }

    async fn within(
        &self,
        node: &Node,
        flow: Option<&Flow>,
        settings: &RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<Connection, (Remedy, Error)> {
        let connect = self.0.connect(node, flow, settings, config);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(timed_out);
        let connected = connected.flatten();
        self.record(node, connected.is_ok());
        connected
    }

    /// Records whether a node could be reached.
    pub(crate) fn record(&self, node: &Node, reached: bool) {
        if let Place::Spread(cluster) = &self.0.place {
            cluster.record(node, reached);
        }
    }

    /// Whether a node belongs to the cluster no more, or has no slots.
    pub(crate) fn is_gone(&self, node: &Node) -> bool {
        match &self.0.place {
            Place::Fixed(_) | Place::Watched(_) => false,
            Place::Spread(cluster) => !cluster.is_master(node),
        }
    }

    /// Whether a node could not be reached lately, while others may.
    pub(crate) fn is_away(&self, node: Option<&Node>) -> bool {
        match &self.0.place {
            Place::Fixed(_) | Place::Watched(_) => false,
            Place::Spread(cluster) => cluster.is_away(node),
        }
    }

    /// For a pool of connections to a node.
    pub(crate) fn at(&self, node: Node) -> AtNode {
        AtNode { endpoint: self.clone(), node }
    }
}

fn timed_out(_: tokio::time::error::Elapsed) -> (Remedy, Error) {
    classify(&Arc::new(RedisError::from(io::Error::from(io::ErrorKind::TimedOut))))
}

impl Inner {
    async fn connect(
        &self,
        node: &Node,
        flow: Option<&Flow>,
        settings: &RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<Connection, (Remedy, Error)> {
        let fixed = match (&self.place, node) {
            (_, Node::At(address)) => Some(&**address),
            (Place::Fixed(address), Node::Only) => Some(address),
            (Place::Watched(_) | Place::Spread(_), Node::Only) => None,
        };
        if let Some(address) = fixed {
            return self.dialer.log_in(address, flow, settings, config).await;
        }
        let Place::Watched(sentinels) = &self.place else {
            return Err((Remedy::GiveUp, Error::timed_out()));
        };
        let address = sentinels.master(&self.dialer).await?;
        let mut connection = self.dialer.log_in(&address, flow, settings, config).await?;
        let role = role(&mut connection).await?;
        if role == "master" {
            return Ok(connection);
        }
        let reason = format!(
            "Sentinel says that the master is {}, which is a {role}: a failover may not be complete",
            Address(&address)
        );
        Err((Remedy::Reconnect, Error::Rejected { reason }))
    }
}

/// Returns what Redis is: `master`, or `slave` for a replica.
async fn role(connection: &mut Connection) -> Result<String, (Remedy, Error)> {
    let role = redis::cmd("ROLE").query_async(&mut connection.commands).await;
    let role: Vec<Value> = role.map_err(|error| classify(&Arc::new(error)))?;
    let role = role.into_iter().next().unwrap_or_default();
    reply::text(role).map_err(|error| (Remedy::Reconnect, error))
}

/// Opens connections to a node for a pool.
pub(crate) struct AtNode {
    endpoint: Endpoint,
    node: Node,
}

impl Manager for AtNode {
    type Type = Connection;
    type Error = (Remedy, Error);

    async fn create(&self) -> Result<Connection, (Remedy, Error)> {
        self.endpoint.connect(&self.node, None).await
    }

    /// A connection that was idle may be dead, or to a master that became a replica.
    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &Metrics,
    ) -> RecycleResult<(Remedy, Error)> {
        match &self.endpoint.0.place {
            // A replica in a cluster says that it has not the slot.
            Place::Fixed(_) | Place::Spread(_) => {
                let answer = redis::cmd("PING").exec_async(&mut connection.commands).await;
                answer.map_err(|error| RecycleError::Backend(classify(&Arc::new(error))))
            }
            Place::Watched(_) => {
                match role(connection).await.map_err(RecycleError::Backend)?.as_str() {
                    "master" => Ok(()),
                    _ => Err(RecycleError::message("it became a replica")),
                }
            }
        }
    }
}
