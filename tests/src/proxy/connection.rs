//! One connection through a proxy: two pumps, one for each direction, that check the state of the link before every
//! frame.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::rules::{Action, Decision, DropMode, Request};
use super::throttle::SLICE;
use super::{Direction, Link, Shared, resp};

/// The command that asks a node about its cluster.
const CLUSTER: &str = "cluster";

/// Commands that wait for their replies, the oldest first.
type Queue = Arc<Mutex<VecDeque<Request>>>;

/// Carries a client's bytes to Redis and back until one of them closes the connection or it is cut.
pub(super) async fn carry(shared: Arc<Shared>, number: u64, node: usize, mut client: TcpStream) {
    let Ok(mut redis) = TcpStream::connect(("127.0.0.1", shared.node(node))).await else {
        // Redis does not listen: the client sees a reset, as without a proxy.
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), redis.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_redis, to_redis) = redis.split();
    let requests = Queue::default();
    let pump = |direction, from, to| Pump {
        shared: &shared,
        link: shared.link.subscribe(),
        number,
        direction,
        requests: requests.clone(),
        buffer: BytesMut::new(),
        carried: 0,
        from,
        to,
    };
    let up = pump(Direction::ToRedis, from_client, to_redis);
    let down = pump(Direction::ToClient, from_redis, to_client);
    let mut link = shared.link.subscribe();
    let is_cut = link.wait_for(|link| number < link.cut_below);
    let outcome = tokio::select! {
        ended = up.run() => ended,
        ended = down.run() => ended,
        _ = is_cut => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if outcome.is_err() {
        let _ = (client.set_zero_linger(), redis.set_zero_linger());
    }
}

struct Pump<'a> {
    shared: &'a Shared,
    link: watch::Receiver<Link>,
    number: u64,
    direction: Direction,
    requests: Queue,
    buffer: BytesMut,
    /// Bytes that the throttle has carried and that were not passed yet.
    carried: usize,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
}

impl Pump<'_> {
    /// Passes frames until the end of the stream. An error means that the connection must be reset.
    async fn run(mut self) -> io::Result<()> {
        loop {
            self.wait_until_open().await;
            self.buffer.reserve(SLICE);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
            let delay = self.link.borrow().delay;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
                // What arrives meanwhile is delayed less: one after the other would be a slow line, not a long one.
                while let Ok(1..) = self.from.try_read_buf(&mut self.buffer) {}
            }
            self.wait_until_open().await;
            while let Some(frame) = self.next_frame() {
                self.pass(frame).await?;
            }
        }
    }

    /// Waits while this direction is a black hole.
    async fn wait_until_open(&mut self) {
        let (number, direction) = (self.number, self.direction);
        // The sender lives as long as the proxy, and this connection no longer than that.
        let _ = self.link.wait_for(|link| link.is_open(number, direction)).await;
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        let length = resp::first_value(&self.buffer).unwrap_or_else(|_| {
            panic!("not the Redis protocol: {:?}", self.buffer.clone().freeze())
        })?;
        Some(self.buffer.split_to(length).freeze())
    }

    async fn pass(&mut self, frame: Bytes) -> io::Result<()> {
        let request = match self.direction {
            Direction::ToRedis => {
                Some(Request { verb: resp::verb_of(&frame), command: frame.clone() })
            }
            // A message to a subscriber is not a reply to a command.
            Direction::ToClient => self.requests.lock().pop_front(),
        };
        let action = request.as_ref().map_or(Action::Pass, |request| {
            self.shared.rules.lock().decide(self.direction, request, &frame)
        });
        let action = match action {
            Action::Hold(held) => match held.wait().await {
                Decision::Release => Action::Pass,
                Decision::Drop => Action::Drop(DropMode::Reset),
            },
            action => action,
        };
        match action {
            Action::Drop(DropMode::Silence) => std::future::pending().await,
            Action::Drop(DropMode::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            Action::Pass | Action::Hold(_) => {
                let frame = match &request {
                    Some(Request { verb, .. }) if verb == CLUSTER => {
                        resp::with_ports(frame, &self.shared.announced)
                    }
                    _ => frame,
                };
                // Queued before it is sent, so that no reply can arrive before its command is in the queue.
                self.requests
                    .lock()
                    .extend(request.filter(|_| self.direction == Direction::ToRedis));
                self.send(&frame).await
            }
        }
    }

    /// Sends a frame, or as much of it as the budget allows.
    async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let carried = self.shared.take_from_budget(self.direction, frame.len());
        let throttle = &self.shared.throttle[self.direction as usize];
        if throttle.is_on() {
            let mut left = carried;
            for slice in frame[..carried].chunks(SLICE) {
                if self.carried < slice.len() {
                    // Small frames that follow share its turn, as they would share a packet.
                    let turn = SLICE.min(left + self.buffer.len());
                    throttle.carry(turn - self.carried).await;
                    self.carried = turn;
                }
                self.carried -= slice.len();
                left -= slice.len();
                self.to.write_all(slice).await?;
            }
        } else {
            self.to.write_all(&frame[..carried]).await?;
        }
        if carried < frame.len() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}
