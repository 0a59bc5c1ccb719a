//! Jobs by their metadata: by an index if their task declares the label, and by a scan of all jobs otherwise.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crunch_common::broker::Library;
use crunch_common::task::{Indexes, TaskDescriptor};
use crunch_common::time::Timestamp;
use crunch_tests::{Api, Stack, Worker, eventually};
use serde_json::{Value, json};

use super::keys::ApiWithKeys;
use super::{api_without_workers, assert_problem, expect_problem};
use crate::dashboard::browser::Browser;

/// One task indexes a label, the other does not; both fail.
const TASKS: &str = r#"builtin = false
[[task]]
name = "orders"
command = ["sh", "-c", "echo 'no license' >&2; exit 3"]
max_attempts = 1
indexes = ["customer", "region"]
[[task]]
name = "notes"
command = ["sh", "-c", "exit 3"]
max_attempts = 1
"#;

async fn start(stack: &mut Stack) -> (Api, Worker) {
    let api = stack.api().await;
    let path = stack.directory().join("tasks.toml");
    std::fs::write(&path, TASKS).unwrap();
    let worker = stack.worker_with(&api, 2, &[("CRUNCH_TASKS", path.to_str().unwrap())]).await;
    (api, worker)
}

/// Submits a job and waits until it has failed.
async fn fail(api: &Api, task: &str, metadata: &Value) -> String {
    let job = json!({ "task": task, "payload": {}, "metadata": metadata });
    let id = api.post("/jobs", &job).await.json()["id"].as_str().unwrap().to_owned();
    api.wait_for_status(&id, "failed").await;
    id
}

/// Follows the pages of a list. Returns the ids in their order, and how all of them were searched.
async fn find(api: &Api, query: &str) -> (Vec<String>, String, u64) {
    let (mut path, mut ids, mut looked_at) = (format!("/jobs?{query}"), Vec::new(), 0);
    loop {
        let page = api.get(&path).await;
        assert_eq!(page.status.as_u16(), 200, "{path}: {page:?}");
        let document = page.json();
        let items = document["items"].as_array().unwrap();
        ids.extend(items.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        looked_at += document["search"]["looked_at"].as_u64().unwrap();
        if document["next_cursor"].is_null() {
            return (ids, document["search"]["by"].as_str().unwrap().to_owned(), looked_at);
        }
        let link = page.header("link").to_owned();
        path = link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
    }
}

#[tokio::test]
async fn the_failed_jobs_of_a_customer_are_found_with_their_errors() {
    let mut stack = Stack::start();
    let (api, _worker) = start(&mut stack).await;
    let task = api.get("/tasks/orders").await.json();
    assert_eq!(task["indexes"], json!(["customer", "region"]));
    assert_eq!(api.get("/tasks/notes").await.json()["indexes"], json!([]));

    let mut acme = Vec::new();
    for number in 0..3 {
        let metadata = json!({ "customer": "acme", "number": number.to_string() });
        acme.push(fail(&api, "orders", &metadata).await);
        fail(&api, "orders", &json!({ "customer": "other" })).await;
    }
    let note = fail(&api, "notes", &json!({ "customer": "acme" })).await;
    acme.reverse();
    for limit in [1, 2, 100] {
        let query = format!("status=failed&metadata.customer=acme&limit={limit}");
        assert_eq!(find(&api, &query).await, (acme.clone(), "index".to_owned(), 3));
    }
    let page = api.get("/jobs?metadata.customer=acme&status=failed").await.json();
    assert_eq!(page["search"], json!({ "by": "index", "looked_at": 3, "of": 3 }));
    assert!(page["items"][0]["error"]["message"].as_str().unwrap().contains("no license"));

    let by_both = find(&api, "metadata.customer=acme&metadata.number=1").await;
    assert_eq!(by_both, (vec![acme[1].clone()], "index".to_owned(), 3));
    let of_task = find(&api, "task=notes&metadata.customer=acme").await;
    assert_eq!((of_task.0, &*of_task.1), (vec![note.clone()], "scan"));
    let all = find(&api, "search=scan&metadata.customer=acme&limit=3").await;
    let expected: BTreeSet<_> = acme.iter().chain([&note]).collect();
    assert_eq!((all.0.iter().collect::<BTreeSet<_>>(), &*all.1), (expected, "scan"));
    assert_eq!(all.2, 7, "every job is looked at");
    let number = find(&api, "metadata.number=2").await;
    assert_eq!((number.0, &*number.1), (vec![acme[0].clone()], "scan"));
    assert_eq!(find(&api, "metadata.customer=nobody").await, (vec![], "index".to_owned(), 0));
    assert_eq!(api.get("/jobs").await.json()["search"], Value::Null);
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_long_value_is_found_by_a_scan() {
    let mut stack = Stack::start();
    let (api, _worker) = start(&mut stack).await;
    for (length, by) in [(64, "index"), (65, "scan")] {
        let value = "ä".repeat(length / 2) + &"a".repeat(length % 2);
        let id = fail(&api, "orders", &json!({ "customer": value })).await;
        let query = format!("metadata.customer={}", "%C3%A4".repeat(length / 2));
        let query = query + &"a".repeat(length % 2);
        let found = find(&api, &query).await;
        assert_eq!((found.0, &*found.1), (vec![id], by), "{length}");
    }
    let long = format!("/jobs?search=index&metadata.customer={}", "a".repeat(65));
    assert_problem(&api.get(&long).await, 400, "invalid-parameter");
}

#[tokio::test]
async fn an_action_changes_the_jobs_with_a_label() {
    let mut stack = Stack::start();
    let (api, _worker) = start(&mut stack).await;
    let acme = fail(&api, "orders", &json!({ "customer": "acme" })).await;
    let other = fail(&api, "orders", &json!({ "customer": "other", "note": "x" })).await;
    let delete = "/jobs/actions?action=delete&status=failed";
    let counted =
        api.post_empty(&format!("{delete}&metadata.customer=acme&dry_run=true")).await.json();
    let search = json!({ "by": "index", "looked_at": 1, "of": 1 });
    let members = ["matched", "changed", "next_cursor", "search"].map(|name| counted[name].clone());
    assert_eq!(json!(members), json!([1, 0, null, search]));
    let deleted = api.post_empty(&format!("{delete}&metadata.customer=acme")).await.json();
    assert_eq!((&deleted["matched"], &deleted["changed"]), (&json!(1), &json!(1)));
    assert_eq!(api.get(&format!("/jobs/{acme}")).await.status.as_u16(), 410);
    assert_eq!(find(&api, "metadata.customer=acme").await.0, [] as [String; 0]);
    let by_note = api.post_empty(&format!("{delete}&metadata.note=x")).await.json();
    assert_eq!((&by_note["changed"], &by_note["search"]["by"]), (&json!(1), &json!("scan")));
    assert_eq!(api.get(&format!("/jobs/{other}")).await.status.as_u16(), 410);
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_key_for_some_queues_finds_only_their_jobs() {
    let keyed = ApiWithKeys::start(&[]).await;
    let task = TaskDescriptor {
        indexes: Indexes::new(["customer"]).unwrap(),
        ..TaskDescriptor::new("orders".parse().unwrap())
    };
    keyed.stack.redis.broker("crunch", Library::shipped()).announce(&[], &[task]).await.unwrap();
    let all = keyed.create_key(&["--scopes", "admin"]).await;
    let some = keyed.create_key(&["--scopes", "read", "--queues", "mine"]).await;
    eventually("the task is known", async || {
        (keyed.send(&all, "GET", "/tasks/orders").await.status == 200).then_some(())
    })
    .await;
    let mut ids = Vec::new();
    for queue in ["mine", "theirs"] {
        let metadata = json!({ "customer": "acme" });
        let job = json!({ "task": "orders", "queue": queue, "metadata": metadata });
        ids.push(keyed.post(&all, "/jobs", &job).await.json()["id"].clone());
    }
    for search in ["index", "scan"] {
        let path = format!("/jobs?metadata.customer=acme&search={search}");
        let page = keyed.send(&some, "GET", &path).await.json();
        let found: Vec<_> =
            page["items"].as_array().unwrap().iter().map(|job| &job["id"]).collect();
        assert_eq!(found, [&ids[0]], "{page}");
        assert_eq!(
            (&page["search"]["looked_at"], &page["search"]["of"]),
            (&json!(1), &json!(null))
        );
    }
    for (key, jobs) in [(&some, 1), (&all, 2)] {
        let summary = keyed.send(key, "GET", "/jobs/summary?by=customer").await.json();
        let counts = json!([summary["jobs"], summary["values"][0]["jobs"]]);
        assert_eq!(counts, json!([jobs, jobs]), "{summary}");
    }
}

#[tokio::test]
async fn an_invalid_label_is_named() {
    let (_stack, api) = api_without_workers().await;
    let long = format!("metadata.a={}", "x".repeat(1025));
    let long_name = format!("metadata.{}=a", "x".repeat(65));
    for (query, name) in [
        ("metadata=customer", "metadata"),
        ("metadata.=a", "metadata."),
        (long.as_str(), "metadata.a"),
        (long_name.as_str(), long_name.trim_end_matches("=a")),
        ("metadata.a=b&metadata.a=c", "metadata.a"),
        ("search=scan", "search"),
        ("search=fast&metadata.a=b", "search"),
        ("metadata.a=b&cursor=aW5kZXgvMDAxMTIyMzNhYWJiY2NkZC8x", "cursor"),
    ] {
        let answer = api.get(&format!("/jobs?{query}")).await;
        let problem = expect_problem(&api, &answer, 400, "invalid-parameter").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("{name}: ")), "{query}: {problem}");
    }
    let unknown = api.get("/jobs?metadata.nobody.has=this").await.json();
    assert_eq!(unknown["items"], json!([]));
}

#[tokio::test]
async fn a_summary_counts_failures_by_a_label_and_says_how_much_it_read() {
    let mut stack = Stack::start();
    let (api, _worker) = start(&mut stack).await;
    let mut ids = Vec::new();
    for customer in ["acme", "acme", "<b>"] {
        ids.push(fail(&api, "orders", &json!({ "customer": customer })).await);
    }
    fail(&api, "notes", &json!({})).await;
    let read = async |query: &str| api.get(&format!("/jobs/summary?{query}")).await.json();

    let all = read("status=failed&by=customer").await;
    assert_eq!((&all["jobs"], &all["more"]), (&json!(4), &json!(false)), "{all}");
    let values = all["values"].as_array().unwrap();
    let counts: Vec<_> = values.iter().map(|it| json!([it["value"], it["jobs"]])).collect();
    assert_eq!(counts, [json!(["acme", 2]), json!([null, 1]), json!(["<b>", 1])]);
    let failure = &values[0]["failures"][0];
    assert_eq!((&failure["jobs"], &failure["error"]["task"]), (&json!(2), &json!("orders")));
    assert!(failure["error"]["message"].as_str().unwrap().contains("no license"), "{failure}");
    let slowest = all["slowest"].as_array().unwrap();
    let took = |job: &Value| {
        let time = |name: &str| job[name].as_str().unwrap().parse::<Timestamp>().unwrap();
        time("started_at").until(time("finished_at"))
    };
    assert!(slowest.len() == 4 && slowest.is_sorted_by_key(|job| Reverse(took(job))), "{all}");

    let one = read("status=failed&task=orders&metadata.customer=acme&by=customer&limit=1").await;
    assert_eq!((&one["jobs"], &one["more"]), (&json!(1), &json!(true)), "{one}");
    let kind = failure["error"]["id"].as_str().unwrap();
    assert_eq!(read(&format!("error={kind}")).await["failures"][0]["jobs"], 3);
    assert_eq!(read("status=queued").await["jobs"], 0);
    for wrong in ["limit=0", "limit=5001", "by=", "sort=duration", "cursor=x"] {
        let answer = api.get(&format!("/jobs/summary?{wrong}")).await;
        expect_problem(&api, &answer, 400, "invalid-parameter").await;
    }
    for wrong in ["/jobs/summary?queue=none", "/jobs/summary/x"] {
        expect_problem(&api, &api.get(wrong).await, 404, "not-found").await;
    }
    assert_shown(&api, kind, &all["slowest"][0]).await;
}

/// Checks that the dashboard shows the failed orders by customer, and the job that ran longest.
async fn assert_shown(api: &Api, kind: &str, slowest: &Value) {
    let mut browser = Browser::of(api);
    let errors = browser.open("/dashboard/errors?task=orders").await;
    let link = "/dashboard/jobs?status=failed&#38;by=customer&#38;task=orders";
    assert!(errors.contains(link), "{errors}");
    let page = browser.open(&link.replace("&#38;", "&")).await;
    assert!(page.contains("All 3 jobs of the list were read"), "{page}");
    let of_acme = "status=failed&#38;task=orders&#38;metadata%2Ecustomer=acme";
    for shown in [
        format!("<a href=\"/dashboard/jobs?{of_acme}\">acme</a></th><td class=\"number\">2</td>"),
        format!("<a href=\"/dashboard/jobs?{of_acme}&#38;error={kind}\">"),
        "&#60;b&#62;</a>".to_owned(),
    ] {
        assert!(page.contains(&shown), "{shown}: {page}");
    }
    let page = browser.open("/dashboard/jobs?status=failed&sort=duration").await;
    let first = format!("<tr id=\"job-{}\"", slowest["id"].as_str().unwrap());
    let row = page.find("<tr id=\"job-").unwrap();
    assert!(page[row..].starts_with(&first), "{page}");
}
