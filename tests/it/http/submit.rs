//! An accepted submission: the code, every header, every member.

use crunch_tests::{Answer, Api, Stack};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::api_without_workers;

/// Every member of a job document.
const MEMBERS: [&str; 31] = [
    "id",
    "token",
    "task",
    "queue",
    "priority",
    "group",
    "unique",
    "status",
    "progress",
    "progress_message",
    "worker",
    "attempt",
    "max_attempts",
    "snoozes",
    "cancel_requested",
    "created_at",
    "run_at",
    "started_at",
    "finished_at",
    "expires_at",
    "payload_size",
    "result",
    "result_size",
    "result_content_type",
    "result_omitted",
    "error",
    "error_group",
    "waiting_for",
    "schedule",
    "metadata",
    "links",
];

fn has_every_member(document: &Value) {
    let members: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = MEMBERS;
    expected.sort_unstable();
    assert_eq!(members, expected);
}

/// Checks the headers of a 202.
fn assert_accepted(api: &Api, answer: &Answer, location: &str) {
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let (url, id) = (&api.url, answer.id());
    let expected = [
        ("location", format!("{url}{location}/{id}")),
        ("operation-location", format!("{url}/jobs/{id}")),
        ("content-location", format!("/jobs/{id}")),
        ("link", format!("</jobs/{id}>; rel=\"monitor\"")),
        ("retry-after", "1".to_owned()),
        ("cache-control", "no-store".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("idempotency-replayed", String::new()),
    ];
    for (name, value) in expected {
        assert_eq!(answer.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn every_way_to_submit_answers_202_with_its_own_location() {
    let (_stack, api) = api_without_workers().await;
    let envelope = json!({ "task": "crunch", "payload": {} });
    for (path, body, location) in [
        ("/crunch", &json!({}), "/result"),
        ("/jobs", &envelope, "/jobs"),
        ("/tasks/crunch/jobs", &json!({}), "/jobs"),
    ] {
        let answer = api.post(path, body).await;
        assert_accepted(&api, &answer, location);
        has_every_member(&answer.json());
        assert_eq!(answer.json(), api.job(&answer.id()).await, "{path}");
    }
}

#[tokio::test]
async fn a_job_document_has_every_member_and_null_for_unknown_values() {
    let (_stack, api) = api_without_workers().await;
    let job = api.post("/crunch", &json!({ "photons": 1 })).await.json();
    let (id, created_at) = (job["id"].as_str().unwrap(), &job["created_at"]);
    let expected = json!({
        "id": id, "token": id, "task": "crunch", "queue": "crunch", "priority": "normal", "group": null, "unique": null, "status": "queued",
        "progress": null, "progress_message": null, "worker": null, "attempt": 0, "max_attempts": 3,
        "snoozes": 0, "cancel_requested": false, "created_at": created_at, "run_at": null, "started_at": null,
        "finished_at": null, "expires_at": null, "payload_size": 13, "result": null, "result_size": null,
        "result_content_type": null, "result_omitted": null, "error": null, "error_group": null, "waiting_for": null, "schedule": null, "metadata": {},
        "links": {
            "self": format!("/jobs/{id}"), "result": format!("/jobs/{id}/result"), "events": format!("/jobs/{id}/events"), "logs": format!("/jobs/{id}/logs"),
            "cancel": format!("/jobs/{id}/cancel"),
        },
    });

    assert_eq!(job, expected);
    let time = created_at.as_str().unwrap();

    assert_eq!((time.len(), &time[23..]), ("2026-11-22T13:40:54.426Z".len(), "Z"));
}

#[tokio::test]
async fn options_are_the_same_in_envelope_and_query() {
    let (_stack, api) = api_without_workers().await;
    let options = json!({
        "queue": "lane.1", "priority": "urgent", "group": "a b/c", "run_at": "2027-01-02T03:04:05.678+01:00", "timeout_ms": 1,
        "deadline_ms": 31_622_400_000_u64, "max_attempts": 100, "retention_ms": 0, "start_within_ms": 5_000,
        "unique": { "fields": ["/a", ""], "for_ms": 1, "on_conflict": "reject" },
        "metadata": { "a": "b c", "n": 1.50, "ä&": true },
    });
    let query = "queue=lane.1&priority=urgent&group=a+b/c&run_at=2027-01-02T03:04:05.678%2B01:00&timeout_ms=1\
        &deadline_ms=31622400000&max_attempts=100&retention_ms=0&start_within_ms=5000&metadata.a=b+c&metadata.n=1.5\
        &unique.fields=/a,&unique.for_ms=1&unique.on_conflict=reject\
        &metadata.%C3%A4%26=true";
    let id = api.submit_with("t", &json!([1]), &options).await;
    let mut expected = api.job(&id).await;

    assert_eq!(expected["status"], "scheduled");
    assert_eq!(expected["run_at"], "2027-01-02T02:04:05.678Z");
    assert_eq!((&expected["queue"], &expected["priority"]), (&json!("lane.1"), &json!("urgent")));
    assert_eq!(expected["group"], "a b/c");
    assert_eq!(expected["metadata"], json!({ "a": "b c", "n": "1.5", "ä&": "true" }));
    for path in ["/tasks/t/jobs", "/crunch"] {
        let mut job = api.post(&format!("{path}?{query}"), &json!([1])).await.json();
        for member in ["id", "token", "created_at", "links", "task"] {
            job[member] = json!(null);
            expected[member] = json!(null);
        }
        assert_eq!(job, expected, "{path}");
    }
}

#[tokio::test]
async fn absolute_links_come_from_configuration_and_never_from_the_host_header() {
    let mut stack = Stack::start();
    let public = [
        ("CRUNCH_API_UNKNOWN_TASKS", "accept"),
        ("CRUNCH_PUBLIC_URL", "https://crunch.example.com/base/"),
        ("CRUNCH_ROUTES", "/crunch=crunch,/v1/thumbs=image.thumbnail"),
        ("CRUNCH_API_HOSTS", "other.example"),
    ];
    let api = stack.api_with(&public).await;

    for path in ["/crunch", "/v1/thumbs"] {
        let request =
            api.request(Method::POST, path).json(&json!({})).header("host", "other.example");
        let answer = api.send(request).await;
        let id = answer.id();
        let base = "https://crunch.example.com/base";
        assert_eq!(answer.header("location"), format!("{base}/result/{id}"));
        assert_eq!(answer.header("operation-location"), format!("{base}/jobs/{id}"));
        assert!(!format!("{answer:?}").contains("other"));
    }
}

#[tokio::test]
async fn a_valid_request_id_is_kept_and_others_are_replaced() {
    let (_stack, api) = api_without_workers().await;
    let long = "x".repeat(129);
    for (given, kept) in [("my-id/1", true), (long.as_str(), false), ("two words", false)] {
        for path in ["/livez", "/nothing", "/jobs/none"] {
            let answer =
                api.send(api.request(Method::GET, path).header("x-request-id", given)).await;
            let id = answer.header("x-request-id");
            assert!(!id.is_empty() && id.len() <= 128);
            assert_eq!(id == given, kept, "{path}: {given}");
        }
    }
}
