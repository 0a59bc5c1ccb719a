//! Progress and log lines of a running job, through everything that can happen to their way. (F30)

use crunch_tests::{Actor, DropMode, Proxy, RedisServer, Stack, Stage, Filter, Worker};
use serde_json::{Value, json};

use super::*;

/// A job on stage, whose worker is behind a line.
struct Behind {
    stack: Stack,
    proxy: Proxy,
    api: Api,
    worker: Worker,
    actor: Actor,
}

impl Behind {
    async fn a_line(redis: RedisServer) -> Self {
        let mut stack = Stack::on(redis);
        let (api, proxy, stage) = (stack.api().await, stack.proxy(), Stage::open().await);
        let worker = stack.worker_via(&proxy, &api, 1, &SAFE_LEASE).await;
        api.submit("act", &stage.payload()).await;
        let actor = stage.wait_for_handler().await;
        Self { stack, proxy, api, worker, actor }
    }

    async fn logs(&mut self, lines: impl IntoIterator<Item = u32>) {
        let lines: Vec<_> = lines.into_iter().map(|line| format!("line {line}")).collect();
        self.actor.send(&json!({ "log": lines.join("\n") })).await;
    }

    /// The log of the job, once it has succeeded.
    async fn ends_with_log(self) -> (Vec<String>, Value) {
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
    for loss in [DropMode::Reset, DropMode::Silence] {
        let mut behind = Behind::a_line(RedisServer::start()).await;
        behind.proxy.drop_replies(Filter::verb("report"), 3, loss);
        behind.logs(1..=3).await;
        behind.actor.send(&json!({ "progress": [0.5, "half"] })).await;
        replies::lost(&behind.proxy, 1).await;
        behind.logs(4..=6).await;
        replies::lost(&behind.proxy, 3).await;
        let (log, job) = behind.ends_with_log().await;
        assert_eq!(log, lines(1..=6));
        assert_eq!(job["progress"], 0.5, "{job}");
    }
}

#[tokio::test]
async fn reports_that_redis_never_got_are_sent_again() {
    let mut behind = Behind::a_line(RedisServer::start()).await;
    behind.proxy.drop_commands(Filter::verb("report"), 2, DropMode::Reset);
    behind.logs(1..=3).await;
    replies::lost(&behind.proxy, 2).await;
    let (log, _) = behind.ends_with_log().await;
    assert_eq!(log, lines(1..=3));
}

/// The settlement waits for Redis anyway; the log arrives before it. Of more lines than are kept the oldest are dropped.
#[tokio::test]
async fn a_job_that_ends_during_an_outage_keeps_its_log() {
    let mut all = vec!["[745 lines are missing]".to_owned()];
    all.extend(lines(748..=1002));
    for (last, expected) in [(4, lines(3..=4)), (1002, all)] {
        let mut behind = Behind::a_line(RedisServer::start()).await;
        behind.logs(1..=2).await;
        let id = behind.actor.id.clone();
        eventually("two lines are there", async || {
            (log_of(&behind.api, &id).await.len() == 2).then_some(())
        })
        .await;
        behind.proxy.refuse().await;
        behind.logs(3..=last).await;
        behind.actor.send(&json!({ "return": "done" })).await;
        behind.actor.wait_until_ended().await;
        behind.proxy.heal();
        behind.api.wait_for_status(&id, "succeeded").await;
        let log = log_of(&behind.api, &id).await;
        let newest = lines(1..=2).into_iter().chain(expected).collect::<Vec<_>>();
        assert_eq!(log, newest[newest.len().saturating_sub(256)..]);
        behind.stack.assert_clean_audit().await;
    }
}

#[tokio::test]
async fn a_restart_of_redis_costs_no_line() {
    let mut behind = Behind::a_line(RedisServer::durable()).await;
    behind.logs(1..=2).await;
    behind.stack.redis.stop();
    behind.logs(3..=4).await;
    behind.worker.wait_for_log("reports of running jobs wait for Redis").await;
    behind.stack.redis.restart();
    behind.logs(5..=6).await;
    let (log, _) = behind.ends_with_log().await;
    assert_eq!(log, lines(1..=6));
}
