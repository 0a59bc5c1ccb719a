//! Live updates: ticks, unchanged pages, and what a hundred viewers cost.

use std::time::Duration;

use crunch_tests::{Api, RawConnection, RedisServer, Stack};
use redis::AsyncCommands;
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use super::browser::Browser;
use crate::http::keys::ApiWithKeys;

/// Reads a stream until it contains a text that it did not contain before.
async fn read_until(stream: &mut RawConnection, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        let part = timeout(Duration::from_secs(10), stream.read_some()).await;
        all +=
            &String::from_utf8_lossy(&part.expect("a tick in time").expect("the stream goes on"));
    }
    all
}

/// Opens the stream of a page, with a session if there is one.
async fn follow(api: &Api, page: &str, cookie: Option<&str>) -> RawConnection {
    let mut stream = RawConnection::to(api).await;
    let cookie = cookie.map(|cookie| format!("Cookie: {cookie}"));
    let headers: Vec<_> = cookie.as_deref().into_iter().collect();
    stream.write_head(&format!("GET /dashboard/ticks?page={page}"), &headers).await;
    stream.write("\r\n").await.unwrap();
    stream
}

#[tokio::test]
async fn a_tick_follows_a_change_and_an_unchanged_page_is_not_sent_again() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let id = api.submit("t", &json!(1)).await;
    let page = format!("/dashboard/jobs/{id}");
    let mut browser = Browser::of(&api);
    let first = browser.get(&page).await;
    let tag = first.header("etag").to_owned();
    let again = browser.request(Method::GET, &page).header("if-none-match", &tag);
    let again = browser.send(again).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));

    let mut stream = follow(&api, &page, None).await;
    let head = read_until(&mut stream, "event: tick").await;
    assert!(head.contains("text/event-stream"), "{head}");
    let html = browser.open(&page).await;
    browser.send_form(&html, &format!("{page}/cancel"), &[]).await;
    read_until(&mut stream, "event: tick").await;
    let changed = browser.request(Method::GET, &page).header("if-none-match", &tag);
    let changed = browser.send(changed).await;
    assert!(changed.status.as_u16() == 200 && changed.header("etag") != tag);
}

/// Pages that may look at thousands of jobs.
const SEARCHES: [&str; 3] = [
    "?page=%2Fdashboard%2Fjobs%3Fmetadata.a%3Db",
    "?page=%2Fdashboard%2Fjobs%3Fmetadata%3Da%253Db",
    "?page=%2Fdashboard%2Fjobs%3Fm%2565tadata.a%3Db",
];

#[tokio::test]
async fn ticks_are_for_pages_only() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut browser = Browser::of(&api);
    let none = ["", "?page=", "?page=/jobs", "?page=//evil.example/dashboard"];
    for query in none.into_iter().chain(SEARCHES) {
        let answer = browser.get(&format!("/dashboard/ticks{query}")).await;
        assert_eq!(answer.status.as_u16(), 404, "{query}");
    }
    // As the form sends it.
    let mut stream = follow(&api, "/dashboard/jobs?status=failed&metadata=&metadata=", None).await;
    read_until(&mut stream, "event: tick").await;
}

/// How many commands Redis serves while a time passes: pages that do not change cause no event to wait for.
async fn commands_during(redis: &RedisServer, time: Duration) -> u64 {
    let mut connection = redis.connect().await;
    let count = async |connection: &mut redis::aio::MultiplexedConnection| -> u64 {
        let info: redis::InfoDict =
            redis::cmd("INFO").arg("stats").query_async(connection).await.unwrap();
        info.get("total_commands_processed").unwrap()
    };
    let _: Option<String> = connection.get("warm").await.unwrap();
    let before = count(&mut connection).await;
    tokio::time::sleep(time).await;
    count(&mut connection).await - before
}

/// Each viewer has a session of their own, which is to be checked as well.
#[tokio::test]
async fn a_hundred_open_pages_cost_redis_what_one_does() {
    let keyed = ApiWithKeys::start(&[]).await;
    let key = keyed.create_key(&["--scopes", "admin"]).await;
    for task in ["a", "b", "c"] {
        keyed.post(&key, "/jobs", &json!({ "task": task })).await;
    }
    let mut streams = Vec::new();
    let mut costs = Vec::new();
    for viewers in [1, 100] {
        while streams.len() < viewers {
            let cookie = Browser::with_key(&keyed.api, &key).await.cookie;
            let mut stream = follow(&keyed.api, "/dashboard/queues", cookie.as_deref()).await;
            read_until(&mut stream, "event: tick").await;
            streams.push(stream);
        }
        // Sessions are read again every ten seconds.
        costs.push(commands_during(&keyed.stack.redis, Duration::from_secs(12)).await);
    }
    let ratio = costs[1] as f64 / costs[0] as f64;
    assert!((0.8..=1.2).contains(&ratio), "commands with one viewer and a hundred: {costs:?}");
}
