//! The examples of the repository, as their files declare them.

use super::*;
use crate::commands::Commands;
use crate::registry::Registry;

/// Runs the task of an example with a payload.
async fn run(example: &str, content_type: &str, payload: &str) -> Result<String, JobError> {
    let file = format!("{}/../examples/{example}/tasks.toml", env!("CARGO_MANIFEST_DIR"));
    let mut registry = Registry::default();
    Commands::read(Path::new(&file), MAX_RESULT, 1).unwrap().join(&mut registry).unwrap();
    let name = registry.descriptors()[0].name.clone();
    let content_type: ContentType = content_type.parse().unwrap();
    let payload = Payload { bytes: payload.to_owned().into(), content_type: content_type.clone() };
    let running = registry.find(&name).unwrap().handler.run(job(content_type), payload);
    as_text(tokio::time::timeout(DEADLINE, running).await.expect("the command ends in time"))
}

#[tokio::test]
async fn words_are_counted() {
    let answer = r#"{"words": 3, "different": 2, "top": [{"word": "don’t", "count": 2}, {"word": "stop", "count": 1}]}"#;
    assert_eq!(run("word-count", "text/plain", "Don’t stop – don’t").await.unwrap(), answer);
    let payload = r#"{"text": "Don’t stop – don’t"}"#;
    assert_eq!(run("word-count", "application/json", payload).await.unwrap(), answer);
    let nothing = r#"{"words": 0, "different": 0, "top": []}"#;
    assert_eq!(run("word-count", "text/plain", "").await.unwrap(), nothing);
}

#[tokio::test]
async fn what_is_no_text_is_refused_for_good() {
    for payload in ["", "{", "[]", r#"{"text": 7}"#, r#"{"text": "a", "top": 0}"#] {
        let error = run("word-count", "application/json", payload).await.unwrap_err();
        assert_eq!(
            (error.code, error.retryable),
            (ErrorCode::payload_invalid(), false),
            "{payload}"
        );
        assert!(!error.message.is_empty());
    }
}

#[tokio::test]
async fn lines_go_through_a_pipeline() {
    let top = run("shell-pipeline", "text/plain", "b\na\nb\nc\n").await.unwrap();
    assert_eq!(top, "      2 b\n      1 a\n      1 c\n");
}
