//! Error groups: what failed, by kind, and the jobs that did.

use std::collections::BTreeSet;

use crunch_tests::{Api, Stack, Worker, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::assert_problem;
use super::keys::ApiWithKeys;

/// Two tasks that fail, each with a message that differs in each job.
const TASKS: &str = r#"builtin = false
[[task]]
name = "orders"
command = ["sh", "-c", "echo \"order $$: no file '/tmp/$$'\" >&2; exit 3"]
max_attempts = 1
[[task]]
name = "licenses"
command = ["sh", "-c", "echo 'no license' >&2; exit 4"]
max_attempts = 1
"#;

/// Starts an API, and a worker whose tasks fail, and submits that many jobs of each.
async fn failed(stack: &mut Stack, orders: usize, licenses: usize) -> (Api, Worker) {
    let api = stack.api().await;
    let path = stack.directory().join("tasks.toml");
    std::fs::write(&path, TASKS).unwrap();
    let path = path.to_str().unwrap().to_owned();
    let worker = stack.worker_with(&api, 2, &[("CRUNCH_TASKS", &path)]).await;
    for (task, count) in [("orders", orders), ("licenses", licenses)] {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(api.submit(task, &json!({})).await);
        }
        for id in ids {
            api.wait_for_status(&id, "failed").await;
        }
    }
    (api, worker)
}

async fn groups(api: &Api, query: &str) -> Vec<Value> {
    api.get(&format!("/errors{query}")).await.json()["items"].as_array().unwrap().clone()
}

/// Every item of a list, by its links.
async fn all_pages(api: &Api, first: &str) -> Vec<Value> {
    let (mut path, mut items) = (first.to_owned(), Vec::new());
    loop {
        let page = api.get(&path).await;
        assert_eq!(page.status.as_u16(), 200, "{path}: {page:?}");
        items.extend(page.json()["items"].as_array().unwrap().iter().cloned());
        if page.json()["next_cursor"].is_null() {
            return items;
        }
        let link = page.header("link").to_owned();
        path = link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned();
    }
}

#[tokio::test]
async fn failures_of_one_kind_are_one_item_with_its_jobs() {
    let mut stack = Stack::start();
    let (api, _worker) = failed(&mut stack, 6, 3).await;
    let found = groups(&api, "").await;
    let count = |group: &Value| (group["task"].clone(), group["failures"].clone());
    let counts: Vec<_> = found.iter().map(count).collect();
    assert_eq!(
        counts,
        [(json!("licenses"), json!(3)), (json!("orders"), json!(6))],
        "newest first"
    );

    let group = &found[1];
    let id = group["id"].as_str().unwrap();
    assert_eq!(api.get(&format!("/errors/{id}")).await.json(), *group);
    assert_eq!((&group["queue"], &group["failed_jobs"]), (&json!("orders"), &json!(6)));
    assert_eq!(group["error"]["code"], "command_failed");
    assert!(group["error"]["message"].as_str().unwrap().contains("no file"), "{group}");
    assert!(group["first_at"].as_str() < group["last_at"].as_str(), "{group}");

    let jobs = all_pages(&api, &format!("/jobs?error={id}&limit=2")).await;
    let ids: BTreeSet<_> = jobs.iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!((jobs.len(), ids.len()), (6, 6));
    assert!(ids.contains(group["job"].as_str().unwrap()));
    for job in &jobs {
        assert_eq!((&job["task"], &job["error_group"]), (&json!("orders"), &json!(id)));
    }
    assert_eq!(group["links"]["self"], format!("/errors/{id}"));
    assert_eq!(group["links"]["jobs"], format!("/jobs?error={id}"));
    let with = |filter: &str| format!("/jobs?error={id}&{filter}");
    assert_eq!(all_pages(&api, &with("queue=orders&status=failed")).await.len(), 6);
    for nothing in ["status=succeeded", "task=licenses", "created_before=2000-01-01T00:00:00Z"] {
        assert_eq!(all_pages(&api, &with(nothing)).await, [] as [Value; 0], "{nothing}");
    }
    stack.assert_clean_audit().await;
}

#[tokio::test]
async fn lists_of_errors_are_filtered_and_paged() {
    let mut stack = Stack::start();
    let (api, _worker) = failed(&mut stack, 1, 1).await;
    let all = groups(&api, "").await;
    assert_eq!(all_pages(&api, "/errors?limit=1").await, all);
    for filter in ["task=orders", "queue=orders", "queue=orders&task=orders"] {
        assert_eq!(all_pages(&api, &format!("/errors?{filter}&limit=1")).await, all[1..]);
    }
    assert_eq!(groups(&api, "?task=orders&queue=licenses").await, [] as [Value; 0]);
    for unknown in ["/errors?queue=none", "/jobs?queue=none"] {
        assert_problem(&api.get(unknown).await, 404, "not-found");
    }
    let action = "/jobs/actions?action=retry&status=failed&queue=none";
    assert_problem(&api.post_empty(action).await, 404, "not-found");
    let id = all[0]["job"].as_str().unwrap();
    api.send(api.request(Method::DELETE, &format!("/jobs/{id}"))).await;
    assert_eq!(groups(&api, "?with_failed_jobs=false").await.len(), 2);
    let with_jobs = groups(&api, "?with_failed_jobs=true").await;
    assert_eq!(with_jobs.iter().map(|group| &group["id"]).collect::<Vec<_>>(), [&all[1]["id"]]);
    assert_problem(&api.get("/errors?with_failed_jobs=1").await, 400, "invalid-parameter");
    let page = api.get("/errors?task=orders&limit=1").await;
    assert!(page.header("link").contains("task=orders"), "{page:?}");

    let none = "/errors/00112233aabbccdd";
    assert_problem(&api.get(none).await, 404, "not-found");
    assert_problem(&api.get("/errors/Other").await, 404, "not-found");
    assert_eq!(all_pages(&api, "/jobs?error=00112233aabbccdd").await, [] as [Value; 0]);
    for wrong in ["/jobs?error=x", "/errors?task=A", "/errors?cursor=x", "/errors?limit=0"] {
        assert_problem(&api.get(wrong).await, 400, "invalid-parameter");
    }
}

#[tokio::test]
async fn a_job_leaves_its_kind_when_it_runs_again_or_is_deleted() {
    let mut stack = Stack::start();
    let (api, _worker) = failed(&mut stack, 0, 2).await;
    let group = groups(&api, "").await.remove(0);
    let id = group["id"].as_str().unwrap();
    let jobs = all_pages(&api, &format!("/jobs?error={id}")).await;
    let job = |at: usize| format!("/jobs/{}", jobs[at]["id"].as_str().unwrap());
    let deleted = api.send(api.request(Method::DELETE, &job(0))).await;
    assert_eq!(deleted.status.as_u16(), 204);
    let left = api.get(&format!("/errors/{id}")).await.json();
    assert_eq!((&left["failures"], &left["failed_jobs"]), (&json!(2), &json!(1)));
    assert_eq!(api.post_empty(&format!("{}/retry", job(1))).await.status.as_u16(), 202);
    // It fails again.
    let counted = async || {
        let group = api.get(&format!("/errors/{id}")).await.json();
        (group["failures"] == 3 && group["failed_jobs"] == 1).then_some(())
    };
    eventually("the job has failed again", counted).await;
}

#[tokio::test]
async fn a_key_for_some_queues_sees_only_their_failures() {
    let keyed = ApiWithKeys::start(&[]).await;
    let all = keyed.create_key(&["--scopes", "admin"]).await;
    let some = keyed.create_key(&["--scopes", "admin", "--queues", "mine"]).await;
    for queue in ["mine", "yours"] {
        // No worker runs it.
        let job = json!({ "task": "t", "queue": queue, "deadline_ms": 1 });
        assert_eq!(keyed.post(&all, "/jobs", &job).await.status.as_u16(), 202);
    }
    let list = async |key: &str, path: &str| {
        keyed.send(key, "GET", path).await.json()["items"].as_array().unwrap().clone()
    };
    let both = async || {
        let groups = list(&all, "/errors").await;
        (groups.len() == 2).then_some(groups)
    };
    let groups = eventually("both jobs have failed", both).await;
    let of = |queue: &str| groups.iter().find(|group| group["queue"] == queue).unwrap();
    assert_eq!(of("yours")["error"]["code"], "deadline_exceeded");
    assert_eq!(list(&some, "/errors").await, [of("mine").clone()]);
    for foreign in ["/errors?queue=yours", "/errors?queue=none"] {
        assert_problem(&keyed.send(&some, "GET", foreign).await, 404, "not-found");
    }

    let path = |queue: &str| format!("/errors/{}", of(queue)["id"].as_str().unwrap());
    assert_eq!(keyed.send(&some, "GET", &path("mine")).await.json(), *of("mine"));
    let (foreign, none) = (path("yours"), "/errors/00112233aabbccdd");
    for path in [foreign.as_str(), none] {
        assert_problem(&keyed.send(&some, "GET", path).await, 404, "not-found");
    }
    let jobs = |queue: &str| format!("/jobs?error={}", of(queue)["id"].as_str().unwrap());
    assert_eq!(list(&some, &jobs("mine")).await.len(), 1);
    assert_eq!(list(&some, &jobs("yours")).await, [] as [Value; 0]);
    assert_eq!(list(&all, &jobs("yours")).await.len(), 1);
}
