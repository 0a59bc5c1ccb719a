//! Schedules: their pages, their verbs, and the form that creates and changes them.

use crunch_tests::{Answer, Api, Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::browser::{Browser, form, tags, text};
use crate::http::keys::ApiWithKeys;

const NEW: &str = "/dashboard/new-schedule";

async fn accepting() -> (Stack, Api, Browser) {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let browser = Browser::of(&api);
    (stack, api, browser)
}

fn yearly() -> Value {
    json!({ "task": "t", "cron": "0 0 1 1 *", "time_zone": "Europe/Berlin",
        "payload": { "<i>": 12345678901234567890_u64 }, "job": { "priority": "high" } })
}

async fn put(api: &Api, name: &str, schedule: &Value) -> Answer {
    let answer =
        api.send(api.request(Method::PUT, &format!("/schedules/{name}")).json(schedule)).await;
    assert!(answer.status.is_success(), "{answer:?}");
    answer
}

async fn actions(api: &Api) -> Vec<String> {
    let page = api.get("/actions").await.json();
    let all = page["items"].as_array().unwrap().iter();
    all.map(|it| it["action"].as_str().unwrap().to_owned()).collect()
}

/// What a person has in a form, with what is in its text areas and selections.
fn filled(changes: &[(&str, &str)]) -> Vec<(String, String)> {
    let all = [("task", "t"), ("missed", "once"), ("overlap", "skip"), ("payload", "{}")];
    let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    let kept = all.iter().filter(|(name, _)| !is_changed(name));
    kept.chain(changes).map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn send(browser: &mut Browser, page: &str, action: &str, changes: &[(&str, &str)]) -> Answer {
    let typed = filled(changes);
    let typed: Vec<_> = typed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    browser.send_form(page, action, &typed).await
}

#[tokio::test]
async fn schedules_are_listed_by_name_a_page_at_a_time() {
    let (_stack, api, mut browser) = accepting().await;
    assert!(browser.open("/dashboard/schedules").await.contains("There are no schedules here"));
    for number in 0..101 {
        let schedule = json!({ "task": "t", "every_ms": 600_000 });
        put(&api, &format!("s{number:03}"), &schedule).await;
    }
    put(&api, "new-year", &yearly()).await;
    let list = eventually("the page is made anew", async || {
        let list = browser.open("/dashboard/schedules").await;
        list.contains("id=\"schedule-s098\"").then_some(list)
    })
    .await;
    for expected in [
        "href=\"/dashboard/schedules/new-year\"",
        "<td class=\"wide\">0 0 1 1 *, Europe/Berlin</td>",
        "<td class=\"wide\">every 10 minutes</td>",
        "<span class=\"badge active\">active</span>",
        "-12-31T23:00:00.000Z",
        "<a href=\"/dashboard/schedules\" aria-current=\"page\">Schedules</a>",
    ] {
        assert!(list.contains(expected), "{expected}: {list}");
    }
    assert!(!list.contains("schedule-s099"), "the page has a hundred");
    assert!(list.contains("href=\"/dashboard/schedules?after=s098\""), "{list}");
    let rest = browser.open("/dashboard/schedules?after=s098").await;
    assert!(rest.contains("schedule-s099") && rest.contains("schedule-s100"), "{rest}");
    assert!(!rest.contains("schedule-s098") && !rest.contains("Next schedules"), "{rest}");
}

#[tokio::test]
async fn a_schedule_is_run_paused_resumed_and_removed() {
    let (_stack, api, mut browser) = accepting().await;
    put(&api, "s", &yearly()).await;
    let path = "/dashboard/schedules/s";
    let page = browser.open(path).await;
    for expected in [
        "0 0 1 1 *, Europe/Berlin",
        "12345678901234567890",
        "&#60;i&#62;",
        "priority",
        "one job for all that were missed",
        "a request without a key",
        "It has had no tick yet",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert_eq!(page.matches("-12-31T23:00:00.000Z").count(), 10, "{page}");

    let run = browser.send_form(&page, &format!("{path}/run"), &[]).await;
    let job = run.header("location").to_owned();
    assert_eq!(run.status.as_u16(), 303, "{}", text(&run));
    assert!(browser.open(&job).await.contains(&format!("<a href=\"{path}\">s</a>")));
    let page = browser.open(path).await;
    assert!(page.contains(&format!("href=\"{job}\"")) && page.contains("1 submitted"), "{page}");
    let busy = browser.send_form(&page, &format!("{path}/run"), &[]).await;
    assert!(busy.status.as_u16() == 409 && text(&busy).contains("has not ended"));

    for (verb, status) in [("pause", "paused"), ("resume", "active")] {
        let page = browser.open(path).await;
        let answer = browser.send_form(&page, &format!("{path}/{verb}"), &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, path));
        assert_eq!(api.get("/schedules/s").await.json()["status"], status);
        let page = browser.open(path).await;
        assert!(page.contains(&format!("badge {status}\">{status}</span>")), "{page}");
        assert_eq!(page.contains("requested: by a request"), status == "paused", "{page}");
        assert!(!browser.open("/dashboard").await.contains("not by a request"), "it was requested");
    }
    let page = browser.open(path).await;
    let answer = browser.send_form(&page, &format!("{path}/remove"), &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/dashboard/schedules"));
    assert_eq!(browser.get(path).await.status.as_u16(), 404);
    let done = ["delete", "resume", "pause", "run", "put"].map(|verb| format!("{verb}-schedule"));
    assert_eq!(actions(&api).await, done);
    let log = browser.open("/dashboard/actions").await;
    assert!(log.contains(&format!("schedule <a href=\"{path}\">s</a>")), "{log}");
}

#[tokio::test]
async fn a_schedule_is_created_and_changed_with_the_form() {
    let (_stack, api, mut browser) = accepting().await;
    let list = browser.open("/dashboard/schedules").await;
    assert!(list.contains(&format!("href=\"{NEW}\"")), "{list}");
    let page = browser.open(NEW).await;
    let changes = [
        ("name", "nightly"),
        ("cron", "30 2 * * *"),
        ("time_zone", "Europe/Berlin"),
        ("overlap", "buffer_one"),
        ("payload", "{\"big\": 12345678901234567890}"),
        ("job", "{\"priority\": \"high\"}"),
    ];
    let created = send(&mut browser, &page, NEW, &changes).await;
    let path = "/dashboard/schedules/nightly";
    assert_eq!(
        (created.status.as_u16(), created.header("location")),
        (303, path),
        "{}",
        text(&created)
    );
    let shown = api.get("/schedules/nightly").await;
    assert!(text(&shown).contains("{\"big\": 12345678901234567890}"), "as it was typed");
    let spec = shown.json()["spec"].clone();
    assert_eq!((&spec["cron"], &spec["overlap"]), (&json!("30 2 * * *"), &json!("buffer_one")));
    assert_eq!(spec["job"], json!({ "priority": "high" }));

    let again = send(&mut browser, &page, NEW, &[("name", "nightly"), ("every_ms", "1000")]).await;
    assert!(again.status.as_u16() == 412, "{}", text(&again));
    assert!(text(&again).contains("there is a schedule with this name already"));

    let change = format!("{path}/change");
    let page = browser.open(&change).await;
    let selected = |page: &str| page.contains("<option selected>buffer_one</option>");
    assert!(selected(&page) && page.contains("value=\"30 2 * * *\""), "{page}");
    let changes = [("cron", ""), ("time_zone", ""), ("every_ms", "90000"), ("overlap", "allow")];
    let changed = send(&mut browser, &page, &change, &changes).await;
    assert_eq!(changed.status.as_u16(), 303, "{}", text(&changed));
    assert!(browser.open(path).await.contains("every 90 seconds"));
    assert_eq!(actions(&api).await, ["put-schedule", "put-schedule"]);
}

#[tokio::test]
async fn a_form_that_is_refused_has_the_reasons_at_its_fields() {
    let (_stack, api, mut browser) = accepting().await;
    let page = browser.open(NEW).await;
    for (typed, field, reason) in [
        (("cron", "61 2 * * *"), "cron", "minute"),
        (("time_zone", "Europe/Berlni"), "time_zone", "Europe/Berlin"),
        (("every_ms", "soon"), "every_ms", "expected a whole number from 1000"),
        (("end_at", "never"), "end_at", ""),
        (("missed_at_most", "0"), "missed_at_most", "from 1 to 1000"),
        (("payload", "{"), "payload", "expected JSON"),
        (("job", "[1"), "job", "expected JSON"),
        (("job", "{\"delay_ms\": 5}"), "job", "/job/delay_ms: a schedule decides"),
        (("task", "T"), "task", "a task name"),
    ] {
        let changes: Vec<_> = match typed.0 {
            "cron" | "every_ms" => vec![("name", "s"), typed],
            _ => vec![("name", "s"), ("cron", "0 0 * * *"), typed],
        };
        let answer = send(&mut browser, &page, NEW, &changes).await;
        let html = text(&answer);
        assert_eq!(answer.status.as_u16(), 422, "{typed:?}: {html}");
        let start = format!("<ul class=\"errors\" id=\"{field}-errors\">");
        let (_, errors) = html.split_once(&start).unwrap_or_else(|| panic!("{typed:?}: {html}"));
        let errors = &errors[..errors.find("</ul>").unwrap()];
        assert!(errors.contains(reason), "{typed:?}: {errors}");
        let is_marked = |tag: &super::browser::Tag| {
            tag.get("id") == Some(field) && tag.get("aria-invalid") == Some("true")
        };
        assert!(tags(&html).iter().any(is_marked), "{typed:?}");
        assert!(html.contains("name=\"name\" value=\"s\""), "what was typed stays: {html}");
    }
    assert_eq!(api.get("/schedules").await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_change_by_another_one_meanwhile_is_shown_and_not_overwritten() {
    let (_stack, api, mut browser) = accepting().await;
    put(&api, "s", &yearly()).await;
    let change = "/dashboard/schedules/s/change";
    let page = browser.open(change).await;
    let mut other = yearly();
    other["cron"] = json!("0 3 * * *");
    put(&api, "s", &other).await;

    let typed = [("cron", "0 5 * * *"), ("time_zone", "Europe/Berlin")];
    let refused = send(&mut browser, &page, change, &typed).await;
    let html = text(&refused);
    assert_eq!(refused.status.as_u16(), 412, "{html}");
    assert!(html.contains("has been changed since this form was opened"), "{html}");
    assert!(html.contains("<code>cron</code> is now <code>0 3 * * *</code>"), "{html}");
    assert!(!html.contains("<code>time_zone</code>"), "that is the same: {html}");
    assert!(html.contains("value=\"0 5 * * *\""), "what was typed stays: {html}");
    assert_eq!(api.get("/schedules/s").await.json()["spec"]["cron"], "0 3 * * *");
    // The form that is shown again belongs to the old version, too.
    let again = send(&mut browser, &html, change, &typed).await;
    assert_eq!(again.status.as_u16(), 412);
    let current = eventually("the form is made anew", async || {
        let page = browser.open(change).await;
        page.contains("0 3 * * *").then_some(page)
    })
    .await;
    assert_eq!(send(&mut browser, &current, change, &typed).await.status.as_u16(), 303);
    assert_eq!(api.get("/schedules/s").await.json()["spec"]["cron"], "0 5 * * *");
}

#[tokio::test]
async fn only_the_owner_and_administrators_see_and_send_verbs() {
    let keyed = ApiWithKeys::start(&[]).await;
    let all = "submit,read";
    let owner = keyed.create_key(&["--scopes", all, "--queues", "t"]).await;
    let stranger = keyed.create_key(&["--scopes", all, "--queues", "t"]).await;
    let elsewhere = keyed.create_key(&["--scopes", all, "--queues", "other"]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let reader = keyed.create_key(&["--scopes", "read"]).await;
    let request = keyed.api.request(Method::PUT, "/schedules/s").json(&yearly());
    assert_eq!(keyed.api.send(request.bearer_auth(&owner)).await.status.as_u16(), 201);
    let path = "/dashboard/schedules/s";
    let verbs = ["run", "pause", "remove", "change"].map(|verb| format!("{path}/{verb}"));

    for (key, may) in [(&owner, true), (&admin, true), (&stranger, false), (&reader, false)] {
        let mut browser = Browser::with_key(&keyed.api, key).await;
        let page = browser.open(path).await;
        for verb in &verbs {
            assert_eq!(page.contains(verb.as_str()), may, "{verb}: {page}");
        }
        let list = browser.open("/dashboard/schedules").await;
        assert_eq!(list.contains(NEW), *key != reader, "{list}");
        if may {
            browser.open(&format!("{path}/change")).await;
            continue;
        }
        assert_eq!(browser.get(&format!("{path}/change")).await.status.as_u16(), 403);
        let token = form(&page, "/dashboard/logout").unwrap();
        for verb in &verbs {
            assert_eq!(browser.post(verb, &token).await.status.as_u16(), 403, "{verb}");
        }
        if *key == reader {
            assert_eq!(browser.get(NEW).await.status.as_u16(), 403);
            assert_eq!(browser.post(NEW, &token).await.status.as_u16(), 403);
        }
    }
    let mut browser = Browser::with_key(&keyed.api, &elsewhere).await;
    let list = browser.open("/dashboard/schedules").await;
    assert!(list.contains("There are no schedules here"), "{list}");
    let token = form(&list, "/dashboard/logout").unwrap();
    for page in [path.to_owned(), format!("{path}/change")] {
        assert_eq!(browser.get(&page).await.status.as_u16(), 404, "{page}");
    }
    for verb in &verbs {
        assert_eq!(browser.post(verb, &token).await.status.as_u16(), 404, "{verb}");
    }
    let shown = keyed.send(&admin, "GET", "/schedules/s").await.json();
    assert_eq!((&shown["status"], &shown["submitted"]), (&json!("active"), &json!(0)));
}

#[tokio::test]
async fn the_overview_names_schedules_that_nobody_paused() {
    let keyed = ApiWithKeys::start(&[]).await;
    let admin = keyed.create_key(&["--scopes", "admin"]).await;
    let owner = keyed.create_key(&["--scopes", "submit,read"]).await;
    for name in ["a", "b"] {
        let schedule = json!({ "task": "t", "every_ms": 1000 });
        let request = keyed.api.request(Method::PUT, &format!("/schedules/{name}")).json(&schedule);
        assert_eq!(keyed.api.send(request.bearer_auth(&owner)).await.status.as_u16(), 201);
    }
    keyed.revoke(&owner).await;
    let mut browser = Browser::with_key(&keyed.api, &admin).await;
    let overview = eventually("the overview names both", async || {
        let overview = browser.open("/dashboard").await;
        overview.contains("are paused, not by a request").then_some(overview)
    })
    .await;
    assert!(overview.contains("<a href=\"/dashboard/schedules\">2 schedules</a>"), "{overview}");
    let page = browser.open("/dashboard/schedules/a").await;
    assert!(page.contains("badge paused") && page.contains("key: the API key"), "{page}");
    let removed = browser.send_form(&page, "/dashboard/schedules/a/remove", &[]).await;
    assert_eq!(removed.status.as_u16(), 303);
    let overview = browser.open("/dashboard").await;
    let words = "<a href=\"/dashboard/schedules/b\">b</a> is paused, not by a request: the API key";
    assert!(overview.contains(words), "{overview}");
    let elsewhere = keyed.create_key(&["--scopes", "read", "--queues", "other"]).await;
    let mut browser = Browser::with_key(&keyed.api, &elsewhere).await;
    assert!(!browser.open("/dashboard").await.contains("not by a request"));
}
