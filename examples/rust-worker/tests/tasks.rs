//! The tasks as a worker runs them, without Redis.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crunch_worker::testing::{Attempt, Outcome, Report};
use crunch_worker::{ReleaseCause, Task};
use messages_worker::{App, Classified, Classify, Forward, Forwarded, Gateway, Model};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// An address that refuses connections.
const NOBODY: &str = "127.0.0.1:1";

/// A task of a worker whose gateway has this address.
fn task(name: &str, gateway: &str) -> Task {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("model.json");
    let app = App { model: Model::read(&model).unwrap(), gateway: Gateway::at(gateway) };
    let mut tasks = messages_worker::tasks(&Arc::new(app)).into_iter();
    tasks.find(|task| task.name().as_str() == name).unwrap()
}

fn classify(texts: &[&str]) -> Attempt {
    let texts = texts.iter().map(ToString::to_string).collect();
    Attempt::of(task("messages.classify", NOBODY)).payload(Classify { texts })
}

fn forward(gateway: &str) -> Attempt {
    let (to, text) = ("ada".to_owned(), "see you at noon".to_owned());
    Attempt::of(task("messages.forward", gateway)).payload(Forward { to, text })
}

/// A gateway that gives this reply to every message, or none.
async fn gateway(reply: &'static str) -> (String, mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, messages) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(answer(connection, reply, sender.clone()));
        }
    });
    (address, messages)
}

async fn answer(mut connection: TcpStream, reply: &str, messages: mpsc::UnboundedSender<Value>) {
    let port = connection.peer_addr().unwrap().port();
    let (reader, mut writer) = connection.split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut message: Value = serde_json::from_str(&line).unwrap();
        message["port"] = port.into();
        let _ = messages.send(message);
        if !reply.is_empty() {
            writer.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
        }
    }
}

async fn code(attempt: Attempt) -> Option<String> {
    attempt.run().await.error().map(|error| error.code.to_string())
}

#[tokio::test]
async fn texts_are_classified_in_their_order_with_progress() {
    let report =
        classify(&["Thanks for the meeting", "WINNER! Click here: free prize"]).run().await;
    let Classified { spam } = report.json();
    assert!(spam[0] < 0.02 && spam[1] > 0.98, "{spam:?}");
    let progress: Vec<_> = report.progress.iter().map(|step| &*step.message).collect();
    assert_eq!(progress, ["1 of 2", "2 of 2"]);
}

#[tokio::test]
async fn a_payload_without_texts_is_rejected_before_it_is_queued() {
    let report = classify(&[]).run().await;
    assert!(matches!(report.outcome, Outcome::Rejected(reason) if reason.starts_with("/texts")));
}

#[tokio::test]
async fn all_attempts_of_a_job_send_the_same_id_over_one_connection() {
    let (address, mut messages) = gateway(r#"{"accepted":17}"#).await;
    let attempt = forward(&address);
    for _ in 0..2 {
        assert_eq!(attempt.run().await.json::<Forwarded>(), Forwarded { number: 17 });
    }
    let first = messages.recv().await.unwrap();
    assert_eq!(first["to"], "ada");
    assert_eq!(messages.recv().await, Some(first));
}

#[tokio::test]
async fn a_busy_gateway_is_tried_again_until_the_last_attempt() {
    let (address, _messages) = gateway(r#""busy""#).await;
    let Report { outcome, .. } = forward(&address).run().await;
    let Outcome::Retried { error, delay } = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.code.as_str(), "gateway_busy");
    assert!(delay <= Duration::from_secs(60));
    let last = forward(&address).attempt(8).run().await;
    assert!(matches!(last.outcome, Outcome::Failed(_)));
}

#[tokio::test]
async fn an_unknown_recipient_is_not_tried_again() {
    let (address, _messages) = gateway(r#""unknown_recipient""#).await;
    let report = forward(&address).run().await;
    assert!(matches!(&report.outcome, Outcome::Failed(error) if !error.retryable));
    assert_eq!(report.error().unwrap().code.as_str(), "unknown_recipient");
}

#[tokio::test]
async fn a_host_that_the_gateway_does_not_know_releases_the_job() {
    let (address, _messages) = gateway(r#""host_not_allowed""#).await;
    let outcome = forward(&address).run().await.outcome;
    assert!(matches!(outcome, Outcome::Released(ReleaseCause::Machine(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_gateway_that_is_down_or_talks_nonsense_is_tried_again() {
    assert_eq!(code(forward(NOBODY)).await.as_deref(), Some("task_failed"));
    let (address, _messages) = gateway("hello").await;
    assert_eq!(code(forward(&address)).await.as_deref(), Some("task_failed"));
}

#[tokio::test]
async fn a_job_that_waits_for_the_gateway_is_canceled() {
    let (address, _messages) = gateway("").await;
    let report = forward(&address).cancel_after(Duration::from_millis(50)).run().await;
    assert_eq!(report.outcome, Outcome::Canceled);
}

#[test]
fn the_worker_runs_one_job_from_a_shell() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_messages-worker"));
    command.args(["run", "messages.classify"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut worker = command.spawn().unwrap();
    worker.stdin.take().unwrap().write_all(br#"{"texts": ["free prize"]}"#).unwrap();
    let output = worker.wait_with_output().unwrap();
    assert!(output.status.success());
    let Classified { spam } = serde_json::from_slice(&output.stdout).unwrap();
    assert!(spam[0] > 0.8, "{spam:?}");
}
