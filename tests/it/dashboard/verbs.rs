//! Every verb, sent with the form of its page.

use crunch_tests::{Api, Stack, Stage};
use serde_json::{Value, json};

use super::browser::{Browser, tags, text, unescaped};

async fn status_of(api: &Api, id: &str) -> String {
    api.job(id).await["status"].as_str().unwrap_or("gone").to_owned()
}

async fn accepting() -> (Stack, Api) {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    (stack, api)
}

#[tokio::test]
async fn a_job_is_canceled_retried_and_deleted() {
    let (_stack, api) = accepting().await;
    let id = api.submit("t", &json!(1)).await;
    let mut browser = Browser::of(&api);
    let job = format!("/dashboard/jobs/{id}");

    for (verb, status) in [("cancel", "canceled"), ("retry", "queued"), ("cancel", "canceled")] {
        let page = browser.open(&job).await;
        let answer = browser.send_form(&page, &format!("{job}/{verb}"), &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, job.as_str()));
        assert_eq!(status_of(&api, &id).await, status);
    }
    let page = browser.open(&job).await;
    let answer = browser.send_form(&page, &format!("{job}/delete"), &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/dashboard/jobs"));
    let gone = browser.get(&job).await;
    assert!(gone.status.as_u16() == 410 && text(&gone).contains("The job was deleted"));
    // A form that was open in another tab.
    let again = browser.send_form(&page, &format!("{job}/delete"), &[]).await;
    assert!(again.status.as_u16() == 410 && text(&again).contains("<h1>"));
}

#[tokio::test]
async fn a_queue_is_paused_resumed_and_purged() {
    let (_stack, api) = accepting().await;
    let ids = [api.submit("t", &json!(1)).await, api.submit("t", &json!(2)).await];
    let mut browser = Browser::of(&api);

    for (verb, paused) in [("pause", true), ("resume", false)] {
        let page = browser.open("/dashboard/queues").await;
        let answer = browser.send_form(&page, &format!("/dashboard/queues/t/{verb}"), &[]).await;
        assert_eq!(answer.header("location"), "/dashboard/queues/t");
        assert_eq!(api.get("/queues/t").await.json()["paused"], paused);
        assert_eq!(browser.open("/dashboard/queues/t").await.contains(">paused<"), paused);
    }
    assert!(browser.open("/dashboard/queues/t").await.contains("/dashboard/queues/t/purge"));
    let asked = browser.open("/dashboard/queues/t/purge").await;
    assert!(asked.contains("<strong>2</strong>"), "{asked}");
    let answer = browser.send_form(&asked, "/dashboard/queues/t/purge", &[]).await;
    assert_eq!(answer.status.as_u16(), 303);
    for id in &ids {
        assert_eq!(status_of(&api, id).await, "canceled");
    }
}

#[tokio::test]
async fn the_rule_of_a_group_is_set_corrected_and_removed() {
    let (_stack, api) = accepting().await;
    let group = "acme \"& sons\"/ä";
    api.submit_with("t", &json!(1), &json!({ "group": group })).await;
    let mut browser = Browser::of(&api);
    let queue = browser.open("/dashboard/queues/t").await;
    assert!(queue.contains("href=\"/dashboard/queues/t/groups\">1</a>"), "{queue}");
    let list = browser.open("/dashboard/queues/t/groups").await;
    assert!(list.contains("takes turns") && list.contains("(not its own)"), "{list}");
    let link = tags(&list).into_iter().find_map(|tag| {
        let link = tag.get("href")?;
        link.starts_with("/dashboard/queues/t/rule?group=").then(|| unescaped(link))
    });
    let form = link.unwrap();
    let action = "/dashboard/queues/t/rule";

    let asked = browser.open(&form).await;
    let wrong = [("weight", "much"), ("starts", "5")];
    let refused = browser.send_form(&asked, action, &wrong).await;
    let refused_page = text(&refused);
    assert_eq!(refused.status.as_u16(), 422);
    for expected in ["/weight: expected a number", "/rate/per_ms: is missing", "value=\"much\""] {
        assert!(refused_page.contains(expected), "{expected}: {refused_page}");
    }
    let rule = [
        ("weight", "2.5"),
        ("concurrency", "3"),
        ("starts", "5"),
        ("per_ms", "1000"),
        ("max_queued", "9"),
    ];
    // The form that is shown again has what was typed.
    let set = browser.send_form(&refused_page, action, &rule).await;
    assert_eq!((set.status.as_u16(), set.header("location")), (303, "/dashboard/queues/t/groups"));
    let shown = api.get("/queues/t/groups").await.json()["items"][0].clone();
    assert_eq!((&shown["name"], &shown["own_rule"]), (&json!(group), &json!(true)));
    assert_eq!(shown["rate"], json!({ "starts": 5, "per_ms": 1000, "burst": 1 }));
    let list = browser.open("/dashboard/queues/t/groups").await;
    assert!(list.contains("weight 2.5, at most 3 running, 5 starts in"), "{list}");
    let actions = browser.open("/dashboard/actions").await;
    assert!(actions.contains("set-group-rule") && actions.contains("acme"), "{actions}");

    let each = browser.open("/dashboard/queues/t/rule?each=1").await;
    browser.send_form(&each, action, &[("concurrency", "7")]).await;
    assert_eq!(api.get("/queues/t/groups").await.json()["each"]["concurrency"], 7);
    for (form, page) in [(form.as_str(), "own"), ("/dashboard/queues/t/rule?each=1", "each")] {
        let asked = browser.open(form).await;
        let removed = browser.send_form(&asked, action, &[("remove", "1")]).await;
        assert_eq!(removed.status.as_u16(), 303, "{page}");
    }
    let page = api.get("/queues/t/groups").await.json();
    assert_eq!((&page["each"], &page["items"][0]["own_rule"]), (&Value::Null, &json!(false)));
    let nameless = browser.open("/dashboard/queues/t/rule").await;
    let refused = browser.send_form(&nameless, action, &[("weight", "2")]).await;
    assert!(refused.status.as_u16() == 422 && text(&refused).contains("/group: expected 1 to 128"));
}

#[tokio::test]
async fn a_job_whose_group_waits_says_so() {
    let (_stack, api, _worker) = Stack::simple(3).await;
    let (stage, mut browser) = (Stage::open().await, Browser::of(&api));
    for (group, rule, reason) in [
        ("blocked", json!({ "concurrency": 1 }), "as many jobs of its group run as may"),
        (
            "delayed",
            json!({ "rate": { "starts": 1, "per_ms": 86_400_000 } }),
            "the rate of its group allows",
        ),
    ] {
        let path = format!("/queues/act/groups/{group}");
        let set = api.request(reqwest::Method::PUT, &path).json(&rule);
        assert_eq!(api.send(set).await.status, 200);
        let options = json!({ "group": group });
        let first = api.submit_with("act", &stage.payload(), &options).await;
        api.wait_for_status(&first, "running").await;
        let waits = api.submit_with("act", &stage.payload(), &options).await;
        let page = crunch_tests::eventually("the page says why it waits", async || {
            let page = browser.open(&format!("/dashboard/jobs/{waits}")).await;
            page.contains(reason).then_some(page)
        })
        .await;
        assert!(
            page.contains(&format!("<a href=\"/dashboard/queues/act/groups\">{group}</a>")),
            "{page}"
        );
    }
    let groups = browser.open("/dashboard/queues/act/groups").await;
    assert!(groups.contains("waits for its rate") && groups.contains("waits for the end of a job"));
}

#[tokio::test]
async fn many_jobs_are_changed_only_after_their_number_was_typed() {
    let (_stack, api) = accepting().await;
    let jobs: Vec<Value> = (0..150).map(|_| json!({ "task": "t" })).collect();
    let answer = api.post("/jobs/batch", &json!({ "jobs": jobs })).await;
    assert_eq!(answer.status.as_u16(), 202);
    api.submit("other", &json!(1)).await;
    let mut browser = Browser::of(&api);
    let list = browser.open("/dashboard/jobs?status=queued&task=t").await;
    let confirm = "/dashboard/jobs/actions?status=queued&task=t&action=cancel";
    assert!(list.contains(&confirm.replace('&', "&#38;")), "{list}");
    let asked = browser.open(confirm).await;
    assert!(asked.contains("<strong>150</strong> jobs"), "{asked}");
    let action = "/dashboard/jobs/actions";

    for typed in [&[][..], &[("typed", "")], &[("typed", "149")], &[("typed", "all")]] {
        let refused = browser.send_form(&asked, action, typed).await;
        assert_eq!(refused.status.as_u16(), 400, "{typed:?}");
    }
    assert_eq!(api.get("/queues/t").await.json()["counts"]["queued"], 150);
    let done = browser.send_form(&asked, action, &[("typed", "150")]).await;
    assert!(text(&done).contains("Canceled: 150 jobs"), "{}", text(&done));
    assert_eq!(api.get("/queues/t").await.json()["counts"]["queued"], 0);
    assert_eq!(api.get("/queues/other").await.json()["counts"]["queued"], 1);

    // Few jobs need no typing.
    let asked =
        browser.open("/dashboard/jobs/actions?status=queued&queue=other&action=cancel").await;
    assert!(asked.contains("<strong>1</strong> job.") && !asked.contains("name=\"typed\""));
    let done = browser.send_form(&asked, action, &[]).await;
    assert!(text(&done).contains("Canceled: 1 job<"), "{}", text(&done));
}

/// A page that was open for long may show a number that is not true any more.
#[tokio::test]
async fn no_more_jobs_are_changed_than_were_confirmed() {
    let (_stack, api) = accepting().await;
    let submit = async |count: usize| {
        let jobs: Vec<Value> = (0..count).map(|_| json!({ "task": "t" })).collect();
        api.post("/jobs/batch", &json!({ "jobs": jobs })).await;
    };
    submit(3).await;
    let mut browser = Browser::of(&api);
    let asked = browser.open("/dashboard/jobs/actions?status=queued&task=t&action=cancel").await;
    assert!(asked.contains("<strong>3</strong> jobs"), "{asked}");
    submit(200).await;

    let done = text(&browser.send_form(&asked, "/dashboard/jobs/actions", &[]).await);
    assert!(done.contains("Canceled: 3 jobs"), "{done}");
    assert!(done.contains("More jobs match now") && !done.contains("Go on"), "{done}");
    assert_eq!(api.get("/queues/t").await.json()["counts"]["queued"], 200);
}

#[tokio::test]
async fn one_kind_of_errors_is_retried_from_its_row() {
    let (_stack, api, _worker) = Stack::simple(4).await;
    for payload in [json!({}), json!({ "m": 1 }), json!({ "m": 2 })] {
        let id = api.submit("square", &payload).await;
        api.wait_for_status(&id, "failed").await;
    }
    let mut browser = Browser::of(&api);
    let errors = browser.open("/dashboard/errors").await;
    let group = api.get("/errors").await.json()["items"][0].clone();
    let confirm = format!("action=retry&amp;error={}", group["id"].as_str().unwrap());
    assert!(errors.contains(&confirm) && errors.contains("payload_invalid"), "{errors}");

    let failed = group["failed_jobs"].as_u64().unwrap();
    let path = format!("/dashboard/jobs/actions?{}", confirm.replace("&amp;", "&"));
    let asked = browser.open(&path).await;
    assert!(asked.contains(&format!("<strong>{failed}</strong>")), "{asked}");
    assert!(asked.contains("payload_invalid of square"), "{asked}");
    let done = browser.send_form(&asked, "/dashboard/jobs/actions", &[]).await;
    assert!(text(&done).contains(&format!("Queued again: {failed} job")), "{}", text(&done));
}

#[tokio::test]
async fn a_job_is_submitted_and_submitted_again_with_changes() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let mut browser = Browser::of(&api);
    let new = "/dashboard/jobs/new";
    let page = browser.open("/dashboard/jobs/new?task=echo").await;
    let payload = "{\"big\": 12345678901234567890, \"text\": \"a&b <i>ü</i>\"}";

    let typed = [
        ("task", "echo"),
        ("payload", payload),
        ("priority", "high"),
        ("metadata", "order=17\r\n\r\ncustomer=a=b"),
    ];
    let answer = browser.send_form(&page, new, &typed).await;
    assert_eq!(answer.status.as_u16(), 303, "{}", text(&answer));
    let id = answer.header("location").strip_prefix("/dashboard/jobs/").unwrap().to_owned();
    let job = api.wait_for_status(&id, "succeeded").await;
    assert_eq!(job["priority"], "high");
    assert_eq!(job["metadata"], json!({ "order": "17", "customer": "a=b" }));
    assert_eq!(api.get(&format!("/jobs/{id}/payload")).await.body, payload.as_bytes());

    let page = browser.open(&format!("/dashboard/jobs/new?from={id}")).await;
    assert!(page.contains("12345678901234567890") && page.contains("order=17"), "{page}");
    let answer = browser.send_form(&page, new, &[("task", "echo"), ("payload", "[1]")]).await;
    let again = answer.header("location").strip_prefix("/dashboard/jobs/").unwrap().to_owned();
    assert_ne!(again, id);
    assert_eq!(api.wait_for_status(&again, "succeeded").await["result"], json!([1]));
}

#[tokio::test]
async fn a_form_that_is_not_valid_is_shown_again_with_the_reasons() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let mut browser = Browser::of(&api);
    let page = browser.open("/dashboard/jobs/new").await;
    for (typed, reason) in [
        (&[("task", "nope"), ("payload", "1")][..], "no worker ever declared"),
        (&[("task", "echo"), ("payload", "{")], "JSON"),
        (&[("task", "echo"), ("payload", "")], "JSON"),
        (&[("task", "crunch"), ("payload", "{\"photons\": 0, \"colour\": 1}")], "/photons"),
        (&[("task", "echo"), ("payload", "1"), ("delay_ms", "soon")], "delay_ms"),
        (&[("task", "echo"), ("payload", "1"), ("metadata", "no label")], "key=value"),
    ] {
        let answer = browser.send_form(&page, "/dashboard/jobs/new", typed).await;
        let html = text(&answer);
        assert_eq!(answer.status.as_u16(), 422, "{typed:?}");
        assert!(html.contains(reason) && html.contains(typed[0].1), "{typed:?}: {html}");
    }
}

#[tokio::test]
async fn bytes_are_submitted_again_as_they_were() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let request = api.request(reqwest::Method::POST, "/tasks/image.thumbnail/jobs");
    let image = b"\x89PNG no image";
    let request = request.header("content-type", "image/png").body(image.to_vec());
    let id = api.send(request).await.id();
    let mut browser = Browser::of(&api);

    let page = browser.open(&format!("/dashboard/jobs/new?from={id}")).await;
    let typed = [("task", "image.thumbnail")];
    let answer = browser.send_form(&page, "/dashboard/jobs/new", &typed).await;

    let again = answer.header("location").strip_prefix("/dashboard/jobs/").unwrap().to_owned();
    let payload = api.get(&format!("/jobs/{again}/payload")).await;
    assert_eq!((payload.header("content-type"), &payload.body[..]), ("image/png", &image[..]));
}

#[tokio::test]
async fn a_running_job_is_asked_to_stop() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    let mut browser = Browser::of(&api);
    let path = format!("/dashboard/jobs/{id}");

    let page = browser.open(&path).await;
    browser.send_form(&page, &format!("{path}/cancel"), &[]).await;

    actor.wait_for_stop_request().await;
    api.wait_for_status(&id, "canceled").await;
}

#[tokio::test]
async fn a_worker_is_quieted_resumed_and_stopped_and_all_is_in_the_log() {
    let (_stack, api, mut worker) = Stack::simple(1).await;
    let workers = api.get("/workers").await.json();
    let id = workers["items"][0]["id"].as_str().unwrap().to_owned();
    let mut browser = Browser::of(&api);
    let there = format!("/dashboard/workers#{id}");
    for verb in ["quiet", "resume", "stop"] {
        let page = browser.open("/dashboard/workers").await;
        let answer =
            browser.send_form(&page, &format!("/dashboard/workers/{id}/{verb}"), &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, there.as_str()));
    }
    assert!(worker.exited().await.success());
    let log = browser.open("/dashboard/actions").await;
    for verb in ["quiet", "resume", "stop"] {
        assert!(log.contains(&format!("<td>{verb}</td>")), "{log}");
    }
}

#[tokio::test]
async fn pages_show_the_last_hour() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let mut worker = stack.worker(&api, 1).await;
    let id = api.submit("square", &json!({ "n": 3 })).await;
    api.wait_for_status(&id, "succeeded").await;
    worker.terminate().await;
    let mut browser = Browser::of(&api);
    for (path, charts) in [
        ("/dashboard", &["attempts"][..]),
        ("/dashboard/queues/square", &["attempts"]),
        ("/dashboard/tasks/square", &["attempts", "durations"]),
    ] {
        let page = browser.open(path).await;
        for chart in charts {
            assert!(page.contains(&format!("id=\"{chart}-summary\"")), "{path}: {page}");
        }
    }
    let task = browser.open("/dashboard/tasks/square").await;
    assert!(task.contains("median about") && task.contains("The last day, by hour"), "{task}");
}

#[tokio::test]
async fn a_link_that_would_confirm_something_else_than_it_shows_is_refused() {
    let (_stack, api) = accepting().await;
    let mut browser = Browser::of(&api);
    for query in [
        "action=delete&status=canceled&limit=1",
        "action=delete&status=canceled&cursor=x",
        "action=retry&action=delete&status=canceled",
    ] {
        let answer = browser.get(&format!("/dashboard/jobs/actions?{query}")).await;
        assert_eq!(answer.status.as_u16(), 400, "{query}");
    }
}

#[tokio::test]
async fn jobs_are_filtered_by_a_label_and_the_page_says_at_how_many_it_looked() {
    let (_stack, api) = accepting().await;
    let batch: Vec<_> = (0..60)
        .map(|at| json!({ "task": "t", "metadata": { "customer": format!("<{}>", at % 2) } }))
        .collect();
    api.post("/jobs/batch", &json!({ "jobs": batch })).await;
    let mut browser = Browser::of(&api);
    // As the form sends it.
    let query = "status=queued&task=&queue=&error=&metadata=customer%3D%3C1%3E";
    let list = browser.open(&format!("/dashboard/jobs?{query}&limit=20")).await;
    assert!(list.contains("value=\"customer=&#60;1&#62;\""), "{list}");
    let looked_at = |page: &str| -> u64 {
        let (_, rest) = page.split_once("Looked at ").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let first = looked_at(&list);
    assert!((20..=60).contains(&first), "{list}");
    let (_, link) = list.split_once("<a rel=\"next\" href=\"").unwrap();
    let link = link.split_once('"').unwrap().0.replace("&#38;", "&").replace("&amp;", "&");
    let next = browser.open(&link).await;
    assert!(looked_at(&next) > first && looked_at(&next) <= 60, "{first}: {next}");

    let confirm = "status=queued&metadata%2Ecustomer=%3C1%3E&action=cancel";
    assert!(list.contains(&confirm.replace('&', "&#38;")), "{list}");
    let asked = browser.open(&format!("/dashboard/jobs/actions?{confirm}")).await;
    assert!(asked.contains("<strong>30</strong> jobs"), "{asked}");
    let done = browser.send_form(&asked, "/dashboard/jobs/actions", &[]).await;
    assert!(text(&done).contains("Canceled: 30 jobs"), "{}", text(&done));
    assert_eq!(api.get("/queues/t").await.json()["counts"]["queued"], 30);

    let found = api.get("/jobs?metadata.customer=%3C1%3E").await.json();
    let id = found["items"][0]["id"].as_str().unwrap();
    let job = browser.open(&format!("/dashboard/jobs/{id}")).await;
    assert!(job.contains("/dashboard/jobs?metadata%2Ecustomer=%3C1%3E"), "{job}");
    for wrong in ["metadata=customer", "metadata==x"] {
        let page = browser.open(&format!("/dashboard/jobs?{wrong}")).await;
        assert!(page.contains("class=\"failure\""), "{page}");
    }
}

#[tokio::test]
async fn kinds_of_errors_without_failed_jobs_can_be_left_out() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let id = api.submit("square", &json!({})).await;
    api.wait_for_status(&id, "failed").await;
    let mut browser = Browser::of(&api);
    let failed = "/dashboard/errors?with_failed_jobs=true";
    // Another URL: pages are kept for a second.
    let of_task = format!("{failed}&task=square");
    assert!(browser.open(&of_task).await.contains("payload_invalid"));
    api.send(api.request(reqwest::Method::DELETE, &format!("/jobs/{id}"))).await;
    assert!(browser.open("/dashboard/errors").await.contains("payload_invalid"));
    assert!(browser.open(failed).await.contains("No kind has failed jobs"));
}

/// Submits jobs of `square` that fail with two kinds of errors, and waits for their ends.
async fn fail_in_two_ways(api: &Api) {
    for payload in [json!({ "n": "one" }), json!({ "n": "two" }), json!(7)] {
        let id = api.submit_with("square", &payload, &json!({ "max_attempts": 1 })).await;
        api.wait_for_status(&id, "failed").await;
    }
}

#[tokio::test]
async fn a_question_shows_with_which_errors_the_jobs_failed() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    fail_in_two_ways(&api).await;
    let mut browser = Browser::of(&api);
    // Of the first the numbers are known, for the second the jobs are read.
    for filter in ["queue=square", "task=square"] {
        let query = format!("action=retry&status=failed&{filter}");
        let report = api.post_empty(&format!("/jobs/actions?{query}&dry_run=true")).await.json();
        let failures = report["failures"].as_array().unwrap();
        let jobs: Vec<_> = failures.iter().map(|it| it["jobs"].as_u64().unwrap()).collect();
        assert_eq!(jobs, [2, 1], "{report}");
        let asked = browser.open(&format!("/dashboard/jobs/actions?{query}")).await;
        for failure in failures {
            let (error, jobs) = (&failure["error"], &failure["jobs"]);
            let link = format!("/dashboard/jobs?error={}", error["id"].as_str().unwrap());
            let message = escaped_html(error["message"].as_str().unwrap());
            let row = format!("<td class=\"number\">{jobs}</td>");
            for shown in [&link, &message, &row] {
                assert!(asked.contains(shown), "{shown}: {asked}");
            }
        }
        assert!(!asked.contains("<td>others</td>"), "{asked}");
    }
}

fn escaped_html(text: &str) -> String {
    text.replace('&', "&#38;").replace('<', "&#60;").replace('"', "&#34;").replace('\'', "&#39;")
}

#[tokio::test]
async fn the_log_of_actions_is_filtered_and_names_kinds_of_errors() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    fail_in_two_ways(&api).await;
    let group = api.get("/errors").await.json()["items"][0].clone();
    let error = group["id"].as_str().unwrap();
    api.post_empty(&format!("/jobs/actions?action=delete&error={error}")).await;
    api.post_empty("/queues/square/pause").await;
    api.post_empty("/queues/echo/pause").await;
    let mut browser = Browser::of(&api);

    let rows = |page: &str| page.matches("<tr>").count().saturating_sub(1);
    for (query, count) in [
        ("", 3),
        ("?by=127.0.0.1&action=pause", 2),
        ("?action=pause&queue=echo&job=", 1),
        ("?queue=square", 2),
        ("?by=somebody", 0),
        ("?from=2026-01-01+00%3A00", 3),
        ("?to=2026-01-01+00%3A00%3A00", 0),
        (&format!("?error={error}"), 1),
    ] {
        let page = browser.open(&format!("/dashboard/actions{query}")).await;
        assert_eq!(rows(&page), count, "{query}: {page}");
        assert_eq!(page.contains("There are no such actions"), count == 0, "{page}");
    }
    let page = browser.open("/dashboard/actions").await;
    let code = group["error"]["code"].as_str().unwrap();
    let kind = format!("<a href=\"/dashboard/jobs?error={error}\">{code}</a> of square");
    assert!(page.contains(&kind) && !page.contains(&format!("error={error} ")), "{page}");
    let wrong = browser.get("/dashboard/actions?action=explode").await;
    assert_eq!(wrong.status.as_u16(), 400);
}
