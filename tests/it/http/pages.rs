//! Pages of queues, workers and tasks.

use crunch_common::broker::Library;
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Api, Stack};
use serde_json::{Value, json};

use super::{api_without_workers, expect_problem};

/// The values of `member` on each page of a list, which is read by its links.
async fn pages(api: &Api, path: &str, member: &str) -> Vec<Vec<String>> {
    let (mut path, mut pages) = (path.to_owned(), Vec::new());
    loop {
        let page = api.get(&path).await;
        assert_eq!((page.status.as_u16(), page.header("cache-control")), (200, "no-store"));
        let document = page.json();
        let names = document["items"].as_array().unwrap().iter();
        pages.push(names.map(|item| item[member].as_str().unwrap().to_owned()).collect());
        assert_eq!(document["next_cursor"] == Value::Null, page.header("link").is_empty());
        let link = page.header("link").strip_prefix('<');
        match link.and_then(|link| link.strip_suffix(">; rel=\"next\"")) {
            Some(link) => path = link.to_owned(),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn queues_are_paged_by_name() {
    let (_stack, api) = api_without_workers().await;
    for queue in ["b-1", "a", "c", "b", "a.b"] {
        api.submit_with("t", &json!(1), &json!({ "queue": queue })).await;
    }
    assert_eq!(pages(&api, "/queues", "name").await, [["a", "a.b", "b", "b-1", "c"]]);
    let small: [&[&str]; 3] = [&["a", "a.b"], &["b", "b-1"], &["c"]];
    assert_eq!(pages(&api, "/queues?limit=2", "name").await, small);
}

#[tokio::test]
async fn workers_are_paged_by_id() {
    let (mut stack, api, _first) = Stack::simple(1).await;
    let _second = stack.worker(&api, 1).await;
    let _pids = Stack::wait_for_workers(&api, 2).await;
    let whole = pages(&api, "/workers", "id").await;
    let single = pages(&api, "/workers?limit=1", "id").await;
    assert_eq!((whole.len(), single.len()), (1, 2));
    assert_eq!(whole.concat(), single.concat());
    assert!(whole[0].is_sorted());
}

#[tokio::test]
async fn pages_of_tasks_are_shorter_where_schemas_are_large() {
    let (stack, api) = api_without_workers().await;
    let large = format!("{{\"description\":\"{}\"}}", "x".repeat(60_000));
    let task = |at: usize| {
        let mut task = TaskDescriptor::new(format!("t{at:03}").parse().unwrap());
        task.payload_schema = serde_json::from_str(&large).ok();
        task
    };
    let tasks: Vec<_> = (0..100).map(task).collect();
    let broker = stack.redis.broker("crunch", Library::shipped());

    for tasks in tasks.chunks(20) {
        broker.announce(&[], tasks).await.unwrap();
    }
    let whole = pages(&api, "/tasks", "name").await;
    let sizes: Vec<_> = whole.iter().map(Vec::len).collect();
    assert_eq!(sizes, [70, 30], "4 MiB of schemas a page");
    assert_eq!(pages(&api, "/tasks?limit=30", "name").await.concat(), whole.concat());
    let names: Vec<_> = tasks.iter().map(|task| task.name.to_string()).collect();

    assert_eq!(whole.concat(), names);
}

#[tokio::test]
async fn invalid_paging_parameters_are_refused() {
    let (_stack, api) = api_without_workers().await;

    for path in ["/queues", "/workers", "/tasks"] {
        for (query, name) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=", "limit"),
            ("cursor=", "cursor"),
            ("cursor=A%2F", "cursor"),
            ("limit=1&limit=2", "limit"),
            ("offset=1", "offset"),
        ] {
            let answer = api.get(&format!("{path}?{query}")).await;
            let problem = expect_problem(&api, &answer, 400, "invalid-parameter").await;
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.starts_with(&format!("{name}: ")), "{path}?{query}: {detail}");
        }
        assert_eq!(api.get(&format!("{path}?limit=1000")).await.json()["items"], json!([]));
    }
}
