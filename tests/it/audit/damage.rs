//! Each kind of damage is found by its name and healed, and then the job really finishes.

use crunch_tests::{Stack, Stage};
use serde_json::{Value, json};

use super::AuditStack;

const READY: &str = "queue:echo:ready:normal";
/// A time after the end of the test.
const FAR_FUTURE: &str = "9000000000000";

/// The end of a lease that does not expire before the test ends.
fn lease_end() -> String {
    (crunch_common::time::Timestamp::now().unix_ms() + 9000).to_string()
}

impl AuditStack {
    /// Checks that the audit finds exactly this, that healing corrects it, and that another audit finds nothing.
    async fn expect_healed(&self, findings: &[(&str, u64)]) {
        let tallies = |report: &Value, member: &str| {
            let findings = report["findings"].as_object().unwrap().iter();
            findings.map(|(kind, tally)| (kind.clone(), tally[member].as_u64().unwrap())).collect()
        };
        let expected: Vec<_> = findings.iter().map(|&(kind, n)| (kind.to_owned(), n)).collect();
        let (report, code) = self.audit(&[]).await;
        let found: Vec<_> = tallies(&report, "found");
        assert_eq!((found, code), (expected.clone(), 1), "{report:#}");
        let (report, code) = self.audit(&["--heal"]).await;
        let healed: Vec<_> = tallies(&report, "healed");
        assert_eq!((healed, code), (expected, 0), "{report:#}");
        let (report, code) = self.audit(&[]).await;
        assert_eq!((&report["findings"], code), (&json!({}), 0), "{report:#}");
    }

    /// Pauses or resumes both queues, so that no worker claims a damaged job before it is healed.
    async fn pause_or_resume(&self, verb: &str) {
        for queue in ["echo", "act"] {
            let answer = self.api.post(&format!("/queues/{queue}/{verb}"), &json!({})).await;
            assert!(answer.status.is_success(), "{answer:?}");
        }
    }

    async fn echo(&self, options: &Value) -> String {
        self.api.submit_with("echo", &json!("hello"), options).await
    }
}

#[tokio::test]
async fn lost_and_misplaced_jobs_are_healed_and_finish() {
    let mut audited = AuditStack::start().await;
    let _worker = audited.stack.worker(&audited.api, 2).await;
    audited.pause_or_resume("pause").await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(audited.echo(&json!({})).await);
    }
    let delayed = audited.echo(&json!({ "delay_ms": 3_600_000 })).await;

    audited.tamper("LREM", READY, &["0", &ids[0]]).await;
    audited.expect_healed(&[("lost", 1)]).await;
    audited.tamper("ZREM", "queue:echo:delayed", &[&delayed]).await;
    audited.expect_healed(&[("lost", 1)]).await;
    audited.tamper("LREM", READY, &["0", &ids[1]]).await;
    audited.tamper("ZADD", "queue:echo:running", &[&lease_end(), &ids[1]]).await;
    // Not before: a sweep would find nothing due, and list a later time.
    audited.tamper("ZADD", "due", &["1", "echo"]).await;
    audited.expect_healed(&[("misplaced", 1)]).await;
    audited.tamper("LREM", READY, &["0", &ids[2]]).await;
    audited.tamper("LPUSH", "queue:echo:ready:high", &[&ids[2]]).await;
    audited.expect_healed(&[("misplaced", 1)]).await;
    audited.tamper("LPUSH", READY, &[&ids[3]]).await;
    audited.expect_healed(&[("twice", 1)]).await;
    audited.tamper("LPUSH", "queue:act:ready:normal", &[&ids[4]]).await;
    audited.expect_healed(&[("twice", 1)]).await;
    audited.tamper("PEXPIRE", &format!("job:{}", ids[5]), &["60000"]).await;
    audited.expect_healed(&[("expiry", 1)]).await;
    audited.tamper("ZREM", "queues", &["echo"]).await;
    audited.expect_healed(&[("unindexed", 1)]).await;
    audited.tamper("DEL", READY, &[]).await;
    audited.expect_healed(&[("lost", 8)]).await;

    audited.pause_or_resume("resume").await;
    for id in &ids {
        audited.api.wait_for_status(id, "succeeded").await;
    }
    assert_eq!(audited.api.job(&delayed).await["status"], "scheduled");
    audited.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_running_job_without_a_lease_runs_again_and_its_history_shows_why() {
    let mut audited = AuditStack::start().await;
    let mut worker = audited.stack.worker(&audited.api, 1).await;
    let stage = Stage::open().await;
    let id = audited.api.submit("act", &stage.payload()).await;
    let _dead = stage.wait_for_handler().await;

    let name = audited.api.job(&id).await["worker"].as_str().unwrap().to_owned();
    worker.kill().await;
    audited.tamper("ZREM", "queue:act:running", &[&id]).await;
    audited.tamper("DEL", &format!("worker:{name}"), &[]).await;
    audited.expect_healed(&[("lost", 1)]).await;

    let worker = audited.stack.worker_process(1, &[]);
    Stack::wait_for_worker(&audited.api, &worker).await;
    let again = stage.wait_for_handler().await;
    assert_eq!((again.attempt, again.pid), (1, worker.pid()));
    again.returns(&json!(null)).await;
    audited.api.wait_for_status(&id, "succeeded").await;
    let attempts = audited.api.get(&format!("/jobs/{id}/attempts")).await.json();
    assert_eq!(attempts["items"][0]["outcome"], "healed", "{attempts}");
    audited.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_running_job_without_a_worker_in_its_state_runs_again() {
    let mut audited = AuditStack::start().await;
    let _worker = audited.stack.worker(&audited.api, 2).await;
    let stage = Stage::open().await;
    let id = audited.api.submit("act", &stage.payload()).await;
    let _first = stage.wait_for_handler().await;

    audited.unfence(&id).await;
    audited.expect_healed(&[("unfenced", 1)]).await;

    stage.wait_for_handler().await.returns(&json!("second")).await;
    assert_eq!(audited.api.wait_for_status(&id, "succeeded").await["result"], "second");
    audited.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn entries_without_a_job_are_removed_and_ended_jobs_are_listed() {
    let mut audited = AuditStack::start().await;
    let worker = audited.stack.worker(&audited.api, 2).await;
    let done = audited.echo(&json!({})).await;
    audited.api.wait_for_status(&done, "succeeded").await;
    audited.pause_or_resume("pause").await;
    // A job in front of the ghost, because a sweep drops a ghost at the front.
    audited.echo(&json!({})).await;
    let canceled = audited.echo(&json!({})).await;
    audited.api.post(&format!("/jobs/{canceled}/cancel"), &json!({})).await;
    let unknown = "01a20c5c-902c-8000-a42e-8b102c2760e9";

    audited.tamper("LPUSH", READY, &[unknown]).await;
    audited.expect_healed(&[("orphan", 1)]).await;
    for set in ["delayed", "failed", "finished"] {
        audited.tamper("ZADD", &format!("queue:echo:{set}"), &[FAR_FUTURE, unknown]).await;
        audited.expect_healed(&[("orphan", 1)]).await;
    }
    audited.tamper("ZADD", "queue:echo:running", &[&lease_end(), unknown]).await;
    audited.tamper("ZADD", "due", &["1", "echo"]).await;
    audited.expect_healed(&[("orphan", 1)]).await;
    audited.tamper("SADD", "queue:echo:ghosts", &[unknown]).await;
    audited.expect_healed(&[("ghost", 1)]).await;
    audited.tamper("SREM", "queue:echo:ghosts", &[&canceled]).await;
    audited.expect_healed(&[("unmarked", 1)]).await;
    audited.tamper("ZREM", "queue:echo:finished", &[&done]).await;
    audited.expect_healed(&[("unlisted", 1)]).await;
    audited.tamper("PEXPIRE", &format!("job:{done}"), &["100000"]).await;
    audited.expect_healed(&[("expiry", 1)]).await;
    audited.tamper("RPUSH", &format!("job:{unknown}:log"), &["1 1 a line"]).await;
    audited.expect_healed(&[("log", 1)]).await;
    let digest = "idempotency:0123456789abcdef0123456789abcdef";
    audited.tamper("SET", digest, &[&format!("{unknown} 00")]).await;
    audited.expect_healed(&[("idempotency", 1)]).await;
    // A queue that no worker reads, because an idle worker would take the tokens.
    audited.tamper("RPUSH", "queue:nobody:wake", &["1", "1", "1"]).await;
    audited.expect_healed(&[("tokens", 1)]).await;

    let live = audited.echo(&json!({})).await;
    audited.pause_or_resume("resume").await;
    audited.api.wait_for_status(&live, "succeeded").await;
    drop(worker);
    audited.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn unreadable_records_and_unknown_keys_are_reported_and_left_alone() {
    let mut audited = AuditStack::start().await;
    let _worker = audited.stack.worker(&audited.api, 1).await;
    audited.pause_or_resume("pause").await;
    let id = audited.echo(&json!({})).await;
    let job = format!("job:{id}");
    audited.tamper("HDEL", &job, &["payload"]).await;
    audited.tamper("SET", "treasure", &["map"]).await;

    let (report, code) = audited.audit(&["--heal"]).await;
    let left = |kind: &str| report["findings"][kind]["left"].as_u64();
    assert_eq!((code, left("unreadable"), left("unknown")), (1, Some(1), Some(1)), "{report:#}");
    assert_eq!(report["findings"]["unknown"]["first"], json!(["crunch:{0}:treasure"]));

    // A worker claims the record, which puts it in quarantine; then it is repaired by hand.
    let other = audited.echo(&json!({})).await;
    audited.pause_or_resume("resume").await;
    audited.api.wait_for_status(&other, "succeeded").await;
    audited.tamper("DEL", "treasure", &[]).await;
    let (report, code) = audited.audit(&["--heal"]).await;
    let left = |kind: &str| report["findings"][kind]["left"].as_u64();
    assert_eq!((code, left("unreadable"), left("quarantined")), (1, Some(1), Some(1)));
    audited.tamper("HSET", &job, &["payload", "\"mended\""]).await;
    audited.expect_healed(&[("lost", 1), ("quarantined", 1)]).await;
    assert_eq!(audited.api.wait_for_status(&id, "succeeded").await["result"], "mended");
}

#[tokio::test]
async fn the_text_report_shows_what_was_found_and_how_to_heal_it() {
    let mut audited = AuditStack::start().await;
    let audit = async |audited: &AuditStack, arguments: &[&str]| {
        let mut command = audited.stack.command("test-api");
        let output = command.arg("audit").args(arguments).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };

    let (code, report, _) = audit(&audited, &[]).await;
    assert!(code == Some(0) && report.ends_with("clean\n"), "{report}");

    audited.tamper("RPUSH", "queue:nobody:wake", &["1", "1"]).await;
    let (code, report, advice) = audit(&audited, &[]).await;
    assert_eq!(code, Some(1));
    assert!(report.contains("tokens             1       0       1"), "{report}");
    assert!(report.contains("    nobody\n"), "{report}");
    assert!(advice.contains("`crunch-api audit --heal`"), "{advice}");
    let (code, report, _) = audit(&audited, &["--heal"]).await;
    assert_eq!(code, Some(0));
    assert!(report.ends_with("clean again, 1 healed\n"), "{report}");

    assert_eq!(audit(&audited, &["--hael"]).await.0, Some(2));
    audited.stack.redis.stop();
    let (code, report, errors) = audit(&audited, &[]).await;
    assert!(code == Some(1) && report.is_empty(), "{report}");
    assert!(errors.contains("redis is unavailable"), "{errors}");
}
