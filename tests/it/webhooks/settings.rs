//! Webhook secrets, and APIs without any.

use crunch_tests::{Receiver, Stack};
use serde_json::json;

use super::{SECRET, SETTINGS, stack_with, submit};
use crate::http::{assert_problem, pointers};

const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

#[tokio::test]
async fn every_secret_signs_during_a_rotation() {
    let both = format!("{OTHER},{SECRET}");
    let (_stack, api, _worker) = stack_with(&[("CRUNCH_WEBHOOK_SECRETS", &both)]).await;
    let receiver = Receiver::open().await;
    submit(&api, &receiver).await;
    let call = receiver.next_call().await;
    assert!(call.is_signed_by(OTHER) && call.is_signed_by(SECRET));
    assert_eq!(call.header("webhook-signature").split(' ').count(), 2);
    call.answer(200, "").await;
}

#[tokio::test]
async fn secrets_can_be_in_a_file_and_are_never_logged() {
    let mut stack = Stack::start();
    let path = stack.directory().join("secrets");
    std::fs::write(&path, format!("# of today\n{OTHER}\n")).unwrap();
    let settings = [
        ("CRUNCH_WEBHOOK_SECRETS_FILE", path.to_str().unwrap()),
        ("CRUNCH_WEBHOOK_ALLOW", "127.0.0.1"),
        ("CRUNCH_LOG", "trace"),
    ];
    let mut api = stack.api_with(&settings).await;
    let _worker = stack.worker(&api, 1).await;

    let receiver = Receiver::open().await;
    let url = receiver.url("/hidden?token=hush");
    api.submit_with("echo", &json!(1), &json!({ "webhook": { "url": url } })).await;

    let call = receiver.next_call().await;
    assert!(call.is_signed_by(OTHER));
    call.answer(200, "").await;
    api.process.wait_for_log("webhook delivered").await;
    assert!(!api.process.log().contains("whsec_"));

    api.process.terminate().await;

    for secret in [SECRET.replace('w', "W"), "whsec_dG9vIHNob3J0".to_owned()] {
        let mut command = stack.command("test-api");
        command.env("CRUNCH_WEBHOOK_SECRETS", &secret);
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(
            text.contains("expected whsec_ and 24 to 64 bytes") && !text.contains(&secret),
            "{text}"
        );
    }

    let mut command = stack.command("test-api");
    command.env("CRUNCH_WEBHOOK_CA_FILE", &path);
    let output = command.output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("CRUNCH_WEBHOOK_CA_FILE") && !text.contains(OTHER), "{text}");

    let mut command = stack.command("test-api");
    command.env("CRUNCH_WEBHOOK_SECRETS", SECRET).arg("--help");
    let help = String::from_utf8(command.output().await.unwrap().stdout).unwrap();
    assert!(help.contains("CRUNCH_WEBHOOK_SECRETS") && !help.contains(SECRET), "{help}");
}

#[tokio::test]
async fn a_new_secret_is_printed_and_can_be_used() {
    let stack = Stack::start();
    let mut secrets = Vec::new();
    for _ in 0..2 {
        let output = stack.command("test-api").arg("webhook-secret").output().await.unwrap();
        assert!(output.status.success());
        secrets.push(String::from_utf8(output.stdout).unwrap().trim().to_owned());
    }
    assert!(secrets[0] != secrets[1] && secrets.iter().all(|it| it.starts_with("whsec_")));
    assert!(standardwebhooks::Webhook::new(&secrets[0]).is_ok());
}

#[tokio::test]
async fn without_a_secret_webhooks_are_refused_and_the_error_names_the_setting() {
    let mut stack = Stack::start();
    for settings in [&SETTINGS[1..], &[("CRUNCH_WEBHOOKS", "off"), SETTINGS[0]]] {
        let mut settings = settings.to_vec();
        settings.push(("CRUNCH_API_UNKNOWN_TASKS", "accept"));
        let api = stack.api_with(&settings).await;
        let webhook = json!({ "url": "https://example.com/" });
        let answer = api.post("/jobs", &json!({ "task": "t", "webhook": webhook })).await;
        assert_problem(&answer, 422, "invalid-submission");
        assert_eq!(pointers(&answer.json()), ["/webhook/url"]);
        assert!(answer.json()["detail"].as_str().unwrap().contains("CRUNCH_WEBHOOK_SECRETS"));
        assert_eq!(api.get("/workers").await.json(), json!({ "items": [], "next_cursor": null }));
    }
}

#[tokio::test]
async fn an_api_that_delivers_webhooks_is_listed_among_the_workers() {
    let (_stack, api, worker) = stack_with(&[]).await;
    let listed = crunch_tests::eventually("the API is listed", async || {
        let workers = api.get("/workers").await.json();
        let is_other = |item: &&serde_json::Value| item["pid"] != worker.pid();
        workers["items"].as_array().unwrap().iter().find(is_other).cloned()
    })
    .await;

    assert_eq!(
        (&listed["tasks"], &listed["queues"], &listed["slots"]),
        (&json!(["crunch.webhooks"]), &json!(["crunch.webhooks"]), &json!(32))
    );
    assert_eq!(listed["pid"], api.process.pid());
}
