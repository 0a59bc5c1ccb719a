//! Whether an API can deliver shows in its metrics and its log.

use crunch_tests::{Api, Stack, eventually};

use super::SETTINGS;

async fn shows(api: &Api, line: &str) {
    eventually(line, async || {
        let metrics = String::from_utf8(api.get("/metrics").await.body.to_vec()).unwrap();
        metrics.lines().any(|shown| shown == line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn deliveries_without_redis_show_as_down_and_then_as_up_again() {
    let mut stack = Stack::start();
    let mut api = stack.api_with(&SETTINGS).await;
    shows(&api, "crunch_webhooks_up 1").await;

    stack.redis.freeze();
    shows(&api, "crunch_webhooks_up 0").await;
    api.process.wait_for_log("webhooks are not delivered").await;

    stack.redis.thaw();
    shows(&api, "crunch_webhooks_up 1").await;
    api.process.wait_for_log("webhooks are delivered again").await;
}
