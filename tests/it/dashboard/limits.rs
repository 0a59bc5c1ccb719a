//! The page of the limits that queues share.

use crunch_tests::{Stack, Stage, eventually};
use reqwest::Method;
use serde_json::json;

use super::browser::Browser;

#[tokio::test]
async fn shared_limits_show_what_runs_and_which_queues_share_them() {
    let (_stack, api, _worker) = Stack::simple(2).await;
    let (stage, mut browser) = (Stage::open().await, Browser::of(&api));
    let none = browser.open("/dashboard/limits").await;
    assert!(none.contains("There are none"), "{none}");

    let rate = json!({ "starts": 100, "per_ms": 60_000 });
    for (path, limit) in [
        ("/limits/act.both", json!({ "concurrency": 1, "rate": rate })),
        ("/limits/act.unused", json!({ "concurrency": 7 })),
        ("/queues/act/limit", json!({ "limits": ["act.both"] })),
    ] {
        let set = api.send(api.request(Method::PUT, path).json(&limit)).await;
        assert_eq!(set.status, 200, "{set:?}");
    }
    let id = api.submit("act", &stage.payload()).await;
    let actor = stage.wait_for_handler().await;
    // A page is kept for a moment.
    let page = eventually("the limit is reached", async || {
        let page = browser.open("/dashboard/limits").await;
        page.contains("reached").then_some(page)
    })
    .await;
    for shown in [
        "id=\"limit-act.both\"",
        "reached",
        "100 in 1\u{202f}min",
        "href=\"/dashboard/queues/act\"",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    let unused = page.split("id=\"limit-act.unused\"").nth(1).unwrap();
    assert!(unused.contains("open") && unused.contains(">7<") && unused.contains("none"), "{page}");
    let queue = browser.open("/dashboard/queues/act").await;
    assert!(queue.contains("href=\"/dashboard/limits#limit-act.both\""), "{queue}");
    actor.returns(&json!(1)).await;
    api.wait_for_status(&id, "succeeded").await;
    eventually("the limit is not reached", async || {
        let page = browser.open("/dashboard/limits").await;
        (!page.contains("reached")).then_some(())
    })
    .await;
}
