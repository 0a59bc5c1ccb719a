//! Tracks open connections, closes those that are slow or idle, and limits how many one client may have.
//!
//! actix-web has a deadline for the first head of a connection and one for idling between requests, but none for a
//! second head that begins and never ends, nor for the rest of a chunked body that was answered early. Here every
//! connection without a request in flight has a deadline for the next complete head. When there is no room, the
//! connection with the earliest deadline is closed: it serves no request, and its client may connect again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::address::network_of;

tokio::task_local! {
    /// The connection that the running code serves.
    static CURRENT: Rc<Connection>;
}

/// Time limit for a head to arrive.
pub(crate) const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// How long idle connections are kept: a little longer than common proxies keep theirs.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The minimum rate at which a client must read its answer, in bytes a second: a large result over a slow connection
/// gets more time.
const FETCH_RATE: u64 = 16 * 1024;

/// A connection, encrypted or not.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + fmt::Debug> Socket for T {}

/// All open connections of this API.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    max_per_client: Option<usize>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: usize,
    opened: u64,
    of_client: HashMap<IpAddr, usize>,
    /// Connections without a request in flight, by the time at which they are closed.
    waiting: BTreeMap<(Instant, u64), Arc<Notify>>,
}

impl Connections {
    /// How many connections beyond the maximum are accepted, for requests to open routes: a liveness probe should not
    /// take a busy process for a dead one. More than the probes of a deployment.
    const SPARE: usize = 32;
    /// A connection past its deadline is closed within this time.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

    pub(crate) fn new(max: usize, max_per_client: Option<usize>) -> Self {
        Self { max, max_per_client, table: Mutex::default() }
    }

    /// Admits a new connection, if there is room or another one can be closed.
    pub(crate) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<Connection> {
        let client = network_of(peer.ip());
        let mut table = self.table.lock();
        let of_client = table.of_client.get(&client).copied().unwrap_or(0);
        if self.max_per_client.is_some_and(|max| of_client >= max) {
            return None;
        }
        let full = table.open >= self.max;
        let shed = if full { table.waiting.pop_first() } else { None };
        let busy = table.open - usize::from(shed.is_some());
        if let Some((_, shed)) = shed {
            shed.notify_one();
        }
        if busy >= self.max + Self::SPARE {
            return None;
        }
        let spare = busy >= self.max;
        table.open += 1;
        table.opened += 1;
        *table.of_client.entry(client).or_default() += 1;
        let (id, shed) = (table.opened, Arc::new(Notify::new()));
        // The library's deadline comes first and is answered; this one is for clients that evade it.
        let due = Instant::now() + HEAD_DEADLINE + HEAD_DEADLINE;
        table.waiting.insert((due, id), shed.clone());
        let state = Mutex::new(State { requests: 0, due, next: None, left: None });
        Some(Connection { all: self.clone(), id, client, spare, shed, state })
    }

    /// Closes the connections past their deadline.
    pub(crate) fn tick(&self) {
        let mut table = self.table.lock();
        let rest = table.waiting.split_off(&(Instant::now(), 0));
        let due = std::mem::replace(&mut table.waiting, rest);
        drop(table);
        if !due.is_empty() {
            tracing::debug!(count = due.len(), "closed slow or idle connections");
        }
        due.into_values().for_each(|shed| shed.notify_one());
    }
}

/// One open connection, counted until this value is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    all: Arc<Connections>,
    id: u64,
    client: IpAddr,
    /// Whether it is beyond the maximum.
    spare: bool,
    shed: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    requests: u32,
    due: Instant,
    /// Woken when no request is in flight.
    next: Option<Waker>,
    /// The socket, once the HTTP library is done with it: its client may still be sending.
    left: Option<Leftover>,
}

/// Whether the current connection is beyond the maximum, and only open routes are served on it.
pub(crate) fn is_spare() -> bool {
    CURRENT.try_with(|connection| connection.spare).unwrap_or(false)
}

/// Whether a request is in flight on the current connection; if so, `next` is woken when it has ended.
pub(crate) fn is_busy(next: &Waker) -> bool {
    CURRENT.try_with(|connection| connection.is_busy(next)).unwrap_or(false)
}

/// Stores the socket of the current connection, once the HTTP library is done with it: [`Connection::serve`] drains it
/// before it closes it.
pub(crate) fn leave(left: Leftover) {
    // Outside of a connection nothing drains it, and it is closed at once.
    let _ = CURRENT.try_with(|connection| connection.state.lock().left = Some(left));
}

impl Connection {
    /// Serves the connection until it ends or is shed. Code that runs meanwhile can use [`Busy`].
    pub(crate) async fn serve<E>(
        self,
        serving: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let (shed, connection) = (self.shed.clone(), Rc::new(self));
        let serve_and_drain = async {
            let ended = CURRENT.scope(connection.clone(), serving).await;
            let left = connection.state.lock().left.take();
            if let Some(left) = left {
                // The outcome does not matter: the answers were sent.
                let _ = timeout(HEAD_DEADLINE, left.drain()).await;
            }
            ended
        };
        tokio::select! {
            ended = serve_and_drain => ended,
            () = shed.notified() => Ok(()),
        }
    }

    fn is_busy(&self, next: &Waker) -> bool {
        let mut state = self.state.lock();
        let busy = state.requests > 0;
        if busy {
            state.next = Some(next.clone());
        }
        busy
    }

    fn begin(&self) {
        let mut state = self.state.lock();
        state.requests += 1;
        if state.requests == 1 {
            self.all.table.lock().waiting.remove(&(state.due, self.id));
        }
    }

    fn end(&self, time_limit: Duration) {
        let mut state = self.state.lock();
        state.requests -= 1;
        if state.requests == 0 {
            state.due = Instant::now() + time_limit;
            self.all.table.lock().waiting.insert((state.due, self.id), self.shed.clone());
            state.next.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let due = self.state.lock().due;
        let mut table = self.all.table.lock();
        table.waiting.remove(&(due, self.id));
        table.open -= 1;
        if let Some(count) = table.of_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                table.of_client.remove(&self.client);
            }
        }
    }
}

/// A request in flight: its connection is not shed until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    connection: Rc<Connection>,
    time_limit: Duration,
}

impl Busy {
    /// Marks the current connection as one that serves a request; `None` outside of one.
    pub(crate) fn begin() -> Option<Self> {
        let connection = CURRENT.try_with(Rc::clone).ok()?;
        connection.begin();
        Some(Self { connection, time_limit: KEEP_ALIVE + HEAD_DEADLINE })
    }

    /// Extends the time limit of the client, which still has to read `bytes` when this is dropped.
    pub(crate) fn sending(&mut self, bytes: u64) {
        self.time_limit += Duration::from_secs(bytes / FETCH_RATE);
    }

    /// Shortens the time limit of the client: it was answered before it had sent everything.
    pub(crate) fn hurry(&mut self) {
        self.time_limit = HEAD_DEADLINE;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.connection.end(self.time_limit);
    }
}

/// A connection on which every answer was sent, and whose client may still be sending.
#[derive(Debug)]
pub(crate) struct Leftover(pub(crate) Box<dyn Socket>);

impl Leftover {
    /// Closes the API's side, and discards what the client sends until it closes its own.
    pub(crate) async fn drain(mut self) -> io::Result<()> {
        self.0.shutdown().await?;
        tokio::io::copy(&mut self.0, &mut tokio::io::sink()).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(last: u8) -> SocketAddr {
        (Ipv4Addr::new(10, 0, 0, last), 1).into()
    }

    #[tokio::test]
    async fn when_there_is_no_room_the_one_that_waited_longest_goes() {
        let all = Arc::new(Connections::new(2, None));
        let (first, second) = (all.admit(peer(1)).unwrap(), all.admit(peer(1)).unwrap());
        first.begin();
        let third = all.admit(peer(1)).unwrap();
        second.shed.notified().await;
        drop(second);
        third.begin();
        let spare: Vec<_> = (0..Connections::SPARE).map(|_| all.admit(peer(1)).unwrap()).collect();
        spare.iter().for_each(Connection::begin);
        assert!(spare.iter().all(|connection| connection.spare), "all are busy");
        assert!(all.admit(peer(1)).is_none(), "even the spare ones are");
        spare[0].end(Duration::ZERO);
        assert!(all.admit(peer(1)).unwrap().spare, "it takes the place of an idle spare one");
        drop(spare);
        third.end(Duration::ZERO);
        all.tick();
        third.shed.notified().await;
        drop((first, third));
        let table = all.table.lock();
        assert_eq!((table.open, table.of_client.len(), table.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn one_client_has_no_more_than_its_share() {
        let all = Arc::new(Connections::new(10, Some(1)));
        let _first = all.admit(peer(1)).unwrap();
        assert!(all.admit(peer(1)).is_none());
        let others = all.admit(peer(2));
        assert!(others.is_some());
    }
}
