//! A proxy that simulates network faults, between Redis and one of its clients, an API or a worker, so that each can be
//! cut off separately.
//!
//! It parses the boundaries of commands and replies, so it can drop exactly the reply of an `exchange` that Redis has
//! executed, or hold it until a test releases it. Everything can be changed while it runs.
//!
//! Between a client and a Redis Cluster it has a port for each node, and replaces the ports of the nodes in what a node
//! answers about the cluster: otherwise the client would go past it.

mod connection;
mod resp;
mod rules;
mod throttle;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::port::Port;
use rules::Rules;
pub use rules::{DropMode, Filter, Hold};
use throttle::Throttle;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Commands.
    ToRedis,
    /// Replies.
    ToClient,
}

/// The state of the link, common to all connections.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    /// Connections with lower numbers are reset.
    cut_below: u64,
    /// Connections with lower numbers carry no more bytes.
    stalled_below: u64,
    to_redis_is_hole: bool,
    to_client_is_hole: bool,
    delay: Duration,
}

impl Link {
    fn is_open(&self, number: u64, direction: Direction) -> bool {
        let hole = match direction {
            Direction::ToRedis => self.to_redis_is_hole,
            Direction::ToClient => self.to_client_is_hole,
        };
        !hole && number >= self.stalled_below
    }
}

/// State shared by the proxy and its connections.
#[derive(Debug)]
struct Shared {
    /// The ports of the nodes; there is one, outside a cluster.
    nodes: Vec<AtomicU16>,
    /// The port of each node of a cluster, and the one that the proxy has for it.
    announced: Vec<(u16, u16)>,
    link: watch::Sender<Link>,
    rules: Mutex<Rules>,
    /// How many bytes each direction still carries before a reset; `None` is unlimited.
    budget: Mutex<[Option<usize>; 2]>,
    /// The bandwidth of each direction, for all connections together, including those of other proxies that share it.
    throttle: Arc<[Throttle; 2]>,
    /// The number of the next connection.
    next: AtomicU64,
}

impl Shared {
    fn node(&self, number: usize) -> u16 {
        self.nodes[number].load(Ordering::Relaxed)
    }

    /// Returns how many of `wanted` bytes may pass; exceeding the limit removes it.
    fn take_from_budget(&self, direction: Direction, wanted: usize) -> usize {
        let budget = &mut self.budget.lock()[direction as usize];
        let Some(left) = *budget else { return wanted };
        *budget = left.checked_sub(wanted);
        wanted.min(left)
    }
}

/// A listener between a client and Redis.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    /// One for each node. Reserved even while connections are refused.
    ports: Vec<Port>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// Starts a proxy to the Redis on this port, without faults.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn to(redis: u16) -> Self {
        Self::start(&[redis], false, Arc::default())
    }

    /// Starts a proxy to the nodes of a cluster on these ports, without faults.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn to_nodes(nodes: &[u16]) -> Self {
        Self::start(nodes, true, Arc::default())
    }

    /// Starts another proxy to the same Redis, with separate faults, but sharing the throttle of this one: together
    /// they carry no more than one of them could.
    #[must_use]
    pub fn sharing_throttle(&self) -> Self {
        let nodes: Vec<_> = (0..self.ports.len()).map(|number| self.shared.node(number)).collect();
        Self::start(&nodes, self.is_of_cluster(), self.shared.throttle.clone())
    }

    fn start(nodes: &[u16], is_cluster: bool, throttle: Arc<[Throttle; 2]>) -> Self {
        let ports: Vec<_> = nodes.iter().map(|_| Port::reserve()).collect();
        let announced = nodes.iter().zip(&ports).map(|(node, port)| (*node, port.addr().port()));
        let shared = Arc::new(Shared {
            nodes: nodes.iter().map(|&node| AtomicU16::new(node)).collect(),
            announced: announced.filter(|_| is_cluster).collect(),
            link: watch::Sender::new(Link::default()),
            rules: Mutex::default(),
            budget: Mutex::default(),
            throttle,
            next: AtomicU64::new(0),
        });
        let proxy = Self { shared, ports, listening: Mutex::default() };
        proxy.listen();
        proxy
    }

    /// Returns its address in the form of `CRUNCH_REDIS_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.ports.iter().map(|port| port.addr().to_string()).collect();
        let scheme = if self.is_of_cluster() { "redis+cluster" } else { "redis" };
        format!("{scheme}://{}/", hosts.join(","))
    }

    fn is_of_cluster(&self) -> bool {
        !self.shared.announced.is_empty()
    }

    /// Ends all refusals, black holes and delays, and removes all rules. Bytes held back in a black hole arrive now,
    /// late, as with TCP. A throttle stays, because other proxies may share it: see [`Proxy::unthrottle`].
    pub fn heal(&self) {
        self.shared.rules.lock().clear();
        *self.shared.budget.lock() = [None, None];
        self.shared.link.send_modify(|link| {
            link.to_redis_is_hole = false;
            link.to_client_is_hole = false;
            link.delay = Duration::ZERO;
        });
        self.listen();
    }

    /// Refuses new connections, and resets open ones.
    pub async fn refuse(&self) {
        self.reset();
        let listening = self.listening.lock().take();
        if let Some(listening) = listening {
            listening.abort();
            let _ = listening.await;
        }
    }

    /// Resets open connections; new ones are accepted.
    pub fn reset(&self) {
        let next = self.shared.next.load(Ordering::Relaxed);
        self.shared.link.send_modify(|link| link.cut_below = next);
    }

    /// Makes open connections carry no more bytes and never end, as when a router drops them silently; new ones work.
    pub fn stall_open_connections(&self) {
        let next = self.shared.next.load(Ordering::Relaxed);
        self.shared.link.send_modify(|link| link.stalled_below = next);
    }

    /// Passes nothing in either direction, without an error to either side.
    pub fn black_hole(&self) {
        self.shared.link.send_modify(|link| {
            link.to_redis_is_hole = true;
            link.to_client_is_hole = true;
        });
    }

    /// Passes nothing in this direction.
    pub fn black_hole_one_way(&self, direction: Direction) {
        self.shared.link.send_modify(|link| match direction {
            Direction::ToRedis => link.to_redis_is_hole = true,
            Direction::ToClient => link.to_client_is_hole = true,
        });
    }

    /// Delays everything by up to this long, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.shared.link.send_modify(|link| link.delay = delay);
    }

    /// Limits each direction to this many bytes a second, shared fairly by all connections that have something to send.
    /// Several processes behind one proxy share the limit.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.throttle.iter().for_each(|direction| direction.set(Some(bytes_per_second)));
    }

    /// Removes the throttle in both directions, also for other proxies that share it.
    pub fn unthrottle(&self) {
        self.shared.throttle.iter().for_each(|direction| direction.set(None));
    }

    /// Drops the replies to the next `times` of these commands: Redis executes them, but the client gets no reply.
    pub fn drop_replies(&self, filter: Filter, times: u64, mode: DropMode) {
        self.shared.rules.lock().drop_frames(Direction::ToClient, filter, times, mode);
    }

    /// Drops the next `times` of these commands before they reach Redis.
    pub fn drop_commands(&self, filter: Filter, times: u64, mode: DropMode) {
        self.shared.rules.lock().drop_frames(Direction::ToRedis, filter, times, mode);
    }

    /// Holds the reply to the next such command, which Redis executes.
    pub fn hold_reply(&self, filter: Filter) -> Hold {
        self.shared.rules.lock().hold(Direction::ToClient, filter)
    }

    /// Holds the next such command before it reaches Redis.
    pub fn hold_command(&self, filter: Filter) -> Hold {
        self.shared.rules.lock().hold(Direction::ToRedis, filter)
    }

    /// Carries this many more bytes in this direction, then resets the connection that sends the next one.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        self.shared.budget.lock()[direction as usize] = Some(bytes);
    }

    /// Connects new connections to another Redis, as when a DNS name changes; open ones stay. Of a cluster, only those to
    /// its first node.
    pub fn redirect_to(&self, redis: u16) {
        self.shared.nodes[0].store(redis, Ordering::Relaxed);
    }

    /// Returns how many replies to this verb passed.
    #[must_use]
    pub fn passed(&self, verb: &str) -> u64 {
        self.shared.rules.lock().passed(verb)
    }

    /// Returns how many commands and replies were dropped by [`Proxy::drop_replies`] and [`Proxy::drop_commands`].
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.rules.lock().dropped()
    }

    /// Returns how many connections there have been.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.next.load(Ordering::Relaxed)
    }

    fn listen(&self) {
        let mut listening = self.listening.lock();
        if listening.is_none() {
            let listen = |port: &Port| port.socket().and_then(|socket| socket.listen(1024));
            let listeners = self.ports.iter().map(listen).collect::<Result<Vec<_>, _>>();
            let listeners = listeners.expect("the ports are reserved");
            *listening = Some(tokio::spawn(accept_all(self.shared.clone(), listeners)));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.lock().take() {
            listening.abort();
        }
    }
}

/// Accepts connections to all nodes until it is aborted; they are closed with it.
async fn accept_all(shared: Arc<Shared>, listeners: Vec<TcpListener>) {
    let listeners = listeners.into_iter().enumerate();
    join_all(listeners.map(|(node, listener)| accept(shared.clone(), node, listener))).await;
}

async fn accept(shared: Arc<Shared>, node: usize, listener: TcpListener) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let number = shared.next.fetch_add(1, Ordering::Relaxed);
                open.spawn(connection::carry(shared.clone(), number, node, client));
            }
            Some(_) = open.join_next() => {}
        }
    }
}
