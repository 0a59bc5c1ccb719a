//! A network that can be broken at will: stands between Redis and one client of it, an API or a worker, so that each can
//! be cut off for itself.
//!
//! It knows the borders of commands and replies, so it can lose exactly the reply of an `exchange` that Redis has
//! executed, or hold it until a test says otherwise. Everything can be switched while it runs.

mod connection;
mod resp;
mod rules;
mod throttle;

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::port::Port;
use rules::Rules;
pub use rules::{Hold, Loss, Which};
use throttle::Throttle;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Commands.
    ToRedis,
    /// Replies.
    ToClient,
}

/// The state of the line, as every connection sees it.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    /// Connections of lower numbers are reset.
    cut_below: u64,
    /// Connections of lower numbers carry nothing any more.
    stranded_below: u64,
    to_redis_is_hole: bool,
    to_client_is_hole: bool,
    delay: Duration,
}

impl Line {
    fn is_open(&self, number: u64, way: Way) -> bool {
        let hole = match way {
            Way::ToRedis => self.to_redis_is_hole,
            Way::ToClient => self.to_client_is_hole,
        };
        !hole && number >= self.stranded_below
    }
}

/// What the proxy and its connections share.
#[derive(Debug)]
struct Shared {
    redis: AtomicU16,
    line: watch::Sender<Line>,
    rules: Mutex<Rules>,
    /// How many bytes each way still carries before it cuts; `None` is any number.
    budget: Mutex<[Option<usize>; 2]>,
    /// How fast each way is, for all connections together, also those of other lines that share it.
    throttle: Arc<[Throttle; 2]>,
    /// Number of the next connection.
    next: AtomicU64,
}

impl Shared {
    fn redis(&self) -> u16 {
        self.redis.load(Ordering::Relaxed)
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> MutexGuard<'_, [Option<usize>; 2]> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of `wanted` bytes may go; the one that breaks the limit lifts it.
    fn take_from_budget(&self, way: Way, wanted: usize) -> usize {
        let budget = &mut self.budget()[way as usize];
        let Some(left) = *budget else { return wanted };
        *budget = left.checked_sub(wanted);
        wanted.min(left)
    }
}

/// A listener between a client and Redis.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    /// Ours even while we refuse connections.
    port: Port,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// A line to the Redis on this port, in order.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn to(redis: u16) -> Self {
        Self::start(redis, Arc::default())
    }

    /// Another line to the same Redis, to be broken for itself, which shares the throttle of this one: together they carry no
    /// more than one of them could.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self::start(self.shared.redis(), self.shared.throttle.clone())
    }

    fn start(redis: u16, throttle: Arc<[Throttle; 2]>) -> Self {
        let shared = Arc::new(Shared {
            redis: AtomicU16::new(redis),
            line: watch::Sender::new(Line::default()),
            rules: Mutex::default(),
            budget: Mutex::default(),
            throttle,
            next: AtomicU64::new(0),
        });
        let proxy = Self { shared, port: Port::reserve(), listening: Mutex::default() };
        proxy.listen();
        proxy
    }

    /// Where it listens, as `CRUNCH_REDIS_URL` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/", self.port.addr())
    }

    /// Everything passes again: refusals, holes and delays end, rules are forgotten. What was held back in a black hole
    /// arrives now, late, as TCP does it. A throttle stays, which other lines may share: see [`Proxy::unthrottle`].
    pub fn heal(&self) {
        self.shared.rules().clear();
        *self.shared.budget() = [None, None];
        self.shared.line.send_modify(|line| {
            line.to_redis_is_hole = false;
            line.to_client_is_hole = false;
            line.delay = Duration::ZERO;
        });
        self.listen();
    }

    /// Refuses connections, and resets those that are open.
    pub async fn refuse(&self) {
        self.reset();
        let listening = self.listening().take();
        if let Some(listening) = listening {
            listening.abort();
            let _ = listening.await;
        }
    }

    /// Resets the connections that are open; new ones are taken.
    pub fn reset(&self) {
        let next = self.shared.next.load(Ordering::Relaxed);
        self.shared.line.send_modify(|line| line.cut_below = next);
    }

    /// Connections that are open never carry a byte again and never end, as when a router forgot them; new ones work.
    pub fn strand(&self) {
        let next = self.shared.next.load(Ordering::Relaxed);
        self.shared.line.send_modify(|line| line.stranded_below = next);
    }

    /// Nothing passes, and nobody is told.
    pub fn black_hole(&self) {
        self.shared.line.send_modify(|line| {
            line.to_redis_is_hole = true;
            line.to_client_is_hole = true;
        });
    }

    /// Nothing passes that way.
    pub fn black_hole_one_way(&self, way: Way) {
        self.shared.line.send_modify(|line| match way {
            Way::ToRedis => line.to_redis_is_hole = true,
            Way::ToClient => line.to_client_is_hole = true,
        });
    }

    /// Everything takes that much longer, each way.
    pub fn delay(&self, delay: Duration) {
        self.shared.line.send_modify(|line| line.delay = delay);
    }

    /// Each way carries no more bytes a second than that, shared fairly by all connections that have something to carry. Several
    /// processes behind one proxy share one line.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.throttle.iter().for_each(|way| way.set(Some(bytes_per_second)));
    }

    /// Each way carries any number of bytes a second again, also those of lines that share the throttle.
    pub fn unthrottle(&self) {
        self.shared.throttle.iter().for_each(|way| way.set(None));
    }

    /// Redis executes the next `times` of these commands, and nobody hears of it.
    pub fn lose_replies(&self, which: Which, times: u64, loss: Loss) {
        self.shared.rules().lose(Way::ToClient, which, times, loss);
    }

    /// The next `times` of these commands never reach Redis.
    pub fn lose_commands(&self, which: Which, times: u64, loss: Loss) {
        self.shared.rules().lose(Way::ToRedis, which, times, loss);
    }

    /// Redis executes the next such command, and its reply waits here.
    pub fn hold_reply(&self, which: Which) -> Hold {
        self.shared.rules().hold(Way::ToClient, which)
    }

    /// The next such command waits here before Redis sees it.
    pub fn hold_command(&self, which: Which) -> Hold {
        self.shared.rules().hold(Way::ToRedis, which)
    }

    /// Carries that many bytes more on this way, then resets the connection that brings the next one.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        self.shared.budget()[way as usize] = Some(bytes);
    }

    /// Leads new connections to another Redis, as a name does that was moved; those that are open stay where they are.
    pub fn lead_to(&self, redis: u16) {
        self.shared.redis.store(redis, Ordering::Relaxed);
    }

    /// How many replies to that verb went through.
    #[must_use]
    pub fn passed(&self, verb: &str) -> u64 {
        self.shared.rules().passed(verb)
    }

    /// How many commands and replies were lost by [`Proxy::lose_replies`] and [`Proxy::lose_commands`].
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.rules().lost()
    }

    /// How many connections there ever were.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.next.load(Ordering::Relaxed)
    }

    fn listen(&self) {
        let mut listening = self.listening();
        if listening.is_none() {
            let listener = self.port.socket().and_then(|socket| socket.listen(1024));
            let listener = listener.expect("the port is reserved");
            *listening = Some(tokio::spawn(accept(self.shared.clone(), listener)));
        }
    }

    fn listening(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listening) = self.listening().take() {
            listening.abort();
        }
    }
}

/// Takes connections until it is aborted; they end with it.
async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let number = shared.next.fetch_add(1, Ordering::Relaxed);
                open.spawn(connection::carry(shared.clone(), number, client));
            }
            Some(_) = open.join_next() => {}
        }
    }
}
