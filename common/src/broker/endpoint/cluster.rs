//! The nodes of a Redis Cluster, and which of them is the master of which slots.
//!
//! Routes are learned from any node with `CLUSTER SLOTS`, which gives each master the address that clients of this kind
//! use: a name if the cluster prefers names, the port of TLS to a connection with TLS. They are learned again once a node
//! is in doubt: it says that it has not the slot any more, or cannot be reached. Nothing else makes them wrong. Calls to
//! other nodes do not wait for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::RwLock;
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisConnectionInfo, Value};
use tokio::task::AbortHandle;

use super::ask::first_answer;
use super::dialer::Dialer;
use super::{ByNode, CONNECT_TIMEOUT, Node};
use crate::broker::error::{Error, Remedy, classify};
use crate::broker::reply;

/// The pause after nodes were asked: all connections that a lost node breaks doubt it. It doubles while the answer is
/// the same, because no other node has taken over yet.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often it is tried whether a node that could not be reached can be reached again.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// A cluster to which some nodes belong. Clones share what they learn.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Inner>);

struct Inner {
    dialer: Arc<Dialer>,
    settings: RedisConnectionInfo,
    /// Nodes that the configuration names.
    seeds: Vec<ConnectionAddr>,
    state: RwLock<State>,
    /// How often nodes were asked: each time another one is the first, because one that is cut off from the others does
    /// not know of a failover.
    asked: AtomicUsize,
}

struct State {
    routes: Routes,
    /// Since when they are.
    in_doubt: ByNode<Instant>,
    /// Those that could not be reached, and the task that tries whether they can be.
    away: ByNode<AbortHandle>,
    /// Why nodes could not be asked, until they can.
    failure: Option<(Remedy, Error)>,
    /// In progress, and since when; shared by all that wait for it.
    learning: Option<(Instant, Learning)>,
    not_before: Instant,
    pause: Duration,
}

type Learning = Shared<BoxFuture<'static, Result<(), (Remedy, Error)>>>;

/// The first and the last slot of each range, and its master; sorted.
type Routes = Vec<(u16, u16, Node)>;

fn master(routes: &Routes, slot: u16) -> Option<&Node> {
    let at = routes.partition_point(|&(_, last, _)| last < slot);
    routes.get(at).filter(|&&(first, ..)| first <= slot).map(|(.., node)| node)
}

impl Cluster {
    pub(super) fn new(
        dialer: Arc<Dialer>,
        settings: RedisConnectionInfo,
        seeds: Vec<ConnectionAddr>,
    ) -> Self {
        let state = State {
            routes: Routes::new(),
            in_doubt: ByNode::default(),
            away: ByNode::default(),
            failure: None,
            learning: None,
            not_before: Instant::now(),
            pause: PAUSE,
        };
        let (state, asked) = (RwLock::new(state), AtomicUsize::new(0));
        Self(Arc::new(Inner { dialer, settings, seeds, state, asked }))
    }

    /// Records that a node may not be the master of its slots any more.
    pub(super) fn doubt(&self, node: &Node) {
        self.0.state.write().in_doubt.put(node.clone(), Instant::now());
    }

    /// Records whether a node could be reached. One that could not is away until it can be.
    pub(super) fn record(&self, node: &Node, reached: bool) {
        let is_away = self.is_away(Some(node));
        if reached {
            if is_away {
                self.0.state.write().away.remove(node);
            }
            return;
        }
        let mut state = self.0.state.write();
        state.in_doubt.put(node.clone(), Instant::now());
        if !is_away {
            let probe = tokio::spawn(self.clone().probe(node.clone()));
            state.away.put(node.clone(), probe.abort_handle());
        }
    }

    /// Tries to reach a node until it can be reached, or has no slots any more.
    async fn probe(self, node: Node) {
        let Node::At(address) = &node else { return };
        while self.is_master(&node) {
            tokio::time::sleep(PROBE_EVERY).await;
            let config = AsyncConnectionConfig::new();
            let log_in = self.0.dialer.log_in(address, None, &self.0.settings, config);
            if let Ok(Ok(_)) = tokio::time::timeout(CONNECT_TIMEOUT, log_in).await {
                break;
            }
        }
        self.0.state.write().away.remove(&node);
    }

    /// Whether a node could not be reached. Not if the runtime of its probe has ended.
    pub(super) fn is_away(&self, node: Option<&Node>) -> bool {
        self.0.state.read().away.get(node).is_some_and(|probe| !probe.is_finished())
    }

    /// Whether a node is the master of some slots, as far as it is known.
    pub(super) fn is_master(&self, node: &Node) -> bool {
        self.0.state.read().routes.iter().any(|(.., master)| master == node)
    }

    /// Returns the master of a slot, as far as it is known: without asking.
    pub(super) fn known(&self, slot: u16) -> Option<Node> {
        master(&self.0.state.read().routes, slot).cloned()
    }

    /// Returns the master of a slot. Asks if it is in doubt or not known; without an answer, it remains as it was.
    pub(super) async fn node(&self, slot: u16) -> Result<Node, (Remedy, Error)> {
        {
            let state = self.0.state.read();
            if let Some(node) = master(&state.routes, slot)
                && state.in_doubt.get(Some(node)).is_none()
                && state.away.get(Some(node)).is_none()
            {
                return Ok(node.clone());
            }
        }
        let failure = match self.learn() {
            Some(learning) => {
                let learned = tokio::time::timeout(CONNECT_TIMEOUT, learning).await;
                learned.unwrap_or_else(|_| Err((Remedy::Wait, Error::timed_out()))).err()
            }
            // They were asked just now.
            None => self.0.state.read().failure.clone(),
        };
        self.known(slot).ok_or_else(|| {
            let reason = format!("no node of the cluster is known to have slot {slot}");
            failure.unwrap_or((Remedy::Wait, Error::Rejected { reason }))
        })
    }

    /// Learns the routes, unless that was tried just now. It has a task of its own, so that a caller that waits for it may give up.
    fn learn(&self) -> Option<Learning> {
        let (mut state, now) = (self.0.state.write(), Instant::now());
        // A task whose runtime does not go on does not stop the others.
        let is_alive = |&&(since, _): &&(Instant, _)| now - since < CONNECT_TIMEOUT;
        if let Some((_, learning)) = state.learning.as_ref().filter(is_alive) {
            return Some(learning.clone());
        }
        if now < state.not_before {
            return None;
        }
        let inner = self.0.clone();
        let task = tokio::spawn(async move {
            let asked = tokio::time::timeout(CONNECT_TIMEOUT, inner.ask_all()).await;
            let routes = asked.unwrap_or_else(|_| Err((Remedy::Wait, Error::timed_out())));
            inner.apply(now, routes)
        });
        let learned =
            async move { task.await.unwrap_or_else(|_| Err((Remedy::Wait, Error::timed_out()))) };
        let learning = learned.boxed().shared();
        state.learning = Some((now, learning.clone()));
        Some(learning)
    }
}

impl Inner {
    async fn ask_all(&self) -> Result<Routes, (Remedy, Error)> {
        let mut nodes = self.addresses();
        let first = self.asked.fetch_add(1, Ordering::Relaxed) % nodes.len();
        nodes.rotate_left(first);
        nodes.sort_by_key(|&(_, is_away)| is_away);
        let nodes: Vec<_> = nodes.into_iter().map(|(address, _)| address).collect();
        let ask = |address| ask(address, &self.dialer, &self.settings).boxed();
        first_answer("node", &nodes, ask).await
    }

    /// Applies what was learned since `asked`.
    fn apply(
        &self,
        asked: Instant,
        learned: Result<Routes, (Remedy, Error)>,
    ) -> Result<(), (Remedy, Error)> {
        let mut state = self.state.write();
        if state.learning.as_ref().is_none_or(|&(since, _)| since != asked) {
            // Another task has taken over, because this one took too long.
            return Ok(());
        }
        let is_same = learned.as_ref().map_or(true, |routes| *routes == state.routes);
        state.pause = if is_same { (2 * state.pause).min(LONGEST_PAUSE) } else { PAUSE };
        state.not_before = Instant::now() + state.pause;
        state.learning = None;
        state.failure = learned.as_ref().err().cloned();
        let routes = learned?;
        // What was doubted meanwhile may be newer than the answer.
        state.in_doubt.keep_if(|_, since| *since > asked);
        state.away.keep_if(|node, _| routes.iter().any(|(.., master)| master == node));
        state.routes = routes;
        Ok(())
    }

    /// Returns the addresses of all nodes that are known, and whether each is away.
    fn addresses(&self) -> Vec<(ConnectionAddr, bool)> {
        let (state, mut all) = (self.state.read(), self.seeds.clone());
        for (.., node) in &state.routes {
            if let Node::At(address) = node
                && !all.contains(address)
            {
                all.push(ConnectionAddr::clone(address));
            }
        }
        let is_away = |address: &ConnectionAddr| {
            let node = Node::At(Arc::new(address.clone()));
            state.away.get(Some(&node)).is_some()
        };
        all.into_iter().map(|address| (address.clone(), is_away(&address))).collect()
    }
}

async fn ask(
    address: &ConnectionAddr,
    dialer: &Dialer,
    settings: &RedisConnectionInfo,
) -> Result<Routes, Error> {
    let connected = dialer.log_in(address, None, settings, AsyncConnectionConfig::new()).await;
    let mut connection = connected.map_err(|(_, error)| error)?;
    let answer = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection.commands).await;
    let answer: Value = answer.map_err(|error| {
        let text = error.to_string();
        match text.contains("cluster support disabled") {
            true => Error::Refused { reason: "it does not belong to a cluster".to_owned() },
            false => classify(&Arc::new(error)).1,
        }
    })?;
    let mut ranges = Vec::new();
    for range in reply::array(answer)? {
        ranges.extend(read_range(range, address)?);
    }
    ranges.sort_by_key(|&(first, ..)| first);
    match ranges.is_empty() {
        true => Err(Error::Rejected { reason: "it knows no masters".to_owned() }),
        false => Ok(ranges),
    }
}

/// Parses `[first, last, [host, port, …], replica …]`. A master without a host is the node that was asked, and one with
/// the host `?` is not known.
fn read_range(range: Value, asked: &ConnectionAddr) -> Result<Option<(u16, u16, Node)>, Error> {
    let mut parts = reply::array(range)?.into_iter();
    let mut next = || parts.next().unwrap_or_default();
    let slot = |value: &Value| {
        u16::try_from(reply::unsigned(value)?)
            .map_err(|_| Error::unreadable("no slot of a cluster"))
    };
    let (first, last, master) = (slot(&next())?, slot(&next())?, reply::array(next())?);
    let port = slot(master.get(1).unwrap_or(&Value::Nil))?;
    let host = match master.into_iter().next() {
        None | Some(Value::Nil) => String::new(),
        Some(host) => reply::text(host)?,
    };
    let host = match (&*host, asked) {
        ("?", _) => return Ok(None),
        ("", ConnectionAddr::Tcp(host, _)) => host.clone(),
        _ => host,
    };
    Ok(Some((first, last, Node::At(Arc::new(ConnectionAddr::Tcp(host, port))))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec())])
    }

    fn range(first: i64, last: i64, master: Value) -> Value {
        Value::Array(vec![Value::Int(first), Value::Int(last), master])
    }

    fn host(name: &str) -> Value {
        Value::BulkString(name.as_bytes().to_vec())
    }

    fn at(host: &str, port: u16) -> Node {
        Node::At(Arc::new(ConnectionAddr::Tcp(host.to_owned(), port)))
    }

    #[test]
    fn a_slot_has_the_master_of_its_range() {
        let routes = vec![(0, 9, at("a", 1)), (10, 10, at("b", 1)), (20, 16_383, at("a", 2))];
        let node = |slot| master(&routes, slot).cloned();
        assert_eq!([0, 9].map(node), [Some(at("a", 1)), Some(at("a", 1))]);
        assert_eq!([10, 11, 19].map(node), [Some(at("b", 1)), None, None]);
        assert_eq!([20, 16_383].map(node), [Some(at("a", 2)), Some(at("a", 2))]);
    }

    #[test]
    fn a_master_without_a_host_is_the_node_that_was_asked() {
        let asked = ConnectionAddr::Tcp("asked".to_owned(), 6379);
        let read = |value| read_range(value, &asked).unwrap();
        assert_eq!(read(range(0, 5, named(host("h"), 7000))), Some((0, 5, at("h", 7000))));
        for unnamed in [Value::Nil, host("")] {
            assert_eq!(read(range(0, 5, named(unnamed, 7000))), Some((0, 5, at("asked", 7000))));
        }
        assert_eq!(read(range(0, 5, named(host("?"), 7000))), None);
        assert!(read_range(range(0, 5, Value::Nil), &asked).is_err());
        assert!(read_range(range(0, 70_000, named(host("h"), 1)), &asked).is_err());
    }
}
