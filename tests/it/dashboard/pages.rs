//! What pages show, and that nothing a client sent becomes markup.

use std::collections::BTreeSet;

use crunch_tests::{Answer, Stack, Stage, eventually};
use reqwest::Method;
use serde_json::json;

use super::browser::{Browser, escaped, tags, text, unescaped};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Checks that a page contains only what its policy allows, and that every reference stays in this origin.
fn assert_inert(html: &str, path: &str) {
    let open = ["/dashboard", "/docs", "/problems/", "#", "data:image/png;base64,"];
    for tag in tags(html) {
        assert!(!["style", "iframe", "object", "embed", "base"].contains(&&*tag.name), "{path}");
        if tag.name == "script" {
            let source = tag.get("src").unwrap_or_default();
            assert!(source.starts_with("/dashboard/assets/"), "{path}: {tag:?}");
        }
        for (name, value) in &tag.attributes {
            let is_script = name.starts_with("on") || name == "style" || name == "srcdoc";
            assert!(!is_script, "{path}: {tag:?}");
            if ["href", "src", "action", "formaction"].contains(&&**name) && !value.is_empty() {
                assert!(open.iter().any(|start| value.starts_with(start)), "{path}: {tag:?}");
            }
        }
    }
}

/// Paths below the root, and the status of their pages.
const PAGES: [(&str, u16); 46] = [
    ("", 200),
    ("/queues", 200),
    ("/queues/echo", 200),
    ("/queues/echo/purge", 200),
    ("/queues/echo/groups", 200),
    ("/queues/echo/groups?after=7", 200),
    ("/queues/echo/groups?after=x", 400),
    ("/queues/echo/rule?group=a%2Fb&weight=2", 200),
    ("/queues/echo/rule?each=1", 200),
    ("/queues/none/groups", 404),
    ("/queues/none/rule", 404),
    ("/limits", 200),
    ("/queues?after=b", 200),
    ("/jobs", 200),
    ("/jobs?status=failed&queue=echo&task=&error=", 200),
    ("/jobs?status=nonsense", 200),
    ("/jobs?by=customer&sort=duration", 200),
    ("/jobs?sort=nonsense", 400),
    ("/actions?by=me&action=pause&from=2026-01-01+00%3A00", 200),
    ("/jobs/new", 200),
    ("/jobs/new?task=echo", 200),
    ("/jobs/{id}", 200),
    ("/errors", 200),
    ("/workers", 200),
    ("/actions", 200),
    ("/actions?after=1", 200),
    ("/tasks", 200),
    ("/tasks/crunch", 200),
    ("/deliveries", 200),
    ("/deliveries?status=failed", 200),
    ("/schedules", 200),
    ("/schedules?after=a", 200),
    ("/schedules/none", 404),
    ("/new-schedule?task=echo", 200),
    ("/system", 200),
    ("/login", 200),
    ("/find?q=nothing", 200),
    ("/jobs/actions?action=retry&status=failed", 200),
    ("/jobs/actions?action=nonsense", 400),
    ("/queues?limit=7", 400),
    ("/queues/none", 404),
    ("/tasks/none", 404),
    ("/jobs/none", 404),
    ("/jobs?queue=none", 404),
    ("/nothing", 404),
    ("/assets/style.css", 404),
];

#[tokio::test]
async fn every_page_is_protected_and_loads_only_files_that_exist() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let id = api.submit("echo", &json!({ "a": 1 })).await;
    api.wait_for_status(&id, "succeeded").await;
    let mut browser = Browser::of(&api);
    let mut files = BTreeSet::new();

    for (path, status) in PAGES {
        let path = format!("/dashboard{}", path.replace("{id}", &id));
        let answer = browser.get(&path).await;
        let html = text(&answer);
        assert_eq!(answer.status.as_u16(), status, "{path}: {html}");
        for (name, value) in [
            ("content-security-policy", POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cache-control", "no-store"),
            ("content-type", "text/html; charset=utf-8"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
        assert!(html.starts_with("<!doctype html>") && html.contains("<h1>"), "{path}");
        assert_inert(&html, &path);
        let sources =
            tags(&html).into_iter().filter(|tag| ["script", "link"].contains(&&*tag.name));
        files.extend(
            sources.filter_map(|tag| Some(tag.get("src").or_else(|| tag.get("href"))?.to_owned())),
        );
    }
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let answer = browser.get(&file).await;
        assert_eq!(answer.status.as_u16(), 200, "{file}");
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
    }
    let put = browser.request(Method::PUT, "/dashboard/queues");
    let answer = browser.send(put).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, HEAD, POST"));
}

/// Texts that a page might mistake for script, from the lists that testers use.
const HOSTILE: [&str; 40] = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "\"><img src=x onerror=alert(1)>",
    "'><img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg/onload=alert(1)//",
    "<svg><script>alert(1)</script></svg>",
    "<body onload=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "\" onmouseover=\"alert(1)",
    "' onfocus='alert(1)' autofocus='",
    "\" autofocus onfocus=alert(1) x=\"",
    "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</pre><img src=x onerror=alert(1)>",
    "</style><script>alert(1)</script>",
    "<!--<script>alert(1)</script>-->",
    "--><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">",
    "<form action=//evil.example><input type=submit>",
    "<input type=image src=x onerror=alert(1)>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<style>@import'//evil.example/x.css'</style>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    "<object data=javascript:alert(1)>",
    "{{7*7}}${7*7}<%=7*7%>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "<\u{0}script>alert(1)</script>",
    "\u{2028}<script>alert(1)</script>\u{202e}",
];

#[tokio::test]
async fn forty_texts_that_try_to_be_script_stay_text_in_every_field() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let mut browser = Browser::of(&api);

    for hostile in HOSTILE {
        let mut payload = stage.payload();
        payload["note"] = json!(hostile);
        let metadata = json!({ hostile: hostile, "label": hostile });
        let options = json!({ "metadata": metadata, "max_attempts": 1 });
        let id = api.submit_with("act", &payload, &options).await;
        let mut actor = stage.wait_for_handler().await;
        actor.send(&json!({ "log": hostile.replace('\n', " ") })).await;
        actor.send(&json!({ "progress": [0.5, hostile] })).await;
        actor.fails(hostile).await;
        api.wait_for_status(&id, "failed").await;
        let echo = api.submit("echo", &json!({ hostile: [hostile] })).await;
        api.wait_for_status(&echo, "succeeded").await;
        let job = format!("/dashboard/jobs/{id}");
        let encoded = escaped(hostile);

        for path in [
            job.as_str(),
            &format!("/dashboard/jobs/{echo}"),
            &format!("/dashboard/jobs/new?from={id}"),
            &format!("/dashboard/jobs/new?from={echo}"),
            "/dashboard/jobs?status=failed",
            "/dashboard/jobs?status=failed&by=label&sort=duration",
            "/dashboard/jobs/actions?action=retry&status=failed",
            "/dashboard/errors",
            "/dashboard/queues/act",
            "/dashboard",
            &format!("/dashboard/find?q={encoded}"),
            &format!("/dashboard/jobs/new?task={encoded}"),
            &format!("/dashboard/login?next={encoded}"),
        ] {
            let html = browser.open(path).await;
            assert_inert(&html, path);
            let is_markup = hostile.contains('<') && !hostile.starts_with("&");
            assert!(!is_markup || !html.contains(hostile), "{hostile} on {path}");
        }
        let refused = browser.get(&format!("/dashboard/jobs?queue={encoded}")).await;
        assert_inert(&text(&refused), "the list of jobs");
        let shown = unescaped(&browser.open(&job).await);
        // A log line and an error are shown as they were written, except for what is no character of a text.
        let visible: String = hostile.chars().filter(|c| !c.is_control()).collect();
        assert!(hostile != visible || shown.contains(&visible), "{hostile}");
    }
}

#[tokio::test]
async fn a_job_shows_its_attempts_its_log_and_its_content() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let stage = Stage::open().await;
    let id = api.submit_with("act", &stage.payload(), &json!({ "max_attempts": 2 })).await;
    stage.wait_for_handler().await.fails("the first attempt").await;
    let mut actor = stage.wait_for_handler().await;
    actor.send(&json!({ "log": "a line of the log" })).await;
    actor.send(&json!({ "progress": [0.25, "a quarter"] })).await;
    api.wait_for_job(&id, "progress", |job| job["progress"] == 0.25).await;
    let mut browser = Browser::of(&api);
    let path = format!("/dashboard/jobs/{id}");

    let running = browser.open(&path).await;
    for shown in ["the first attempt", "a line of the log", "a quarter", "badge running"] {
        assert!(running.contains(shown), "{shown}: {running}");
    }
    // Workers report in heartbeats what they run.
    eventually("the worker shows what it runs", async || {
        browser.open("/dashboard/workers").await.contains(&id).then_some(())
    })
    .await;
    actor.returns(&json!({ "answer": 42.00 })).await;
    api.wait_for_status(&id, "succeeded").await;
    // A page is kept for a second.
    eventually("the page shows the end", async || {
        let ended = browser.open(&path).await;
        (ended.contains("badge succeeded") && ended.contains("answer")).then_some(())
    })
    .await;

    for (part, start) in [("payload", "{"), ("result", "{")] {
        let answer = browser.get(&format!("{path}/{part}")).await;
        assert!(text(&answer).starts_with(start));
        assert_eq!(answer.header("content-type"), "application/json");
        let disposition = format!("attachment; filename=\"{id}-{part}.json\"");
        assert_eq!(answer.header("content-disposition"), disposition);
        assert_eq!(answer.header("content-security-policy"), "default-src 'none'; sandbox");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn the_box_finds_any_id_and_name() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let id = api.submit("square", &json!({})).await;
    api.wait_for_status(&id, "failed").await;
    let worker = api.get("/workers").await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let error = api.get("/errors").await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let post = api.request(Method::POST, "/tasks/echo/jobs").json(&json!(1));
    let keyed = api.send(post.header("idempotency-key", "order/17")).await.id();
    let item = json!({ "jobs": [{ "task": "echo", "idempotency_key": "order=18" }] });
    let item = api.post("/jobs/batch", &item).await.json()["items"][0]["job"]["id"].clone();
    let mut browser = Browser::of(&api);

    for (text, place) in [
        ("order%2F17".to_owned(), format!("/jobs/{keyed}")),
        ("order%3D18".to_owned(), format!("/jobs/{}", item.as_str().unwrap())),
        (id.clone(), format!("/jobs/{id}")),
        (format!("%20{}%20", id.to_uppercase()), format!("/jobs/{id}")),
        (format!("http://localhost/result/{id}"), format!("/jobs/{id}")),
        (worker.clone(), format!("/workers#{worker}")),
        (error.clone(), format!("/jobs?error={error}")),
        ("square".to_owned(), "/queues/square".to_owned()),
        // No key: jobs with a label.
        ("customer%3Dacme".to_owned(), "/jobs?metadata%2Ecustomer=acme".to_owned()),
    ] {
        let answer = browser.get(&format!("/dashboard/find?q={text}")).await;
        assert_eq!(answer.header("location"), format!("/dashboard{place}"), "{text}");
    }
    assert!(browser.open("/dashboard/find?q=nowhere").await.contains("Not found"));
}

#[tokio::test]
async fn a_queue_without_workers_says_so() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let id = api.submit("lonely", &json!(1)).await;
    let mut browser = Browser::of(&api);

    let job = browser.open(&format!("/dashboard/jobs/{id}")).await;
    assert!(job.contains("no live worker claims from its queue"), "{job}");
    assert!(browser.open("/dashboard/queues").await.contains("no worker"));
    assert!(browser.open("/dashboard/queues/lonely").await.contains("no worker"));
    assert!(browser.open("/dashboard").await.contains("has no worker; 1 job waits"));
}

/// A worker claimed it, and could not run it.
#[tokio::test]
async fn a_waiting_job_says_why_it_waits_and_not_that_it_started() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let _worker = stack.worker(&api, 1).await;
    let unknown = json!({ "queue": "square", "metadata": { "customer": "acme" } });
    let id = api.submit_with("unknown", &json!(1), &unknown).await;
    api.wait_for_job(&id, "was released", |job| !job["waiting_for"].is_null()).await;
    let mut browser = Browser::of(&api);

    let job = browser.open(&format!("/dashboard/jobs/{id}")).await;
    for reason in ["a worker without its task released it", "no worker of its queue has its task"] {
        assert!(job.contains(reason), "{job}");
    }
    assert!(!job.contains("<dt>Started</dt>") && !job.contains("<dt>Ran for</dt>"), "{job}");
    let queue = api.get("/queues/square").await.json();
    let parked = &queue["parked"][0];
    let shown = json!([parked["task"], parked["jobs"], parked["workers"]]);
    assert_eq!(shown, json!(["unknown", 1, 0]), "{queue}");
    assert!(parked["oldest_age_ms"].is_u64(), "{queue}");
    let overview = browser.open("/dashboard").await;
    let lacks = "unknown</a> is run by no worker of the queue square; 1 job waits, the oldest for";
    assert!(overview.contains(lacks), "{overview}");
    assert!(browser.open("/dashboard/jobs").await.contains("customer=acme"));
    api.post("/queues/square/pause", &json!({})).await;
    eventually("the page says that the queue is paused", async || {
        let job = Browser::of(&api).open(&format!("/dashboard/jobs/{id}")).await;
        job.contains("its queue is paused").then_some(())
    })
    .await;
}

/// As pages show times, in UTC.
#[tokio::test]
async fn jobs_are_filtered_by_times_as_pages_show_them() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    api.submit("t", &json!(1)).await;
    let mut browser = Browser::of(&api);
    let mut listed = async |query: &str| {
        browser.open(&format!("/dashboard/jobs?{query}")).await.contains("id=\"job-")
    };
    assert!(listed("created_after=2026-01-01+00%3A00").await);
    assert!(!listed("created_before=2026-01-01+00%3A00%3A00").await);
    let invalid = browser.open("/dashboard/jobs?created_after=yesterday").await;
    assert!(invalid.contains("role=\"alert\"") && !invalid.contains("no such jobs"), "{invalid}");
}

#[tokio::test]
async fn a_browser_that_opens_the_url_of_a_job_sees_its_page() {
    let mut stack = Stack::start();
    let api = stack.api_with(&[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let id = api.submit("t", &json!(1)).await;
    let mut browser = Browser::of(&api);
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let path = format!("/jobs/{id}");

    let request = browser.request(Method::GET, &path).header("accept", accept);
    let answer = browser.send(request).await;
    let page = format!("/dashboard/jobs/{id}");
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, page.as_str()));
    let depends_on_accept = |answer: &Answer| {
        answer.headers.get_all("vary").iter().any(|vary| vary.to_str().unwrap() == "Accept")
    };
    assert!(depends_on_accept(&answer));
    for accept in ["*/*", "application/json", "application/json, text/html"] {
        let request = browser.request(Method::GET, &path).header("accept", accept);
        let answer = browser.send(request).await;
        assert!(answer.status.as_u16() == 200 && depends_on_accept(&answer), "{accept}");
    }
    let delete = browser.request(Method::DELETE, &path).header("accept", accept);
    assert_eq!(browser.send(delete).await.status.as_u16(), 409, "only a read has a page");
}
