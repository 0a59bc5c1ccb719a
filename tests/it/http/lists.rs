//! Lists: filters, pages, cursors.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crunch_tests::Api;
use serde_json::{Value, json};

use super::{api_without_workers, expect_problem};

/// Reads a list by its links; every page must be valid.
async fn walk(api: &Api, query: &str) -> Vec<Value> {
    let (mut path, mut items) = (format!("/jobs?{query}"), Vec::new());
    loop {
        let page = api.get(&path).await;
        assert_eq!(
            (page.status.as_u16(), page.header("cache-control")),
            (200, "no-store"),
            "{path}: {page:?}"
        );
        let document = page.json();
        items.extend(document["items"].as_array().unwrap().iter().cloned());
        let Some(cursor) = document["next_cursor"].as_str() else {
            assert_eq!(page.header("link"), "");
            return items;
        };
        let link = page
            .header("link")
            .strip_prefix('<')
            .and_then(|link| link.strip_suffix(">; rel=\"next\""));
        path = link.unwrap().to_owned();
        assert!(
            path.starts_with("/jobs?")
                && path.contains(&cursor.replace('-', "%2D").replace('_', "%5F")),
            "{path}"
        );
    }
}

fn ids(items: &[Value]) -> HashSet<&str> {
    items.iter().map(|job| job["id"].as_str().unwrap()).collect()
}

/// 250 jobs: queued, scheduled and canceled, of three tasks in six queues.
async fn submit_many(api: &Api) -> Vec<Value> {
    let job = |at: usize| {
        let mut job = json!({ "task": format!("t{}", at % 3), "payload": at });
        if at.is_multiple_of(2) {
            job["queue"] = json!(format!("lane.{}", at % 5));
        }
        match at % 7 {
            0 | 1 => job["delay_ms"] = json!(3_600_000 + 1000 * (at % 4)),
            2 => job["priority"] = json!("high"),
            _ => {}
        }
        job
    };
    let batch = json!({ "jobs": (0..250).map(job).collect::<Vec<_>>() });
    let answer = api.post("/jobs/batch", &batch).await.json();
    let jobs: Vec<_> =
        answer["items"].as_array().unwrap().iter().map(|item| item["job"].clone()).collect();
    for job in jobs.iter().step_by(3) {
        api.post_empty(&format!("/jobs/{}/cancel", job["id"].as_str().unwrap())).await;
    }
    jobs
}

#[tokio::test]
async fn every_job_is_listed_exactly_once_at_any_page_size() {
    let (_stack, api) = api_without_workers().await;
    let jobs = submit_many(&api).await;
    for limit in [1, 7, 20, 99, 100] {
        let listed = walk(&api, &format!("limit={limit}")).await;
        assert_eq!((listed.len(), ids(&listed)), (250, ids(&jobs)), "limit {limit}");
        // An id begins with the time.
        let id = |job: &Value| job["id"].as_str().unwrap().to_owned();
        assert!(listed.is_sorted_by(|one, other| id(one) > id(other)), "the newest are first");

        let listed = walk(&api, &format!("queue=lane.2&limit={limit}")).await;
        let statuses: Vec<_> = listed.iter().map(|job| job["status"].as_str().unwrap()).collect();
        let first = |status: &str| statuses.iter().position(|&it| it == status);
        assert!(first("scheduled") < first("queued") && first("queued") < first("canceled"));
        assert!(statuses.is_sorted_by_key(|&status| first(status)), "jobs are grouped by status");
    }
}

#[tokio::test]
async fn filters_select_and_combine() {
    let (_stack, api) = api_without_workers().await;

    submit_many(&api).await;
    let all = walk(&api, "limit=100").await;
    assert!(all.iter().all(|job| job["result"].is_null() && job.as_object().unwrap().len() == 31));
    let expected = |matches: &dyn Fn(&Value) -> bool| -> HashSet<String> {
        let selected = all.iter().filter(|job| matches(job));
        selected.map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    let selected = async |query: &str| -> HashSet<String> {
        let items = walk(&api, &format!("{query}&limit=9")).await;
        let ids: HashSet<_> =
            items.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), items.len(), "{query}");
        ids
    };
    assert_eq!(selected("status=canceled").await, expected(&|job| job["status"] == "canceled"));
    assert_eq!(selected("task=t1").await, expected(&|job| job["task"] == "t1"));
    assert_eq!(
        selected("status=scheduled&task=t2").await,
        expected(&|job| job["status"] == "scheduled" && job["task"] == "t2")
    );
    for status in ["scheduled", "queued", "canceled"] {
        let both = expected(&|job| job["status"] == status && job["queue"] == "lane.2");
        assert_eq!(selected(&format!("status={status}&queue=lane.2")).await, both);
    }
    let in_lane_2 = expected(&|job| job["queue"] == "lane.2");
    for limit in 1..9 {
        let items = walk(&api, &format!("queue=lane.2&limit={limit}")).await;
        assert_eq!(ids(&items), in_lane_2.iter().map(String::as_str).collect(), "limit {limit}");
        assert_eq!(items.len(), in_lane_2.len(), "limit {limit}");
    }
    for none in ["status=running", "status=retrying", "status=failed", "task=none"] {
        assert!(selected(none).await.is_empty(), "{none}");
    }
}

#[tokio::test]
async fn a_list_is_limited_by_creation_times() {
    let (_stack, api) = api_without_workers().await;
    api.submit("t", &json!(1)).await;
    for (query, count) in [
        ("created_after=2020-01-01T00:00:00Z", 1),
        ("created_before=2020-01-01T00:00:00Z", 0),
        ("created_after=9000-01-01T00:00:00Z", 0),
        ("finished_after=2020-01-01T00:00:00Z", 0),
        ("finished_before=9000-01-01T00:00:00Z", 0),
        ("created_before=9000-01-01T00:00:00%2B01:00", 1),
        ("created_after=2020-01-01T00:00:00Z&created_before=9000-01-01T00:00:00Z", 1),
    ] {
        assert_eq!(walk(&api, query).await.len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_list_is_limited_by_when_jobs_ended() {
    let (_stack, api) = api_without_workers().await;
    let canceled = api.submit("t", &json!(1)).await;
    api.submit("t", &json!(2)).await;
    api.post_empty(&format!("/jobs/{canceled}/cancel")).await;
    for (query, count) in [
        ("finished_after=2020-01-01T00:00:00Z", 1),
        ("finished_after=2020-01-01T00:00:00Z&status=canceled", 1),
        ("finished_after=9000-01-01T00:00:00Z", 0),
        ("finished_before=9000-01-01T00:00:00Z", 1),
        ("finished_before=2020-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(walk(&api, query).await.len(), count, "{query}");
    }
}

#[tokio::test]
async fn an_invalid_filter_is_named() {
    let (_stack, api) = api_without_workers().await;

    for (query, name) in [
        ("status=done", "status"),
        ("status=", "status"),
        ("task=A", "task"),
        ("queue=a%20b", "queue"),
        ("created_after=yesterday", "created_after"),
        ("finished_before=yesterday", "finished_before"),
        ("created_before=2026-11-24", "created_before"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=!", "cursor"),
        ("status=queued&status=failed", "status"),
        ("queue=%ff", "queue"),
    ] {
        let answer = api.get(&format!("/jobs?{query}")).await;
        let problem = expect_problem(&api, &answer, 400, "invalid-parameter").await;
        assert!(
            problem["detail"].as_str().unwrap().starts_with(&format!("{name}: ")),
            "{query}: {problem}"
        );
    }
}

#[tokio::test]
async fn a_cursor_that_was_tampered_with_is_refused() {
    let (_stack, api) = api_without_workers().await;

    submit_many(&api).await;
    let page = api.get("/jobs?status=queued&limit=5").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap();
    // The second part is the partition.
    let in_partition = |partition: &str| {
        let parts = text.split('/').enumerate();
        let parts = parts.map(|(at, part)| if at == 1 { partition } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    let forged = [
        format!("{text}/"),
        text.replace("queued", "gone"),
        text.replace('/', "-"),
        format!("../{text}"),
        in_partition("4096"),
        in_partition("-1"),
        String::new(),
    ];
    let encoded = forged.iter().map(|text| URL_SAFE_NO_PAD.encode(text));
    // A page that ended before the first queue of a partition could be of the list of any queue.
    let has_queue = !text.split('/').nth(2).unwrap().is_empty();
    let of_a_queue = has_queue.then(|| format!("{cursor}&status=queued&queue=none"));
    let other_lists = [format!("{cursor}&status=failed")].into_iter().chain(of_a_queue);
    for cursor in encoded
        .chain([format!("{cursor}="), format!("{cursor}A"), cursor[1..].to_owned()])
        .chain(other_lists)
    {
        let answer = api.get(&format!("/jobs?cursor={cursor}")).await;
        let problem = expect_problem(&api, &answer, 400, "invalid-parameter").await;
        assert!(problem["detail"].as_str().unwrap().starts_with("cursor: "), "{problem}");
    }

    assert_eq!(api.get(&format!("/jobs?status=queued&cursor={cursor}")).await.status.as_u16(), 200);
}
