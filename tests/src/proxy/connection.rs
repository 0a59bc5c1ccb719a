//! One connection through a proxy: two pumps, one each way, that look at the state of the line before every frame.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::rules::{Asked, Fate, Loss, Verdict};
use super::throttle::SLICE;
use super::{Line, Shared, Way, resp};

/// Commands that wait for their replies, the oldest first.
type Queue = Arc<Mutex<VecDeque<Asked>>>;

/// Carries a client's bytes to Redis and back until one of them leaves or the connection is cut.
pub(super) async fn carry(shared: Arc<Shared>, number: u64, mut client: TcpStream) {
    let Ok(mut redis) = TcpStream::connect(("127.0.0.1", shared.redis())).await else {
        // Nobody listens behind us: the client sees what it would see without us.
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), redis.set_nodelay(true));
    let (from_client, to_client) = client.split();
    let (from_redis, to_redis) = redis.split();
    let asked = Queue::default();
    let pump = |way, from, to| Pump {
        shared: &shared,
        line: shared.line.subscribe(),
        number,
        way,
        asked: asked.clone(),
        buffer: BytesMut::new(),
        from,
        to,
    };
    let up = pump(Way::ToRedis, from_client, to_redis);
    let down = pump(Way::ToClient, from_redis, to_client);
    let mut line = shared.line.subscribe();
    let is_cut = line.wait_for(|line| number < line.cut_below);
    let left = tokio::select! {
        ended = up.run() => ended,
        ended = down.run() => ended,
        _ = is_cut => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if left.is_err() {
        let _ = (client.set_zero_linger(), redis.set_zero_linger());
    }
}

struct Pump<'a> {
    shared: &'a Shared,
    line: watch::Receiver<Line>,
    number: u64,
    way: Way,
    asked: Queue,
    buffer: BytesMut,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
}

impl Pump<'_> {
    /// Passes frames until the end of the stream. An error stands for a connection that is to be reset.
    async fn run(mut self) -> io::Result<()> {
        loop {
            self.may_pass().await;
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
            let delay = self.line.borrow().delay;
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            self.may_pass().await;
            while let Some(frame) = self.next_frame() {
                self.pass(frame).await?;
            }
        }
    }

    /// Waits while this way is a black hole.
    async fn may_pass(&mut self) {
        let (number, way) = (self.number, self.way);
        // The sender lives as long as the proxy, and with it this connection.
        let _ = self.line.wait_for(|line| line.is_open(number, way)).await;
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        let length = resp::first_value(&self.buffer).unwrap_or_else(|_| {
            panic!("not the protocol of Redis: {:?}", self.buffer.clone().freeze())
        })?;
        Some(self.buffer.split_to(length).freeze())
    }

    async fn pass(&mut self, frame: Bytes) -> io::Result<()> {
        let asked = match self.way {
            Way::ToRedis => Some(Asked { verb: resp::verb_of(&frame), command: frame.clone() }),
            // A message to a subscriber answers nothing.
            Way::ToClient => self.queue().pop_front(),
        };
        let fate = asked
            .as_ref()
            .map_or(Fate::Pass, |asked| self.shared.rules().judge(self.way, asked, &frame));
        let fate = match fate {
            Fate::Hold(held) => match held.wait().await {
                Verdict::Release => Fate::Pass,
                Verdict::Lose => Fate::Lose(Loss::Reset),
            },
            fate => fate,
        };
        match fate {
            Fate::Lose(Loss::Silence) => std::future::pending().await,
            Fate::Lose(Loss::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            Fate::Pass | Fate::Hold(_) => {
                // Before it is sent, so that no reply can come before its command is known.
                self.queue().extend(asked.filter(|_| self.way == Way::ToRedis));
                self.send(&frame).await
            }
        }
    }

    /// Sends a frame, or as much of it as the line still carries.
    async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let carried = self.shared.take_from_budget(self.way, frame.len());
        let throttle = &self.shared.throttle[self.way as usize];
        if throttle.is_on() {
            for slice in frame[..carried].chunks(SLICE) {
                throttle.carry(slice.len()).await;
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

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
