//! How long calls keep Redis, as it counts itself: the 99.9th percentile, beside that of pushing a hundred items.

use redis::aio::MultiplexedConnection;

use crate::figures::Unit;
use crate::ground::{Ground, PAYLOAD};
use crate::session::Session;

/// Pushes of the control.
const PUSHES: usize = 2000;
const ITEMS: usize = 100;

/// Redis counts how long calls take between its two ends.
pub(super) struct Probe;

impl Probe {
    /// Takes the control, and begins to count.
    pub(super) async fn start(session: &mut Session, case: &str, ground: &mut Ground) -> Self {
        let redis = &mut ground.redis;
        ask(redis, &["CONFIG", "SET", "latency-tracking-info-percentiles", "99.9"]).await;
        ask(redis, &["CONFIG", "RESETSTAT"]).await;
        let item = "x".repeat(PAYLOAD);
        let mut push = vec!["LPUSH", "probe"];
        push.resize(2 + ITEMS, &item);
        for _ in 0..PUSHES {
            ask(redis, &push).await;
        }
        let name = format!("control: growth, {case}: LPUSH of 100, p99.9");
        session.note(&name, slowest(redis, "lpush").await, Unit::Counted("µs"));
        ask(redis, &["DEL", "probe"]).await;
        ask(redis, &["CONFIG", "RESETSTAT"]).await;
        Self
    }

    pub(super) async fn end(self, session: &mut Session, case: &str, ground: &mut Ground) {
        let micros = slowest(&mut ground.redis, "fcall").await;
        session.note(&format!("growth, {case}: functions, p99.9"), micros, Unit::Counted("µs"));
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
