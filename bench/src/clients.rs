//! Clients of one server, each of which sends the same request again as soon as it has the response to the previous
//! one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crunch_tests::RedisServer;
use futures_util::future::join_all;

use crate::usage::{RedisInfo, cpu_of};
use crate::wire::Connection;

/// Connected clients.
pub(crate) struct Clients {
    connections: Vec<Connection>,
    request: Arc<[u8]>,
    server: u32,
}

/// How many requests of some clients were served, and what that cost.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) requests: f64,
    seconds: f64,
    server_cpu: f64,
    redis_cpu: f64,
}

impl Served {
    pub(crate) fn rate(&self) -> f64 {
        self.requests / self.seconds
    }

    /// Seconds of CPU that the server took for 100 000 requests.
    pub(crate) fn server_cpu(&self) -> f64 {
        self.server_cpu / self.requests * 1e5
    }

    /// The same for Redis.
    pub(crate) fn redis_cpu(&self) -> f64 {
        self.redis_cpu / self.requests * 1e5
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.seconds += other.seconds;
        self.server_cpu += other.server_cpu;
        self.redis_cpu += other.redis_cpu;
    }
}

impl Clients {
    /// `server` is the process at that address.
    pub(crate) async fn new(count: usize, address: &str, server: u32, request: Vec<u8>) -> Self {
        let connections = join_all((0..count).map(|_| Connection::to(address))).await;
        Self { connections, request: request.into(), server }
    }

    /// Sends requests for this long.
    pub(crate) async fn send(&mut self, redis: &RedisServer, time: Duration) -> Served {
        let (before, cpu, start) = (RedisInfo::of(redis), cpu_of(self.server), Instant::now());
        let sending = self.connections.drain(..).map(|connection| {
            tokio::spawn(send_until(connection, self.request.clone(), start + time))
        });
        let finished = join_all(sending.collect::<Vec<_>>()).await;
        let seconds = start.elapsed().as_secs_f64();
        let mut requests = 0;
        for (connection, count) in finished.into_iter().map(Result::unwrap) {
            self.connections.push(connection);
            requests += count;
        }
        Served {
            requests: f64::from(requests),
            seconds,
            server_cpu: cpu_of(self.server) - cpu,
            redis_cpu: before.until_now(redis).cpu,
        }
    }
}

async fn send_until(
    mut connection: Connection,
    request: Arc<[u8]>,
    deadline: Instant,
) -> (Connection, u32) {
    let mut count = 0;
    while Instant::now() < deadline {
        connection.request(&request).await;
        count += 1;
    }
    (connection, count)
}

/// Lets two groups of clients send requests in turn, so that both see the same machine; returns the totals of each. A
/// short slice before is for connecting and warming up.
pub(crate) async fn in_turn(
    redis: &RedisServer,
    pair: &mut [Clients; 2],
    slices: u32,
    slice: Duration,
) -> [Served; 2] {
    let mut served = [Served::default(); 2];
    for clients in &mut *pair {
        clients.send(redis, slice / 4).await;
    }
    for _ in 0..slices {
        for (clients, served) in pair.iter_mut().zip(&mut served) {
            served.add(clients.send(redis, slice).await);
        }
    }
    served
}
