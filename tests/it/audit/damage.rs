//! Each kind of damage is found by its name and healed, and then the job really runs to its end.

use crunch_tests::{Stack, Stage};
use serde_json::{Value, json};

use super::Scene;

const READY: &str = "queue:echo:ready:normal";
/// A time that is not due before the test ends.
const NOT_YET: &str = "9000000000000";

/// The end of a lease that no sweep minds before the test ends.
fn soon() -> String {
    (crunch_common::time::Timestamp::now().unix_ms() + 9000).to_string()
}

impl Scene {
    /// The audit finds that and nothing else; healing puts it right; a second audit is clean.
    async fn heals(&self, findings: &[(&str, u64)]) {
        let told = |account: &Value, what: &str| {
            let findings = account["findings"].as_object().unwrap().iter();
            findings.map(|(kind, tally)| (kind.clone(), tally[what].as_u64().unwrap())).collect()
        };
        let expected: Vec<_> = findings.iter().map(|&(kind, n)| (kind.to_owned(), n)).collect();
        let (account, code) = self.audit(&[]).await;
        let found: Vec<_> = told(&account, "found");
        assert_eq!((found, code), (expected.clone(), 1), "{account:#}");
        let (account, code) = self.audit(&["--heal"]).await;
        let healed: Vec<_> = told(&account, "healed");
        assert_eq!((healed, code), (expected, 0), "{account:#}");
        let (account, code) = self.audit(&[]).await;
        assert_eq!((&account["findings"], code), (&json!({}), 0), "{account:#}");
    }

    /// Both queues: what is put wrong must not be put right by a worker that takes it.
    async fn pause(&self, verb: &str) {
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
async fn jobs_that_stand_wrong_are_put_right_and_run_to_their_end() {
    let mut scene = Scene::open().await;
    let _worker = scene.stack.worker(&scene.api, 2).await;
    scene.pause("pause").await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(scene.echo(&json!({})).await);
    }
    let delayed = scene.echo(&json!({ "delay_ms": 3_600_000 })).await;

    scene.tamper("LREM", READY, &["0", &ids[0]]).await;
    scene.heals(&[("lost", 1)]).await;
    scene.tamper("ZREM", "queue:echo:delayed", &[&delayed]).await;
    scene.heals(&[("lost", 1)]).await;
    scene.tamper("LREM", READY, &["0", &ids[1]]).await;
    scene.tamper("ZADD", "due", &["1", "echo"]).await;
    scene.tamper("ZADD", "queue:echo:running", &[&soon(), &ids[1]]).await;
    scene.heals(&[("misplaced", 1)]).await;
    scene.tamper("LREM", READY, &["0", &ids[2]]).await;
    scene.tamper("LPUSH", "queue:echo:ready:high", &[&ids[2]]).await;
    scene.heals(&[("misplaced", 1)]).await;
    scene.tamper("LPUSH", READY, &[&ids[3]]).await;
    scene.heals(&[("twice", 1)]).await;
    scene.tamper("LPUSH", "queue:act:ready:normal", &[&ids[4]]).await;
    scene.heals(&[("twice", 1)]).await;
    scene.tamper("PEXPIRE", &format!("job:{}", ids[5]), &["60000"]).await;
    scene.heals(&[("expiry", 1)]).await;
    scene.tamper("ZREM", "queues", &["echo"]).await;
    scene.heals(&[("unindexed", 1)]).await;
    scene.tamper("DEL", READY, &[]).await;
    scene.heals(&[("lost", 8)]).await;

    scene.pause("resume").await;
    for id in &ids {
        scene.api.wait_for_status(id, "succeeded").await;
    }
    assert_eq!(scene.api.job(&delayed).await["status"], "scheduled");
    scene.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_job_without_a_lease_runs_again_and_tells_why() {
    let mut scene = Scene::open().await;
    let mut worker = scene.stack.worker(&scene.api, 1).await;
    let stage = Stage::open().await;
    let id = scene.api.submit("act", &stage.payload()).await;
    let _gone = stage.wait_for_handler().await;
    let name = scene.api.job(&id).await["worker"].as_str().unwrap().to_owned();
    worker.kill().await;
    scene.tamper("ZREM", "queue:act:running", &[&id]).await;
    scene.tamper("DEL", &format!("worker:{name}"), &[]).await;
    scene.heals(&[("lost", 1)]).await;

    let worker = scene.stack.worker_process(1, &[]);
    Stack::wait_for_worker(&scene.api, &worker).await;
    let again = stage.wait_for_handler().await;
    assert_eq!((again.attempt, again.pid), (1, worker.pid()));
    again.returns(&json!(null)).await;
    scene.api.wait_for_status(&id, "succeeded").await;
    let attempts = scene.api.get(&format!("/jobs/{id}/attempts")).await.json();
    assert_eq!(attempts["items"][0]["outcome"], "healed", "{attempts}");
    scene.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn a_running_job_that_nobody_could_end_runs_again() {
    let mut scene = Scene::open().await;
    let _worker = scene.stack.worker(&scene.api, 2).await;
    let stage = Stage::open().await;
    let id = scene.api.submit("act", &stage.payload()).await;
    let _first = stage.wait_for_handler().await;
    scene.unfence(&id).await;
    scene.heals(&[("unfenced", 1)]).await;
    stage.wait_for_handler().await.returns(&json!("second")).await;
    assert_eq!(scene.api.wait_for_status(&id, "succeeded").await["result"], "second");
    scene.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn what_has_no_job_is_removed_and_what_ended_is_listed() {
    let mut scene = Scene::open().await;
    let worker = scene.stack.worker(&scene.api, 2).await;
    let done = scene.echo(&json!({})).await;
    scene.api.wait_for_status(&done, "succeeded").await;
    scene.pause("pause").await;
    // A sweep drops a ghost that stands in front.
    scene.echo(&json!({})).await;
    let canceled = scene.echo(&json!({})).await;
    scene.api.post(&format!("/jobs/{canceled}/cancel"), &json!({})).await;
    let nobody = "01a20c5c-902c-8000-a42e-8b102c2760e9";

    scene.tamper("LPUSH", READY, &[nobody]).await;
    scene.heals(&[("orphan", 1)]).await;
    for set in ["delayed", "failed", "finished"] {
        scene.tamper("ZADD", &format!("queue:echo:{set}"), &[NOT_YET, nobody]).await;
        scene.heals(&[("orphan", 1)]).await;
    }
    scene.tamper("ZADD", "due", &["1", "echo"]).await;
    scene.tamper("ZADD", "queue:echo:running", &[&soon(), nobody]).await;
    scene.heals(&[("orphan", 1)]).await;
    scene.tamper("SADD", "queue:echo:ghosts", &[nobody]).await;
    scene.heals(&[("ghost", 1)]).await;
    scene.tamper("SREM", "queue:echo:ghosts", &[&canceled]).await;
    scene.heals(&[("unmarked", 1)]).await;
    scene.tamper("ZREM", "queue:echo:finished", &[&done]).await;
    scene.heals(&[("unlisted", 1)]).await;
    scene.tamper("PERSIST", &format!("job:{done}"), &[]).await;
    scene.heals(&[("expiry", 1)]).await;
    scene.tamper("RPUSH", &format!("job:{nobody}:log"), &["1 1 a line"]).await;
    scene.heals(&[("log", 1)]).await;
    let digest = "idempotency:0123456789abcdef0123456789abcdef";
    scene.tamper("SET", digest, &[&format!("{nobody} 00")]).await;
    scene.heals(&[("idempotency", 1)]).await;
    // A queue that nobody waits for: an idle worker would take the tokens.
    scene.tamper("RPUSH", "queue:nobody:wake", &["1", "1", "1"]).await;
    scene.heals(&[("tokens", 1)]).await;

    let live = scene.echo(&json!({})).await;
    scene.pause("resume").await;
    scene.api.wait_for_status(&live, "succeeded").await;
    drop(worker);
    scene.stack.assert_clean_audit().await;
}

#[tokio::test]
async fn what_nobody_understands_is_told_and_left_alone() {
    let mut scene = Scene::open().await;
    let _worker = scene.stack.worker(&scene.api, 1).await;
    scene.pause("pause").await;
    let id = scene.echo(&json!({})).await;
    let job = format!("job:{id}");
    scene.tamper("HDEL", &job, &["payload"]).await;
    scene.tamper("SET", "treasure", &["map"]).await;
    let (account, code) = scene.audit(&["--heal"]).await;
    let left = |kind: &str| account["findings"][kind]["left"].as_u64();
    assert_eq!((code, left("unreadable"), left("unknown")), (1, Some(1), Some(1)), "{account:#}");
    assert_eq!(account["findings"]["unknown"]["first"], json!(["crunch:{0}:treasure"]));

    // A worker meets the record and puts it aside; somebody mends it.
    let other = scene.echo(&json!({})).await;
    scene.pause("resume").await;
    scene.api.wait_for_status(&other, "succeeded").await;
    scene.tamper("DEL", "treasure", &[]).await;
    let (account, code) = scene.audit(&["--heal"]).await;
    let left = |kind: &str| account["findings"][kind]["left"].as_u64();
    assert_eq!((code, left("unreadable"), left("quarantined")), (1, Some(1), Some(1)));
    scene.tamper("HSET", &job, &["payload", "\"mended\""]).await;
    scene.heals(&[("lost", 1), ("quarantined", 1)]).await;
    assert_eq!(scene.api.wait_for_status(&id, "succeeded").await["result"], "mended");
}

#[tokio::test]
async fn people_read_what_was_found_and_what_to_do() {
    let mut scene = Scene::open().await;
    let audit = async |scene: &Scene, more: &[&str]| {
        let mut command = scene.stack.command("test-api");
        let output = command.arg("audit").args(more).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, account, _) = audit(&scene, &[]).await;
    assert!(code == Some(0) && account.ends_with("clean\n"), "{account}");

    scene.tamper("RPUSH", "queue:nobody:wake", &["1", "1"]).await;
    let (code, account, advice) = audit(&scene, &[]).await;
    assert_eq!(code, Some(1));
    assert!(account.contains("tokens             1       0       1"), "{account}");
    assert!(account.contains("    nobody\n"), "{account}");
    assert!(advice.contains("`crunch-api audit --heal`"), "{advice}");
    let (code, account, _) = audit(&scene, &["--heal"]).await;
    assert_eq!(code, Some(0));
    assert!(account.ends_with("clean again, 1 healed\n"), "{account}");

    assert_eq!(audit(&scene, &["--hael"]).await.0, Some(2));
    scene.stack.redis.stop();
    let (code, account, told) = audit(&scene, &[]).await;
    assert!(code == Some(1) && account.is_empty(), "{account}");
    assert!(told.contains("redis is unavailable"), "{told}");
}
