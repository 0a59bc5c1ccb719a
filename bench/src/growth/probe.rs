//! How long calls keep Redis, as it counts itself: the 99.9th percentile, beside those of two pushes of items.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

use crate::figures::Unit;
use crate::ground::{Ground, PAYLOAD};
use crate::session::Session;

/// Items of the short push.
const ITEMS: usize = 100;
/// How long it waits between two of them.
const PAUSE: Duration = Duration::from_millis(2);

/// Long pushes, made this many at a time.
const LONG_PUSHES: usize = 8000;
const AT_A_TIME: usize = 8;
/// Not `LPUSH`, which the functions use themselves.
const SHORT: &str = "rpush";
/// Nothing else here uses it, and its figures are apart from those of the short one.
const LONG: &str = "rpushx";

/// Redis counts how long calls take between its two ends. All the while a short push of a hundred items goes on, on the same
/// server and under the same load.
///
/// A machine that takes Redis off its processor hits what runs longest most often. So afterwards Redis does nothing but pushes
/// that take as long as a function usually does: what is slow there is the machine, and no function.
pub(super) struct Probe(JoinHandle<()>);

impl Probe {
    pub(super) async fn start(ground: &mut Ground) -> Self {
        let redis = &mut ground.redis;
        ask(redis, &["CONFIG", "SET", "latency-tracking-info-percentiles", "50 99.9"]).await;
        ask(redis, &["CONFIG", "RESETSTAT"]).await;
        Self(tokio::spawn(push(ground.server().connect().await)))
    }

    pub(super) async fn end(self, session: &mut Session, case: &str, ground: &mut Ground) {
        let functions = Durations::of(&mut ground.redis, "fcall").await;
        let short = Durations::of(&mut ground.redis, SHORT).await;
        self.0.abort();
        let items = (ITEMS as f64 * functions.usual / short.usual) as usize;
        let long = push_long(&mut ground.redis, items.max(1)).await;
        for (control, durations) in [("push of 100", short), ("push as long", long)] {
            let name = |figure| format!("control: growth, {case}: {control}, {figure}");
            session.note(&name("p50"), durations.usual, Unit::Counted("µs"));
            session.note(&name("p99.9"), durations.slowest, Unit::Counted("µs"));
        }
        let name = |figure| format!("growth, {case}: functions, {figure}");
        session.note(&name("p50"), functions.usual, Unit::Counted("µs"));
        session.note(&name("p99.9"), functions.slowest, Unit::Counted("µs"));
    }
}

async fn push(mut redis: MultiplexedConnection) {
    let item = "x".repeat(PAYLOAD);
    let mut words = vec!["RPUSH", "probe"];
    words.resize(2 + ITEMS, &item);
    loop {
        ask(&mut redis, &words).await;
        ask(&mut redis, &["DEL", "probe"]).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Pushes so many items at once, again and again.
async fn push_long(redis: &mut MultiplexedConnection, items: usize) -> Durations {
    let item = "x".repeat(PAYLOAD);
    let mut pushes = redis::pipe();
    for _ in 0..AT_A_TIME {
        pushes.cmd("DEL").arg("probe").ignore();
        pushes.cmd("LPUSH").arg("probe").arg("first").ignore();
        pushes.cmd(LONG).arg("probe").arg(vec![&item; items]).ignore();
    }
    for _ in 0..LONG_PUSHES / AT_A_TIME {
        pushes.exec_async(redis).await.unwrap();
    }
    Durations::of(redis, LONG).await
}

async fn ask(redis: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).exec_async(redis).await.unwrap();
}

/// How long calls of a command took, in microseconds.
struct Durations {
    /// The median.
    usual: f64,
    /// The 99.9th percentile.
    slowest: f64,
}

impl Durations {
    async fn of(redis: &mut MultiplexedConnection, command: &str) -> Self {
        let info: String = redis::cmd("INFO").arg("latencystats").query_async(redis).await.unwrap();
        let name = format!("latency_percentiles_usec_{command}:");
        let line = info.lines().find_map(|line| line.strip_prefix(&name));
        let line = line.unwrap_or_else(|| panic!("no {command} in {info}"));
        let mut values = line.split(',').map(|part| {
            let (_, value) = part.split_once('=').expect("percentile=value");
            value.trim().parse().expect("microseconds")
        });
        let (usual, slowest) = (values.next().unwrap(), values.next().unwrap());
        Self { usual, slowest }
    }
}
