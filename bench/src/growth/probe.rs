//! How long calls keep Redis, as it counts itself: the 99.9th percentile, beside that of pushing a hundred items.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

use crate::figures::Unit;
use crate::ground::{Ground, PAYLOAD};
use crate::session::Session;

/// Items of a push of the control.
const ITEMS: usize = 100;
/// How long it waits between two of them.
const PAUSE: Duration = Duration::from_millis(2);

/// Redis counts how long calls take between its two ends. All the while the control pushes, on the same server and under the
/// same load: a machine that takes Redis off its processor does so to either.
pub(super) struct Probe(JoinHandle<()>);

impl Probe {
    pub(super) async fn start(ground: &mut Ground) -> Self {
        let redis = &mut ground.redis;
        ask(redis, &["CONFIG", "SET", "latency-tracking-info-percentiles", "99.9"]).await;
        ask(redis, &["CONFIG", "RESETSTAT"]).await;
        Self(tokio::spawn(push(ground.server().connect().await)))
    }

    pub(super) async fn end(self, session: &mut Session, case: &str, ground: &mut Ground) {
        let functions = slowest(&mut ground.redis, "fcall").await;
        let control = slowest(&mut ground.redis, CONTROL).await;
        self.0.abort();
        let name = format!("control: growth, {case}: push of 100, p99.9");
        session.note(&name, control, Unit::Counted("µs"));
        session.note(&format!("growth, {case}: functions, p99.9"), functions, Unit::Counted("µs"));
    }
}

/// Not `LPUSH`, which the functions use themselves.
const CONTROL: &str = "rpush";

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

async fn ask(redis: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]).exec_async(redis).await.unwrap();
}

/// The 99.9th percentile of a command's duration, in microseconds.
async fn slowest(redis: &mut MultiplexedConnection, command: &str) -> f64 {
    let info: String = redis::cmd("INFO").arg("latencystats").query_async(redis).await.unwrap();
    let name = format!("latency_percentiles_usec_{command}:p99.9=");
    let value = info.lines().find_map(|line| line.strip_prefix(&name));
    value.unwrap_or_else(|| panic!("no {command} in {info}")).trim().parse().unwrap()
}
