//! Jobs that are unique: the form, what pages say of them, and what is refused.

use crunch_tests::{Answer, Api, Stack, Stage, Worker, eventually};
use serde_json::json;

use super::browser::{Browser, tags, text};

const NEW: &str = "/dashboard/jobs/new";

/// Jobs of `echo` wait.
async fn paused() -> (Stack, Api, Worker, Browser) {
    let (stack, api, worker) = Stack::simple(1).await;
    api.post_empty("/queues/echo/pause").await;
    let browser = Browser::of(&api);
    (stack, api, worker, browser)
}

/// Submits a job of `echo` with the form.
async fn submit(browser: &mut Browser, payload: &str, typed: &[(&str, &str)]) -> Answer {
    let page = browser.open(&format!("{NEW}?task=echo")).await;
    let typed = [&[("task", "echo"), ("payload", payload)], typed].concat();
    browser.send_form(&page, NEW, &typed).await
}

/// Whether a page has this choice selected.
fn has_selected(page: &str, value: &str) -> bool {
    tags(page).iter().any(|tag| tag.get("value") == Some(value) && tag.get("selected").is_some())
}

#[tokio::test]
async fn a_submission_leads_to_the_job_that_holds_the_lock() {
    let (_stack, api, _worker, mut browser) = paused().await;
    let fields = [("unique.by", "fields"), ("unique.of", "/customer\r\n/day\r\n")];
    let until_start = [&fields[..], &[("unique.until", "start")]].concat();
    let first = submit(&mut browser, r#"{"customer": 1, "x": 1}"#, &until_start).await;
    assert_eq!(first.status.as_u16(), 303, "{}", text(&first));
    let path = first.header("location").to_owned();
    let id = path.strip_prefix("/dashboard/jobs/").unwrap();
    assert_eq!(api.job(id).await["unique"]["fields"], json!(["/customer", "/day"]));
    let page = browser.open(&path).await;
    let words = "<dt>Unique</dt><dd>by /customer and /day until it starts; another one is answered with it</dd>";
    assert!(page.contains(words) && !page.contains("No job was created"), "{page}");

    let again = submit(&mut browser, r#"{"x": 2, "customer": 1.0}"#, &fields).await;
    let existing = format!("{path}?existing=unchanged");
    assert_eq!((again.status.as_u16(), again.header("location")), (303, existing.as_str()));
    let page = browser.open(&existing).await;
    assert!(
        page.contains("role=\"status\">No job was created: this one holds the lock."),
        "{page}"
    );

    let reject = [&fields[..], &[("unique.on_conflict", "reject")]].concat();
    let refused = submit(&mut browser, r#"{"customer": 1}"#, &reject).await;
    let page = text(&refused);
    assert!(page.contains(&format!("job {id} holds its lock")), "{page}");
    assert!(has_selected(&page, "fields") && has_selected(&page, "reject"), "{page}");
    assert!(page.contains("\n/customer\r\n/day\r\n</textarea>"), "{page}");

    let replace = [&fields[..], &[("unique.on_conflict", "replace")]].concat();
    let replaced = submit(&mut browser, r#"{"customer": 1, "x": 3}"#, &replace).await;
    let existing = format!("{path}?existing=replaced");
    assert_eq!(replaced.header("location"), existing);
    assert!(browser.open(&existing).await.contains("now the payload and the options that were"));
    let payload = api.get(&format!("/jobs/{id}/payload")).await;
    assert_eq!(payload.body, &br#"{"customer": 1, "x": 3}"#[..]);
}

#[tokio::test]
async fn the_form_for_a_similar_job_has_what_the_job_is_unique_by() {
    let (_stack, api, _worker, mut browser) = paused().await;
    let key = json!({ "key": "a\"b", "for_ms": 3_600_000, "on_conflict": "reject" });
    let fields = json!({ "fields": ["/a", "/b,c"], "on_conflict": "replace", "max_wait_ms": 5000 });
    for (unique, selected, shown) in [
        (key, &["key", "reject"][..], &["\na&#34;b</textarea>", "value=\"3600000\""][..]),
        (fields, &["fields", "replace", "start"], &["\n/a\n/b,c</textarea>", "value=\"5000\""]),
        (json!({}), &["payload", "existing", "end"], &["<details open><summary>Unique"]),
    ] {
        let id = api.submit_with("echo", &json!({ "a": 1 }), &json!({ "unique": unique })).await;
        let page = browser.open(&format!("{NEW}?from={id}")).await;
        assert!(selected.iter().all(|value| has_selected(&page, value)), "{selected:?}: {page}");
        assert!(shown.iter().all(|text| page.contains(text)), "{shown:?}: {page}");
    }
    let id = api.submit("echo", &json!({ "a": 2 })).await;
    let page = browser.open(&format!("{NEW}?from={id}")).await;
    assert!(page.contains("<details><summary>Unique") && !has_selected(&page, "payload"), "{page}");
}

#[tokio::test]
async fn what_makes_no_lock_is_reported_with_its_place() {
    let (_stack, _api, _worker, mut browser) = paused().await;
    for (typed, place) in [
        (&[("unique.of", "k")][..], "/unique: choose what"),
        (&[("unique.max_wait_ms", "5")], "/unique: choose what"),
        (
            &[("unique.by", "payload"), ("unique.of", "k")],
            "/unique: the whole payload needs no key",
        ),
        (&[("unique.by", "else")], "/unique: expected payload, key or fields"),
        (&[("unique.by", "key")], "/unique/key: expected 1 to 255 bytes"),
        (&[("unique.by", "key"), ("unique.of", "a\r\nb")], "/unique/key: expected 1 to 255 bytes"),
        (&[("unique.by", "fields")], "/unique/fields: expected 1 to 16"),
        (&[("unique.by", "fields"), ("unique.of", "a")], "/unique/fields: expected a JSON Pointer"),
        (&[("unique.by", "payload"), ("unique.for_ms", "soon")], "/unique/for_ms: expected whole"),
        (
            &[("unique.by", "payload"), ("unique.for_ms", "5"), ("unique.until", "end")],
            "/unique/for_ms: excludes until",
        ),
        (
            &[("unique.by", "payload"), ("unique.on_conflict", "replace"), ("delay_ms", "5")],
            "/unique/max_wait_ms: is needed with a delay",
        ),
        (&[("unique.by", "fields"), ("unique.of", "/n")], "beyond 2^53"),
    ] {
        let answer = submit(&mut browser, "{\"n\": 9007199254740993}", typed).await;
        let page = text(&answer);
        assert_eq!(answer.status.as_u16(), 422, "{typed:?}: {page}");
        assert!(page.contains(place), "{typed:?}: {page}");
    }
}

#[tokio::test]
async fn a_job_that_waits_for_the_holder_of_its_lock_links_to_it() {
    let (_stack, api, _worker) = Stack::simple(2).await;
    let (stage, mut browser) = (Stage::open().await, Browser::of(&api));
    let unique = json!({ "unique": { "key": "k", "on_conflict": "keep_latest" } });
    let holder = api.submit_with("act", &stage.payload(), &unique).await;
    let actor = stage.wait_for_handler().await;
    let waits = api.submit_with("act", &stage.payload(), &unique).await;
    let page = browser.open(&format!("/dashboard/jobs/{waits}")).await;
    assert!(page.contains("it waits for the end of the job that holds its lock"), "{page}");
    let link =
        format!("<dt>Holds its lock</dt><dd><a class=\"id\" href=\"/dashboard/jobs/{holder}\"");
    assert!(page.contains(&link), "{page}");
    let page = browser.open(&format!("/dashboard/jobs/{holder}")).await;
    assert!(!page.contains("Holds its lock"), "{page}");

    actor.returns(&json!(1)).await;
    let actor = stage.wait_for_handler().await;
    eventually("the page of the second job says that it runs", async || {
        let page = browser.open(&format!("/dashboard/jobs/{waits}")).await;
        (page.contains("badge running") && !page.contains("Holds its lock")).then_some(())
    })
    .await;
    actor.returns(&json!(2)).await;
}

/// The form was open when another job got the lock.
#[tokio::test]
async fn a_retry_without_the_lock_is_a_problem_with_a_page() {
    let (_stack, api, _worker, mut browser) = paused().await;
    let unique = json!({ "unique": {} });
    let canceled = api.submit_with("echo", &json!(1), &unique).await;
    api.post_empty(&format!("/jobs/{canceled}/cancel")).await;
    let path = format!("/dashboard/jobs/{canceled}");
    let page = browser.open(&path).await;
    let holder = api.submit_with("echo", &json!(1), &unique).await;
    assert_ne!(holder, canceled);
    let answer = browser.send_form(&page, &format!("{path}/retry"), &[]).await;
    let page = text(&answer);
    assert_eq!(answer.status.as_u16(), 409, "{page}");
    for shown in ["<h1>Another job holds the lock</h1>", &holder, "/problems/locked"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert_eq!(api.job(&canceled).await["status"], "canceled");
}

#[tokio::test]
async fn a_task_says_what_its_jobs_are_unique_by() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let tasks = stack.directory().join("tasks.toml");
    let declared = "[[task]]\nname = \"sync\"\ncommand = [\"true\"]\n\
                    unique = { fields = [\"/customer\"], for = \"10m\", on_conflict = \"reject\" }\n";
    std::fs::write(&tasks, declared).unwrap();
    let environment = [("CRUNCH_TASKS", tasks.to_str().unwrap())];
    let _worker = stack.worker_with(&api, 1, &environment).await;
    let mut browser = Browser::of(&api);
    let page = browser.open("/dashboard/tasks/sync").await;
    let words = "by /customer for 10\u{202f}min from its submission; another one is refused";
    assert!(page.contains(words), "{page}");
    assert!(!browser.open("/dashboard/tasks/echo").await.contains("<dt>Unique</dt>"));
}
