//! The OpenAPI document as it is served, and the page that shows it.

use std::collections::BTreeSet;

use crunch_tests::{Api, Stack, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::api_without_workers;

#[tokio::test]
async fn the_document_has_every_declared_task_with_its_schemas() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let document = eventually("the document has the tasks", async || {
        let document = api.get("/openapi.json").await.json();
        document["paths"].get("/tasks/crunch/jobs").is_some().then_some(document)
    })
    .await;
    let schemas = &document["components"]["schemas"];

    assert_eq!(schemas["CrunchPayload"]["properties"]["photons"]["maximum"], 10_000_000_000_u64);
    let absorbed = &schemas["CrunchResult"]["properties"]["absorbed"]["$ref"];
    assert_eq!(absorbed, "#/components/schemas/CrunchResultEstimate");
    assert!(schemas["CrunchResultEstimate"]["properties"]["fraction"].is_object());
    let thumbnail = &document["paths"]["/tasks/image.thumbnail/jobs"]["post"]["requestBody"];
    let types = thumbnail["content"].as_object().unwrap().keys().collect::<Vec<_>>();
    assert_eq!(types, ["image/jpeg", "image/png"]);
    let events: BTreeSet<_> = document["webhooks"].as_object().unwrap().keys().collect();

    assert_eq!(events.len(), 3);
}

#[tokio::test]
async fn the_document_has_a_strong_tag_that_changes_when_a_worker_declares_something() {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let first = api.get("/openapi.json").await;
    let tag = first.header("etag").to_owned();

    assert!(tag.starts_with('"') && tag.len() == 34, "{tag}");
    let again = get_if_none_match(&api, &tag).await;
    assert_eq!((again.0, again.1.as_str()), (304, tag.as_str()));
    let other = stack.api_with(&[("CRUNCH_PUBLIC_URL", &api.url)]).await;
    assert_eq!(other.get("/openapi.json").await.header("etag"), tag, "every API has the same tag");
    let _worker = stack.worker(&api, 1).await;
    let changed = eventually("the document has changed", async || {
        let (status, tag) = get_if_none_match(&api, &tag).await;
        (status == 200).then_some(tag)
    })
    .await;

    assert_ne!(changed, tag);
}

async fn get_if_none_match(api: &Api, tag: &str) -> (u16, String) {
    let request = api.request(Method::GET, "/openapi.json").header("if-none-match", tag);
    let answer = api.send(request).await;
    (answer.status.as_u16(), answer.header("etag").to_owned())
}

#[tokio::test]
async fn every_job_is_as_the_document_describes_it() {
    let (_stack, api) = api_without_workers().await;
    let id = api.submit("t", &json!(1)).await;
    let job = api.job(&id).await;
    let document = api.get("/openapi.json").await.json();
    let described = &document["components"]["schemas"]["Job"];
    let members: BTreeSet<_> = job.as_object().unwrap().keys().collect();
    let names: BTreeSet<_> = described["properties"].as_object().unwrap().keys().collect();
    assert_eq!(members, names);
    assert_eq!(described["required"].as_array().unwrap().len(), names.len());
    let statuses = document["components"]["schemas"]["Status"]["enum"].as_array().unwrap();
    assert!(statuses.contains(&job["status"]));
}

#[tokio::test]
async fn details_that_generated_clients_need_are_in_the_document() {
    let (_stack, api) = api_without_workers().await;
    let document = api.get("/openapi.json").await.json();
    let schemas = &document["components"]["schemas"];
    let events = json!({ "$ref": "#/components/schemas/WebhookEvent" });

    assert_eq!(schemas["Webhook"]["properties"]["events"]["items"], events);
    assert_eq!(
        schemas["WebhookEvent"]["enum"],
        json!(["job.succeeded", "job.failed", "job.canceled"])
    );
    assert_eq!(schemas["EventName"]["enum"], json!(["status", "progress", "log", "done"]));
    let stream = &document["paths"]["/jobs/{id}/events"]["get"]["responses"]["200"]["content"];
    assert_eq!(stream["text/event-stream"]["schema"]["$ref"], "#/components/schemas/Event");
    let log = document["paths"]["/jobs/{id}/logs"]["get"]["parameters"].as_array().unwrap();
    let limit = log.iter().find(|parameter| parameter["name"] == "limit").unwrap();
    assert_eq!(
        (&limit["schema"]["minimum"], &limit["schema"]["maximum"]),
        (&json!(1), &json!(256))
    );
    let wait = &document["components"]["parameters"]["wait"]["schema"];

    assert_eq!(*wait, json!({ "type": "integer", "minimum": 0 }), "no number is too large");
}

/// So it works without a network, and with a browser that must not run anything that is inside a page.
#[tokio::test]
async fn the_page_uses_only_files_of_this_api_and_no_inline_scripts() {
    let (_stack, api) = api_without_workers().await;

    assert!(String::from_utf8_lossy(&api.get("/").await.body).contains("href=\"docs\""));
    let page = api.get("/docs").await;
    assert_eq!(
        (page.status.as_u16(), page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    assert!(!html.contains("//"), "nothing is loaded from elsewhere");
    for script in html.split("<script").skip(1) {
        let (attributes, rest) = script.split_once('>').unwrap();
        assert!(attributes.contains("src=") && rest.starts_with("</script>"), "{script}");
    }
    let files = html.split(['"', '=']).filter(|word| word.starts_with("docs/"));
    let files: Vec<_> = files.collect();
    assert_eq!(files.len(), 4, "{files:?}");
    for file in files {
        let answer = api.get(&format!("/{file}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("x-content-type-options")),
            (200, "nosniff")
        );
        let kind = match file.rsplit('.').next() {
            Some("js") => "text/javascript",
            Some("css") => "text/css",
            _ => "image/png",
        };
        assert!(answer.header("content-type").starts_with(kind), "{file}: {answer:?}");
    }
    let missing: Value = api.get("/docs/swagger-ui-bundle.js.map").await.json();

    assert_eq!(missing["status"], 404);
}
