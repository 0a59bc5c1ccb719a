//! Progress and log lines of a running job, while their connection or Redis fails. (F30)

use crunch_tests::{Actor, DropMode, Filter, Proxy, RedisServer, Stack, Stage, Worker};
use serde_json::{Value, json};

use super::*;

/// A running job, whose worker is connected through a proxy.
struct Setup {
    stack: Stack,
    proxy: Proxy,
    api: Api,
    worker: Worker,
    actor: Actor,
}

impl Setup {
    async fn start(redis: RedisServer) -> Self {
        let mut stack = Stack::on(redis);
        let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
        let worker = stack.worker_via(&proxy, &api, 1, &SAFE_LEASE).await;
        api.submit("act", &stage.payload()).await;
        let actor = stage.wait_for_handler().await;
        Self { stack, proxy, api, worker, actor }
    }

    async fn log(&mut self, lines: impl IntoIterator<Item = u32>) {
        let lines: Vec<_> = lines.into_iter().map(|line| format!("line {line}")).collect();
        self.actor.send(&json!({ "log": lines.join("\n") })).await;
    }

    /// Ends the job; returns its log and its document.
    async fn finish(self) -> (Vec<String>, Value) {
        let Self { stack, api, actor, .. } = self;
        let id = actor.id.clone();
        actor.returns(&json!("done")).await;
        let job = api.wait_for_status(&id, "succeeded").await;
        let log = log_of(&api, &id).await;
        assert_eq!(outcomes(&api, &id).await, ["succeeded"]);
        stack.assert_clean_audit().await;
        (log, job)
    }
}

async fn log_of(api: &Api, id: &str) -> Vec<String> {
    let page = api.get(&format!("/jobs/{id}/logs?limit=256")).await.json();
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["line"].as_str().unwrap().to_owned()).collect()
}

fn lines(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(|line| format!("line {line}")).collect()
}

#[tokio::test]
async fn reports_whose_replies_are_lost_are_written_once() {
    for mode in [DropMode::Reset, DropMode::Silence] {
        let mut setup = Setup::start(RedisServer::start()).await;
        setup.proxy.drop_replies(Filter::verb("report"), 3, mode);
        setup.log(1..=3).await;
        setup.actor.send(&json!({ "progress": [0.5, "half"] })).await;
        replies::wait_until_dropped(&setup.proxy, 1).await;
        setup.log(4..=6).await;
        replies::wait_until_dropped(&setup.proxy, 3).await;

        let (log, job) = setup.finish().await;
        assert_eq!(log, lines(1..=6));
        assert_eq!(job["progress"], 0.5, "{job}");
    }
}

#[tokio::test]
async fn reports_that_redis_never_received_are_sent_again() {
    let mut setup = Setup::start(RedisServer::start()).await;
    setup.proxy.drop_commands(Filter::verb("report"), 2, DropMode::Reset);
    setup.log(1..=3).await;
    replies::wait_until_dropped(&setup.proxy, 2).await;
    let (log, _) = setup.finish().await;
    assert_eq!(log, lines(1..=3));
}

/// The settlement waits for Redis anyway; the log arrives before it. If there are more lines than are kept, the oldest
/// are dropped.
#[tokio::test]
async fn a_job_that_ends_during_an_outage_keeps_its_log() {
    let mut newest_of_1002 = vec!["[745 lines are missing]".to_owned()];
    newest_of_1002.extend(lines(748..=1002));
    for (last, expected) in [(4, lines(3..=4)), (1002, newest_of_1002)] {
        let mut setup = Setup::start(RedisServer::start()).await;
        setup.log(1..=2).await;
        let id = setup.actor.id.clone();
        eventually("the log has two lines", async || {
            (log_of(&setup.api, &id).await.len() == 2).then_some(())
        })
        .await;

        setup.proxy.refuse().await;
        setup.log(3..=last).await;
        setup.actor.send(&json!({ "return": "done" })).await;
        setup.actor.wait_until_ended().await;

        setup.proxy.heal();
        setup.api.wait_for_status(&id, "succeeded").await;
        let log = log_of(&setup.api, &id).await;
        let whole = lines(1..=2).into_iter().chain(expected).collect::<Vec<_>>();
        assert_eq!(log, whole[whole.len().saturating_sub(256)..]);
        setup.stack.assert_clean_audit().await;
    }
}

#[tokio::test]
async fn a_restart_of_redis_loses_no_log_line() {
    let mut setup = Setup::start(RedisServer::durable()).await;
    setup.log(1..=2).await;
    setup.stack.redis.stop();
    setup.log(3..=4).await;
    setup.worker.wait_for_log("reports of running jobs wait for Redis").await;

    setup.stack.redis.restart();
    setup.log(5..=6).await;
    let (log, _) = setup.finish().await;
    assert_eq!(log, lines(1..=6));
}
