//! A network that refuses, resets, swallows and splits. (F10, F12, F14, F15)

use std::time::{Duration, Instant};

use crunch_tests::{Actor, Api, Proxy, RedisServer, Stack, Stage, Worker, eventually};
use reqwest::StatusCode;
use serde_json::json;

use super::*;

/// How soon everything works again once Redis can be reached: three seconds are promised, one is for a machine that does
/// other things at the same time.
pub(super) const RESUME: Duration = Duration::from_secs(4);

/// Waits until a fresh job went through; returns how long that took.
pub(super) async fn works_again(api: &Api) -> Duration {
    let start = Instant::now();
    let id = eventually("a job is taken", async || {
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

/// API and worker behind one line, and jobs that run on the worker when the line goes.
struct Behind {
    stack: Stack,
    proxy: Proxy,
    api: Api,
    worker: Worker,
    stage: Stage,
}

impl Behind {
    async fn one_line(lease: &[(&str, &str)]) -> Self {
        let mut stack = Stack::start();
        let proxy = stack.proxy();
        let api = stack.api_via(&proxy).await;
        let worker = stack.worker_via(&proxy, &api, 8, lease).await;
        Self { stack, proxy, api, worker, stage: Stage::open().await }
    }

    async fn run(&self, jobs: usize) -> Vec<Actor> {
        let mut actors = Vec::new();
        for _ in 0..jobs {
            self.api.submit("act", &self.stage.payload()).await;
            actors.push(self.stage.wait_for_handler().await);
        }
        actors
    }

    async fn suffer(&self, outage: Outage, length: Duration) {
        match outage {
            Outage::Refused => self.proxy.refuse().await,
            // Nobody listens there: connections are taken and reset.
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

    /// Every worker lives and works again in time, and nothing that it ran meanwhile runs a second time.
    async fn survives(&mut self, outage: Outage, length: Duration) {
        let actors = self.run(4).await;
        self.suffer(outage, length).await;
        let resumed = works_again(&self.api).await;
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

async fn survives_short_and_long(outage: Outage) {
    let mut behind = Behind::one_line(&SAFE_LEASE).await;
    for ms in [200, 1000, 5000] {
        behind.survives(outage, Duration::from_millis(ms)).await;
    }
}

#[tokio::test]
async fn a_sweep_that_comes_back_before_the_beats_do_waits_for_them() {
    let mut stack = Stack::start();
    let (to_api, to_worker, stage) = (stack.proxy(), stack.proxy(), Stage::open().await);
    let api = stack.api_via(&to_api).await;
    let _worker = stack.worker_via(&to_worker, &api, 1, &[("CRUNCH_LEASE_MS", "2000")]).await;
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    let sweeps = async |more: u64| {
        let enough = to_api.passed("sweep") + more;
        let swept = async || (to_api.passed("sweep") >= enough).then_some(());
        eventually("sweeps went through", swept).await;
    };
    // A new key space begins with a grace of its own.
    sweeps(5).await;
    to_worker.black_hole();
    to_api.black_hole();
    tokio::time::sleep(Duration::from_secs(3)).await;
    to_api.heal();
    sweeps(1).await;
    to_worker.heal();
    actor.returns(&json!("kept")).await;
    assert_eq!(api.wait_for_status(&id, "succeeded").await["result"], "kept");
    assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
}

#[tokio::test]
async fn outages_that_refuse_connections_cost_no_second_run() {
    survives_short_and_long(Outage::Refused).await;
}

#[tokio::test]
async fn outages_that_reset_connections_cost_no_second_run() {
    survives_short_and_long(Outage::Reset).await;
}

#[tokio::test]
async fn outages_that_swallow_everything_cost_no_second_run() {
    survives_short_and_long(Outage::BlackHole).await;
}

#[tokio::test]
#[ignore = "takes ten minutes: outages as long as in production, with the lease of production"]
async fn long_outages_cost_no_second_run() {
    let mut behind = Behind::one_line(&[]).await;
    for outage in [Outage::Refused, Outage::Reset, Outage::BlackHole] {
        for seconds in [5, 11, 30, 120] {
            behind.survives(outage, Duration::from_secs(seconds)).await;
        }
    }
}

#[tokio::test]
async fn a_worker_whose_connections_are_forgotten_by_the_network_notices() {
    let mut stack = Stack::start();
    let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
    let _worker = stack.worker_via(&proxy, &api, 2, &[]).await;
    let running = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    proxy.stall_open_connections();
    let noticed = works_again(&api).await;
    assert!(noticed < Duration::from_secs(8), "{noticed:?}");
    actor.returns(&json!(1)).await;
    api.wait_for_status(&running, "succeeded").await;
    assert_eq!(outcomes(&api, &running).await, ["succeeded"]);
}

#[tokio::test]
async fn an_api_whose_connections_are_forgotten_by_the_network_notices() {
    let mut stack = Stack::start();
    let proxy = stack.proxy();
    let api = stack.api_via(&proxy).await;
    let _worker = stack.worker(&api, 1).await;
    proxy.stall_open_connections();
    assert!(works_again(&api).await < RESUME);
}

#[tokio::test]
async fn a_slow_line_only_takes_longer() {
    let mut behind = Behind::one_line(&SHORT_LEASE).await;
    // To open a connection takes ways there and back of its own, which are no part of what is promised.
    let first = behind.api.submit("echo", &json!(1)).await;
    behind.api.wait_for_status(&first, "succeeded").await;
    behind.proxy.delay(Duration::from_millis(150));
    let actors = behind.run(2).await;
    for actor in actors {
        let id = actor.id.clone();
        actor.returns(&json!(1)).await;
        behind.api.wait_for_status(&id, "succeeded").await;
        assert_eq!(outcomes(&behind.api, &id).await, ["succeeded"]);
    }
    assert!(!behind.worker.has_exited());
}

#[tokio::test]
async fn a_redis_that_drops_every_connection_under_load_costs_no_second_run() {
    let mut stack = Stack::on(RedisServer::durable());
    let (to_api, to_worker) = (stack.proxy(), stack.proxy());
    let api = stack.api_via(&to_api).await;
    let _worker = stack.worker_via(&to_worker, &api, 8, &SAFE_LEASE).await;
    let ids = submit_squares(&api, 2000, 2).await;
    for round in 1..=10 {
        eventually("the jobs get on", async || (stack.ledger().len() > round * 300).then_some(()))
            .await;
        to_worker.reset();
        to_api.reset();
    }
    drained(&api, "square").await;
    every_square_is_right(&api, &ids).await;
    let entries = stack.ledger();
    assert!(runs(&entries).values().all(|runs| runs.len() == 1), "something ran twice");
}
