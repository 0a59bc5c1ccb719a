//! A network that refuses, resets or drops connections, or is partitioned. (F10, F12, F14, F15)

use std::time::{Duration, Instant};

use crunch_tests::{Actor, Api, Proxy, RedisServer, Stack, Stage, Worker, eventually};
use reqwest::StatusCode;
use serde_json::json;

use super::*;

/// How soon everything works again once Redis is reachable: three seconds are promised, one is for a machine with other
/// load.
pub(super) const RESUME: Duration = Duration::from_secs(4);

/// Waits until a new job has succeeded; returns how long that took.
pub(super) async fn wait_until_working(api: &Api) -> Duration {
    let start = Instant::now();
    let id = eventually("a job is accepted", async || {
        let answer = api.post("/jobs", &json!({ "task": "echo" })).await;
        (answer.status == StatusCode::ACCEPTED).then(|| answer.id())
    })
    .await;
    eventually("the job has run", async || {
        let answer = api.get(&format!("/jobs/{id}")).await;
        (answer.status == StatusCode::OK && answer.json()["status"] == "succeeded").then_some(())
    })
    .await;
    start.elapsed()
}

#[derive(Debug, Clone, Copy)]
enum Outage {
    Refused,
    Reset,
    BlackHole,
}

/// An API and a worker that share one proxy, and the stage of the jobs that run during an outage.
struct Setup {
    stack: Stack,
    proxy: Proxy,
    api: Api,
    worker: Worker,
    stage: Stage,
}

impl Setup {
    async fn start(lease: &[(&str, &str)]) -> Self {
        let mut stack = Stack::start();
        let proxy = stack.proxy();
        let api = stack.api_via(&proxy).await;
        let worker = stack.worker_via(&proxy, &api, 8, lease).await;
        Self { stack, proxy, api, worker, stage: Stage::open().await }
    }

    async fn start_jobs(&self, jobs: usize) -> Vec<Actor> {
        let mut actors = Vec::new();
        for _ in 0..jobs {
            self.api.submit("act", &self.stage.payload()).await;
            actors.push(self.stage.wait_for_handler().await);
        }
        actors
    }

    async fn cause(&self, outage: Outage, length: Duration) {
        match outage {
            Outage::Refused => self.proxy.refuse().await,
            // Nothing listens on port 1: connections are accepted and reset.
            Outage::Reset => {
                self.proxy.redirect_to(1);
                self.proxy.reset();
            }
            Outage::BlackHole => self.proxy.black_hole(),
        }
        tokio::time::sleep(length).await;
        self.proxy.redirect_to(self.stack.redis.port());
        self.proxy.heal();
    }

    /// Asserts that after an outage the worker works again in time, and that no job that it ran meanwhile runs again.
    async fn assert_survives(&mut self, outage: Outage, length: Duration) {
        let actors = self.start_jobs(4).await;
        self.cause(outage, length).await;
        let resumed = wait_until_working(&self.api).await;
        assert!(resumed < RESUME, "{outage:?} for {length:?}: {resumed:?}");
        for actor in actors {
            let id = actor.id.clone();
            actor.returns(&json!("kept")).await;
            assert_eq!(self.api.wait_for_status(&id, "succeeded").await["result"], "kept");
            assert_eq!(outcomes(&self.api, &id).await, ["succeeded"], "{outage:?} for {length:?}");
        }
        assert!(self.stage.is_empty().await && !self.worker.has_exited());
    }
}

async fn assert_survives_short_and_long(outage: Outage) {
    let mut setup = Setup::start(&SAFE_LEASE).await;
    for ms in [200, 1000, 5000] {
        setup.assert_survives(outage, Duration::from_millis(ms)).await;
    }
}

#[tokio::test]
async fn after_an_outage_the_first_sweep_waits_for_heartbeats() {
    let mut stack = Stack::start();
    let (to_api, to_worker, stage) = (stack.proxy(), stack.proxy(), Stage::open().await);
    let api = stack.api_via(&to_api).await;
    let _worker = stack.worker_via(&to_worker, &api, 1, &[("CRUNCH_LEASE_MS", "2000")]).await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let wait_for_sweeps = async |count: u64| {
        let expected = to_api.passed("sweep") + count;
        let is_reached = async || (to_api.passed("sweep") >= expected).then_some(());
        eventually("the API has swept", is_reached).await;
    };
    // A new key space begins with its own grace period.
    wait_for_sweeps(5).await;

    to_worker.black_hole();
    to_api.black_hole();
    tokio::time::sleep(Duration::from_secs(3)).await;
    to_api.heal();
    wait_for_sweeps(1).await;
    to_worker.heal();

    actor.returns(&json!("kept")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "kept");
    assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
}

#[tokio::test]
async fn outages_that_refuse_connections_cost_no_second_run() {
    assert_survives_short_and_long(Outage::Refused).await;
}

#[tokio::test]
async fn outages_that_reset_connections_cost_no_second_run() {
    assert_survives_short_and_long(Outage::Reset).await;
}

#[tokio::test]
async fn outages_that_drop_everything_cost_no_second_run() {
    assert_survives_short_and_long(Outage::BlackHole).await;
}

#[tokio::test]
#[ignore = "takes ten minutes: outages as long as in production, with the lease of production"]
async fn long_outages_cost_no_second_run() {
    let mut setup = Setup::start(&[]).await;
    for outage in [Outage::Refused, Outage::Reset, Outage::BlackHole] {
        for seconds in [5, 11, 30, 120] {
            setup.assert_survives(outage, Duration::from_secs(seconds)).await;
        }
    }
}

#[tokio::test]
async fn a_worker_detects_connections_that_were_dropped_silently() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let _worker = stack.worker_via(&proxy, &api, 2, &[]).await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;

    proxy.stall_open_connections();
    let recovery = wait_until_working(&api).await;
    assert!(recovery < Duration::from_secs(8), "{recovery:?}");

    actor.returns(&json!(1)).await;
    api.wait_for_status(&running, "succeeded").await;
    assert_eq!(outcomes(&api, &running).await, ["succeeded"]);
}

#[tokio::test]
async fn an_api_detects_connections_that_were_dropped_silently() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let _worker = stack.worker(&api, 1).await;
    proxy.stall_open_connections();
    assert!(wait_until_working(&api).await < RESUME);
}

#[tokio::test]
async fn a_slow_line_only_takes_longer() {
    let mut setup = Setup::start(&SHORT_LEASE).await;
    // Opening a connection takes further round trips, which the promise does not include.
    let first = setup.api.submit("echo", &json!(1)).await;
    setup.api.wait_for_status(&first, "succeeded").await;

    setup.proxy.delay(Duration::from_millis(150));
    let actors = setup.start_jobs(2).await;
    for actor in actors {
        let id = actor.id.clone();
        actor.returns(&json!(1)).await;
        setup.api.wait_for_status(&id, "succeeded").await;
        assert_eq!(outcomes(&setup.api, &id).await, ["succeeded"]);
    }
    assert!(!setup.worker.has_exited());
}

#[tokio::test]
async fn a_redis_that_drops_every_connection_under_load_costs_no_second_run() {
    let mut stack = Stack::on(RedisServer::durable());
    let (to_api, to_worker) = (stack.proxy(), stack.proxy());
    let api = stack.api_via(&to_api).await;
    let _worker = stack.worker_via(&to_worker, &api, 8, &SAFE_LEASE).await;
    let ids = submit_squares(&api, 2000, 2).await;

    for round in 1..=10 {
        eventually("more jobs have run", async || {
            (stack.ledger().len() > round * 300).then_some(())
        })
        .await;
        to_worker.reset();
        to_api.reset();
    }

    wait_until_drained(&api, "square").await;
    assert_squares(&api, &ids).await;
    let entries = stack.ledger();
    assert!(runs(&entries).values().all(|runs| runs.len() == 1), "a job ran twice");
}
