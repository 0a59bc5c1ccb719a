//! With `--json` every command prints the API's own documents, as the OpenAPI document describes them.

use crunch_tests::{Stack, Stage};
use serde_json::{Value, json};

use super::Crunch;

/// The commands, and the schema of each line that they print. The jobs in them are replaced.
const DOCUMENTS: [(&str, &str); 48] = [
    ("submit echo -d 1", "Job"),
    ("submit echo -d 1 --wait", "Job"),
    ("submit echo -d 1 --group acme", "Job"),
    ("submit echo -d 2 --unique --unique-for 1h --on-conflict reject", "Job"),
    ("get SUCCEEDED", "Job"),
    ("wait SUCCEEDED", "Job"),
    ("attempts SUCCEEDED", "Attempt"),
    ("deliveries SUCCEEDED", "Delivery"),
    ("logs SUCCEEDED", "LogLine"),
    ("logs -f SUCCEEDED", "LogLine"),
    ("events SUCCEEDED", "Event"),
    ("jobs", "Job"),
    ("jobs --wide", "Job"),
    ("jobs --status failed", "Job"),
    ("summary --status failed --by customer", "JobSummary"),
    ("queues", "Queue"),
    ("queues square", "Queue"),
    (
        "groups square acme --weight 2 --concurrency 3 --rate 100/60s --burst 5 --max-queued 9",
        "GroupRule",
    ),
    ("groups square --each --rate 5/1s", "GroupRule"),
    ("groups square --each", "GroupRule"),
    ("groups square", "Group"),
    ("limits square --concurrency 9", "SharedLimit"),
    ("limits square", "SharedLimit"),
    ("limits", "SharedLimit"),
    ("limits square --remove", "RemovedLimit"),
    ("schedules nightly --file SCHEDULE", "Schedule"),
    ("schedules", "Schedule"),
    ("schedules nightly pause", "Schedule"),
    ("schedules nightly resume", "Schedule"),
    ("schedules nightly run", "Job"),
    ("pause square", "Queue"),
    ("resume square", "Queue"),
    ("errors", "ErrorGroup"),
    ("workers", "Worker"),
    ("workers WORKER --jobs", "Job"),
    ("actions", "OperatorAction"),
    ("actions --since 1h -n 1", "OperatorAction"),
    ("actions --action pause --queue square --by 127.0.0.1", "OperatorAction"),
    ("history", "History"),
    ("history --depth --over 7d", "History"),
    ("history --parts 2", "History"),
    ("tasks", "Task"),
    ("tasks crunch", "Task"),
    ("system", "RedisNode"),
    ("purge square --dry-run", "ActionReport"),
    ("retry FAILED", "Job"),
    ("redrive square", "ActionReport"),
    ("cancel --status scheduled --yes", "ActionReport"),
];

#[tokio::test]
async fn documents_are_as_the_openapi_document_describes_them() {
    let (stack, api, _worker) = Stack::simple(2).await;
    let (crunch, stage) = (Crunch::of(&api), Stage::open().await);
    let succeeded = api.submit("act", &stage.payload()).await;
    let mut actor = stage.wait_for_handler().await;
    actor.send(&json!({ "progress": [0.5, "half"] })).await;
    actor.send(&json!({ "log": "a line" })).await;
    actor.returns(&json!({ "large": 12_345_678_901_234_567_890_u64 })).await;
    api.wait_for_status(&succeeded, "succeeded").await;
    let mut failed = String::new();
    for _ in 0..2 {
        failed = api.submit_with("square", &json!("no"), &json!({ "max_attempts": 1 })).await;
        api.wait_for_status(&failed, "failed").await;
    }
    let workers = api.get("/workers").await.json();
    let worker = workers["items"].as_array().unwrap().iter().find(|it| it["kind"] == "worker");
    let worker = worker.unwrap()["id"].as_str().unwrap();
    let schedule = stack.directory().join("schedule.json");
    std::fs::write(&schedule, r#"{"task":"square","payload":2,"cron":"0 0 1 1 *"}"#).unwrap();
    let schedule = schedule.to_str().unwrap().to_owned();
    let description = api.get("/openapi.json").await.json();
    for (command, schema) in DOCUMENTS {
        let command = command.replace("SUCCEEDED", &succeeded).replace("FAILED", &failed);
        let command = command.replace("WORKER", worker).replace("SCHEDULE", &schedule);
        let arguments: Vec<_> = command.split(' ').chain(["--json"]).collect();
        let run = crunch.run(&arguments).await;
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{command}");
        let documents = run.documents();
        let may_be_empty = command.starts_with("deliveries") || command.ends_with("--jobs");
        assert!(!documents.is_empty() || may_be_empty, "{command}");
        let validator = validator(&description, schema);
        for document in documents {
            let errors: Vec<_> =
                validator.iter_errors(&document).map(|error| error.to_string()).collect();
            assert_eq!(errors, [""; 0], "{command}: {document:#}");
        }
        if command.starts_with("redrive") || command.starts_with("retry") {
            api.wait_for_status(&failed, "failed").await;
        }
    }
    let get = crunch.prints(&["get", &succeeded, "--json"]).await;
    let answer = api.get(&format!("/jobs/{succeeded}")).await;
    assert_eq!(get.trim_end().as_bytes(), &answer.body[..], "byte by byte");
}

fn validator(description: &Value, schema: &str) -> jsonschema::Validator {
    assert!(
        description["components"]["schemas"][schema].is_object(),
        "there is no schema {schema}"
    );
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/components/schemas/{schema}"),
        "components": description["components"],
    });
    jsonschema::validator_for(&schema).unwrap()
}

/// A pipe is read by programs: no colours, no header, no relative times.
#[tokio::test]
async fn a_pipe_gets_separated_values_without_colours() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let crunch = Crunch::of(&api);
    for (command, columns) in [("jobs", 8), ("queues", 11), ("workers", 10), ("tasks", 6)] {
        crunch.prints(&["submit", "echo", "-d", "1", "--wait"]).await;
        let printed = crunch.prints(&[command]).await;
        assert!(!printed.is_empty() && !printed.contains('\u{1b}'), "{printed}");
        for line in printed.lines() {
            assert_eq!(line.split('\t').count(), columns, "{command}: {line}");
        }
    }
}
