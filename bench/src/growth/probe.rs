//! How long function calls take in Redis, as measured by Redis: the 99.9th percentile, compared with two kinds of
//! pushes.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::task::JoinHandle;

use crate::metrics::Unit;
use crate::session::Session;
use crate::testbed::{PAYLOAD, Testbed};

/// Items of the short push.
const ITEMS: usize = 100;
/// Delay between two short pushes.
const PAUSE: Duration = Duration::from_millis(2);

/// Number of long pushes.
const LONG_PUSHES: usize = 8000;
/// Number of long pushes per pipeline.
const PER_PIPELINE: usize = 8;
/// The command of the short push: not `LPUSH`, which the functions use.
const SHORT: &str = "rpush";
/// The command of the long push: unused elsewhere, so its statistics are separate from those of the short push.
const LONG: &str = "rpushx";

/// Between start and end, Redis measures how long calls take. Meanwhile a short push of a hundred items repeats, on the
/// same server and under the same load.
///
/// A machine that preempts Redis affects the longest calls most often. So afterwards Redis only runs pushes that take
/// as long as the median function call: slow ones are caused by the machine, not by a function.
pub(super) struct Probe(JoinHandle<()>);

impl Probe {
    pub(super) async fn start(testbed: &mut Testbed) -> Self {
        let redis = &mut testbed.redis;
        execute(redis, &["CONFIG", "SET", "latency-tracking-info-percentiles", "50 99.9"]).await;
        execute(redis, &["CONFIG", "RESETSTAT"]).await;
        Self(tokio::spawn(push(testbed.server().connect().await)))
    }

    pub(super) async fn end(self, session: &mut Session, case: &str, testbed: &mut Testbed) {
        let functions = Durations::of(&mut testbed.redis, "fcall").await;
        let short = Durations::of(&mut testbed.redis, SHORT).await;
        self.0.abort();
        let items = (ITEMS as f64 * functions.median / short.median) as usize;
        let long = push_long(&mut testbed.redis, items.max(1)).await;
        for (control, durations) in [("push of 100", short), ("push as long", long)] {
            let name = |quantile| format!("control: growth, {case}: {control}, {quantile}");
            session.record(&name("p50"), durations.median, Unit::Counted("µs"));
            session.record(&name("p99.9"), durations.high, Unit::Counted("µs"));
        }
        let name = |quantile| format!("growth, {case}: functions, {quantile}");
        session.record(&name("p50"), functions.median, Unit::Counted("µs"));
        session.record(&name("p99.9"), functions.high, Unit::Counted("µs"));
    }
}

async fn push(mut redis: MultiplexedConnection) {
    let item = "x".repeat(PAYLOAD);
    let mut arguments = vec!["RPUSH", "probe"];
    arguments.resize(2 + ITEMS, &item);
    loop {
        execute(&mut redis, &arguments).await;
        execute(&mut redis, &["DEL", "probe"]).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Repeatedly pushes this many items at once.
async fn push_long(redis: &mut MultiplexedConnection, items: usize) -> Durations {
    let item = "x".repeat(PAYLOAD);
    let mut pushes = redis::pipe();
    for _ in 0..PER_PIPELINE {
        pushes.cmd("DEL").arg("probe").ignore();
        pushes.cmd("LPUSH").arg("probe").arg("first").ignore();
        pushes.cmd(LONG).arg("probe").arg(vec![&item; items]).ignore();
    }
    for _ in 0..LONG_PUSHES / PER_PIPELINE {
        pushes.exec_async(redis).await.unwrap();
    }
    Durations::of(redis, LONG).await
}

async fn execute(redis: &mut MultiplexedConnection, arguments: &[&str]) {
    let mut command = redis::cmd(arguments[0]);
    command.arg(&arguments[1..]).exec_async(redis).await.unwrap();
}

/// How long calls of a command took, in microseconds.
struct Durations {
    /// The median.
    median: f64,
    /// The 99.9th percentile.
    high: f64,
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
        let (median, high) = (values.next().unwrap(), values.next().unwrap());
        Self { median, high }
    }
}
