//! What an audit finds, and how healing corrects it.

use std::collections::BTreeMap;
use std::fmt::Display;

use crunch_common::broker::{Audit, IndexId};
use crunch_common::job::JobId;

use super::*;

/// The number of findings of each kind, as `lost 2, twice 1`.
fn counts(audit: &Audit) -> String {
    let kinds = audit.findings.iter().map(|(kind, tally)| format!("{kind} {}", tally.found));
    kinds.collect::<Vec<_>>().join(", ")
}

impl World {
    async fn audit(&self) -> Result<Audit, String> {
        self.broker.audit(|_| ()).await.map_err(|error| error.to_string())
    }

    /// Audits; the findings must be exactly these.
    pub(super) async fn expect_findings(&self, expected: &str) -> Result<Audit, String> {
        let audit = self.audit().await?;
        if counts(&audit) != expected || audit.undecided > 0 {
            return Err(format!("found {:#?}, not {expected:?}", audit.findings));
        }
        Ok(audit)
    }

    /// Audits and heals; the findings must be exactly these, all of them healed, and a second audit must find nothing.
    pub(super) async fn expect_healed(&self, expected: &str) -> Check {
        let mut audit = self.expect_findings(expected).await?;
        self.broker.heal(&mut audit).await.map_err(|error| error.to_string())?;
        if !audit.is_clean() {
            return Err(format!("left {:#?}", audit.findings));
        }
        self.expect_findings("").await.map(|_| ())
    }

    /// Changes a key with a plain command, which no function knows of.
    /// The fields of a job's state.
    async fn state(&mut self, id: impl Display) -> Vec<String> {
        let mut command = redis::cmd("HGET");
        command.arg(self.key(&format!("job:{id}"))).arg("state");
        let state: String = command.query_async(&mut self.redis).await.unwrap();
        state.split(' ').map(str::to_owned).collect()
    }

    /// Removes the worker from a running job's state.
    pub(crate) async fn unfence(&mut self, id: &str) {
        let mut words = self.state(id).await;
        "-".clone_into(&mut words[5]);
        self.tamper("HSET", &format!("job:{id}"), &["state", &words.join(" ")]).await;
    }

    async fn fields(&mut self, id: JobId) -> BTreeMap<String, String> {
        let key = self.key(&format!("job:{id}"));
        redis::cmd("HGETALL").arg(key).query_async(&mut self.redis).await.unwrap()
    }

    async fn submit_one(&mut self, start: Start) -> Result<JobId, String> {
        let job = NewJob { start, ..self.job("{}") };
        self.submit(std::slice::from_ref(&job)).await?;
        Ok(job.id)
    }

    /// Claims every job that is ready and completes it.
    async fn complete_all(&mut self) -> Result<Vec<JobId>, String> {
        let claims = self.claim(100).await?.claims;
        let ids = claims.iter().map(|claim| claim.job.id).collect();
        let done = |claim: crunch_common::broker::Claim| claim.lease.complete(Payload::json("1"));
        let settlements: Vec<_> = claims.into_iter().map(done).collect();
        let settled = self.exchange(settlements, 0).await?.settled;
        ensure(settled.iter().all(|settled| *settled == Settled::Done), "all jobs are settled")?;
        Ok(ids)
    }
}

const READY: &str = "queue:story:ready:normal";

pub(super) async fn put_back(world: &mut World) -> Check {
    let first = world.submit_one(Start::Now).await?;
    let second = world.submit_one(Start::Now).await?;
    let running = world.submit_one(Start::Now).await?;
    let later = world.submit_one(Start::After(Duration::from_secs(5))).await?;
    let overdue = world.submit_one(Start::After(Duration::from_secs(1))).await?;

    for id in [first, second] {
        world.tamper("LREM", READY, &["0", &id.to_string()]).await;
    }
    ensure(world.claim(1).await?.claims.len() == 1, "one job is claimed")?;
    let _ = world.take_wake_token().await;
    world.tamper("ZREM", "queue:story:running", &[&running.to_string()]).await;
    world.tamper("ZREM", "queue:story:delayed", &[&later.to_string(), &overdue.to_string()]).await;
    world.advance_clock(2000).await;

    world.expect_healed("lost 5").await?;
    ensure(world.take_wake_token().await, "healing wakes a worker")?;
    let attempts = world.broker.attempts(running).await.map_err(|error| error.to_string())?;
    let Lookup::Found(attempts) = attempts else {
        return Err("the job does not exist".into());
    };
    ensure(
        attempts.len() == 1 && attempts[0].outcome == "healed" && attempts[0].number == 1,
        "the history contains the attempt whose lease was lost",
    )?;

    let ids = world.complete_all().await?;
    let mut ready = ids.clone();
    ready.retain(|id| [first, second].contains(id));
    ensure(ready == [first, second], "the oldest is claimed first")?;
    ensure(
        ids.contains(&overdue) && ids.contains(&running) && ids.len() == 4,
        "all four jobs that are due are claimed",
    )?;
    let state = world.state(running).await;
    ensure(state[3] == "1", "the healed attempt is not charged")?;

    world.advance_clock(3000).await;
    ensure(world.complete_all().await? == [later], "the delayed job is claimed when it is due")?;
    world.expect_findings("").await.map(|_| ())
}

pub(super) async fn lease(world: &mut World) -> Check {
    let id = world.submit_one(Start::Now).await?;
    world.heartbeat(&[]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    world.tamper("ZREM", "queue:story:running", &[&id.to_string()]).await;
    // Sweeps cannot find the queue as due either; healing lists the new lease there again.
    world.tamper("DEL", "due", &[]).await;
    world.advance_clock(5000).await;
    world.expect_healed("lost 1").await?;
    let settled = world.exchange(vec![claim.lease.complete(Payload::json("1"))], 0).await?.settled;
    ensure(settled == [Settled::Done], "the worker settles the job with its lease")
}

pub(super) async fn canceled(world: &mut World) -> Check {
    let id = world.submit_one(Start::Now).await?;
    ensure(world.claim(1).await?.claims.len() == 1, "the job is claimed")?;
    world.broker.cancel(id).await.map_err(|error| error.to_string())?;
    world.tamper("ZREM", "queue:story:running", &[&id.to_string()]).await;
    world.expect_healed("lost 1").await?;
    ensure(world.state(id).await[0] == "canceled", "the job is canceled")
}

/// Between the audit and healing, one job ends, one is claimed, and one is put back by other means.
pub(super) async fn late(world: &mut World) -> Check {
    let ids =
        [world.submit_one(Start::Now).await?, world.submit_one(Start::Now).await?].map(|id| id);
    let lost = world.submit_one(Start::Now).await?;
    let all = [ids[0].to_string(), ids[1].to_string(), lost.to_string()];
    for id in &all {
        world.tamper("LREM", READY, &["0", id]).await;
    }

    let mut audit = world.expect_findings("lost 3").await?;

    world.tamper("RPUSH", READY, &[&all[2], &all[1], &all[0]]).await;
    let mut claims = world.claim(2).await?.claims;
    let done = claims.remove(0).lease.complete(Payload::json("1"));
    ensure(
        world.exchange(vec![done], 0).await?.settled == [Settled::Done],
        "the first job is settled",
    )?;

    let mut before = Vec::new();
    for id in [ids[0], ids[1], lost] {
        before.push(world.fields(id).await);
    }
    world.broker.heal(&mut audit).await.map_err(|error| error.to_string())?;

    for (id, before) in [ids[0], ids[1], lost].into_iter().zip(before) {
        ensure(world.fields(id).await == before, "healing writes nothing")?;
    }
    ensure(world.query_number("LLEN", READY).await == 1, "the third job is ready, once")?;

    let settled =
        world.exchange(vec![claims.remove(0).lease.complete(Payload::json("1"))], 0).await?;
    ensure(settled.settled == [Settled::Done], "the second job keeps its lease")?;
    world.expect_findings("").await.map(|_| ())
}

pub(super) async fn misplaced(world: &mut World) -> Check {
    let lane = world.submit_one(Start::Now).await?.to_string();
    let queue = world.submit_one(Start::Now).await?.to_string();
    let set = world.submit_one(Start::Now).await?.to_string();
    let early = world.submit_one(Start::After(Duration::from_secs(5))).await?.to_string();
    let ended = world.submit_one(Start::Now).await?.to_string();
    for id in [&lane, &queue, &set] {
        world.tamper("LREM", READY, &["0", id]).await;
    }
    ensure(world.complete_all().await?.len() == 1, "one job is completed")?;

    world.tamper("LPUSH", "queue:story:ready:low", &[&lane]).await;
    world.tamper("LPUSH", "queue:other:ready:normal", &[&queue, &ended]).await;
    world.tamper("ZADD", "queue:story:running", &["1", &set]).await;
    world.tamper("ZREM", "queue:story:delayed", &[&early]).await;
    world.tamper("LPUSH", READY, &[&early]).await;

    world.expect_healed("misplaced 5, unindexed 2").await?;
    ensure(
        world.query_number("EXISTS", "queue:other:ready:normal").await == 0,
        "the list of the other queue is empty",
    )?;
    ensure(world.complete_all().await?.len() == 3, "three jobs are claimed")?;
    world.advance_clock(5000).await;
    ensure(world.complete_all().await?.len() == 1, "the delayed job is claimed when it is due")
}

pub(super) async fn twice(world: &mut World) -> Check {
    let lane = world.submit_one(Start::Now).await?.to_string();
    let lanes = world.submit_one(Start::Now).await?.to_string();
    let sets = world.submit_one(Start::Now).await?.to_string();
    let ghost = world.submit_one(Start::Now).await?;
    let early = world.submit_one(Start::After(Duration::from_secs(5))).await?.to_string();
    world.broker.cancel(ghost).await.map_err(|error| error.to_string())?;

    world.tamper("LPUSH", READY, &[&lane, &ghost.to_string(), &lane]).await;
    world.tamper("LPUSH", "queue:story:ready:urgent", &[&lanes]).await;
    world.tamper("ZADD", "queue:story:delayed", &["1", &sets]).await;
    world.tamper("ZADD", "queue:other:delayed", &["1", &early]).await;

    world.expect_healed("twice 5, unindexed 2").await?;
    ensure(world.query_number("LLEN", READY).await == 4, "each id is left once")?;
    ensure(world.complete_all().await?.len() == 3, "each job is handed out once")
}

pub(super) async fn orphans(world: &mut World) -> Check {
    let unknown: Vec<_> = (0..6).map(|_| world.broker.new_id(None).to_string()).collect();
    world.submit_one(Start::Now).await?;

    world.tamper("LPUSH", READY, &[&unknown[0]]).await;
    world.tamper("ZADD", "queue:story:delayed", &["1", &unknown[1]]).await;
    world.tamper("ZADD", "queue:story:running", &["1", &unknown[2]]).await;
    let later = (world.now + 1000).to_string();
    world.tamper("ZADD", "queue:story:finished", &[&later, &unknown[3]]).await;
    world.tamper("ZADD", "queue:story:failed", &["1", &unknown[4], "1", &unknown[3]]).await;
    world.tamper("SADD", "queue:story:ghosts", &[&unknown[5]]).await;
    world.tamper("RPUSH", &format!("job:{}:log", unknown[0]), &["1 1 a line"]).await;
    let digest = "0123456789abcdef0123456789abcdef";
    let claimed = format!("{} {digest}", unknown[0]);
    world.tamper("SET", &format!("idempotency:{digest}"), &[&claimed]).await;
    world.tamper("RPUSH", "queue:story:wake", &["1", "1"]).await;
    world.tamper("ZREM", "queues", &["story"]).await;

    let all = "orphan 5, ghost 1, log 1, idempotency 1, tokens 1, unindexed 1";
    world.expect_healed(all).await?;
    ensure(world.query_number("LLEN", "queue:story:wake").await == 1, "one token is left")?;
    ensure(world.complete_all().await?.len() == 1, "the only job is claimed")
}

pub(super) async fn ended(world: &mut World) -> Check {
    let done = world.submit_one(Start::Now).await?.to_string();
    ensure(world.complete_all().await?.len() == 1, "one job is completed")?;

    let failed = world.submit_one(Start::Now).await?.to_string();
    let lease = world.claim(1).await?.claims.remove(0).lease;
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    ensure(world.exchange(vec![lease.fail(error)], 0).await?.settled.len() == 1, "one job fails")?;

    let live = world.submit_one(Start::Now).await?.to_string();
    let canceled = world.submit_one(Start::Now).await?;
    world.broker.cancel(canceled).await.map_err(|error| error.to_string())?;
    world.expect_findings("").await?;

    world.tamper("ZREM", "queue:story:finished", &[&done, &failed]).await;
    world.tamper("ZREM", "queue:story:failed", &[&failed]).await;
    world.tamper("PEXPIRE", &format!("job:{done}"), &["100000"]).await;
    world.tamper("RPUSH", &format!("job:{failed}:log"), &["1 1 a line"]).await;
    world.tamper("PEXPIRE", &format!("job:{live}"), &["100000"]).await;
    world.tamper("HDEL", &format!("job:{failed}"), &["optional"]).await;
    world.tamper("SREM", "queue:story:ghosts", &[&canceled.to_string()]).await;

    world.expect_healed("unmarked 1, unlisted 2, overlooked 1, expiry 3").await?;
    ensure(
        world.query_number("ZCARD", "queue:story:finished").await == 3,
        "three jobs are listed as finished",
    )?;
    ensure(
        world.query_number("ZCARD", "queue:story:failed").await == 1,
        "one job is listed as failed",
    )?;
    ensure(
        world.query_number("PERSIST", &format!("job:{failed}:log")).await == 1,
        "the log of the failed job expires",
    )?;
    ensure(
        world.query_number("PERSIST", &format!("job:{done}")).await == 0,
        "Redis does not expire the completed job",
    )?;
    ensure(
        world.complete_all().await? == [live.parse().unwrap()],
        "the live job does not expire, and is claimed",
    )?;
    ensure(world.query_number("SCARD", "queue:story:ghosts").await == 0, "the ghost is dropped")
}

/// A ghost whose record has expired; a ghost that was retried and is still in its lane; a tombstone.
pub(super) async fn odd_but_correct(world: &mut World) -> Check {
    let expired = world.submit_one(Start::Now).await?;
    let deleted = world.submit_one(Start::Now).await?;
    let poison = world.submit_one(Start::Now).await?;

    for id in [expired, deleted] {
        world.broker.cancel(id).await.map_err(|error| error.to_string())?;
    }
    world.broker.delete(deleted).await.map_err(|error| error.to_string())?;

    world.tamper("HSET", &format!("job:{poison}"), &["losses", "2", "optional", "losses"]).await;
    world.tamper("LREM", READY, &["0", &poison.to_string()]).await;
    world.tamper("RPUSH", "queue:story:ready:solitary", &[&poison.to_string()]).await;
    world.broker.cancel(poison).await.map_err(|error| error.to_string())?;
    world.broker.retry(poison).await.map_err(|error| error.to_string())?;

    world.tamper("DEL", &format!("job:{expired}"), &[]).await;
    world.tamper("ZREM", "queue:story:finished", &[&expired.to_string()]).await;

    world.expect_findings("").await?;
    ensure(world.complete_all().await? == [poison], "the retried job is claimed")?;
    world.expect_findings("").await.map(|_| ())
}

pub(super) async fn left(world: &mut World) -> Check {
    let live = world.submit_one(Start::Now).await?.to_string();
    let broken = world.submit_one(Start::Now).await?;
    let unfenced = world.submit_one(Start::Now).await?.to_string();

    world.tamper("HDEL", &format!("job:{broken}"), &["payload"]).await;
    world.tamper("SET", "secrets", &["of somebody"]).await;
    world.tamper("SET", "queue:odd:delayed", &["not a set"]).await;
    world.tamper("LPUSH", READY, &["not an id"]).await;

    let mut audit = world.expect_findings("unreadable 4, unknown 1").await?;
    world.broker.heal(&mut audit).await.map_err(|error| error.to_string())?;
    ensure(audit.left() == 5, "none of it is healed")?;
    ensure(world.query_number("LLEN", READY).await == 4, "nothing is removed")?;

    let mut claims = world.claim(3).await?.claims;
    claims.retain(|claim| claim.job.id.to_string() == live);
    ensure(claims.len() == 1, "the live job is claimed")?;
    world.unfence(&unfenced).await;
    world.tamper("HSET", &format!("job:{broken}"), &["payload", "{}"]).await;
    let mut audit =
        world.expect_findings("lost 1, unfenced 1, quarantined 1, unreadable 2, unknown 1").await?;
    world.broker.heal(&mut audit).await.map_err(|error| error.to_string())?;
    ensure(audit.left() == 3, "a repaired record is healed")?;
    ensure(
        world.claim(9).await?.claims.len() == 2,
        "the repaired job and the one without a worker are claimed",
    )
}

pub(super) async fn side_lists(world: &mut World) -> Check {
    let options = JobOptions { deadline: Some(Duration::from_secs(60)), ..options() };
    let job = NewJob { options, ..world.job("{}") };
    world.submit(std::slice::from_ref(&job)).await?;
    let claim = world.claim(1).await?.claims.pop().ok_or("the job is claimed")?;
    let _ = world.exchange(vec![claim.lease.release(ReleaseCause::Unroutable)], 0).await?;
    world.expect_findings("").await?;

    world.tamper("ZREM", "queue:story:deadlines", &[&job.id.to_string()]).await;
    world.expect_healed("unlisted 1").await?;

    world.tamper("SREM", "queue:story:parked", &["story"]).await;
    world.tamper("SREM", "queues:side", &["story"]).await;
    world.expect_healed("overlooked 1").await?;
    ensure(world.query_number("SCARD", "queues:side").await == 1, "the queue is listed again")?;

    let free = world.job("{}");
    world.submit(std::slice::from_ref(&free)).await?;
    world.tamper("ZADD", "queue:story:deadlines", &["9999999999999", &free.id.to_string()]).await;
    world.expect_healed("misplaced 1").await?;

    let lane = "queue:story:ready:task:story";
    world.tamper("LPUSH", lane, &[&free.id.to_string()]).await;
    world.expect_healed("twice 1").await?;

    let options = JobOptions { deadline: Some(Duration::from_secs(1)), ..super::options() };
    let overdue = NewJob { options, ..world.job("{}") };
    world.submit(std::slice::from_ref(&overdue)).await?;
    world.sweep_for_seconds(2).await?;
    ensure(
        world.query_number("SCARD", "queue:story:ghosts").await == 1,
        "the overdue job is a ghost behind another id",
    )?;
    world.expect_findings("").await?;

    world.broker.cancel(job.id).await.map_err(|error| error.to_string())?;
    world.tamper("ZADD", "queue:story:deadlines", &["9999999999999", &job.id.to_string()]).await;
    world.expect_healed("misplaced 1").await
}

pub(super) async fn error_groups(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..3).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    let claims = world.claim(3).await?.claims;
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let [kept, left, done] = <[_; 3]>::try_from(claims).map_err(|_| "expected three claims")?;
    let settlements = vec![
        kept.lease.fail(error.clone()),
        left.lease.fail(error),
        done.lease.complete(Payload::json("1")),
    ];
    let settled = world.exchange(settlements, 0).await?.settled;
    ensure(settled == [Settled::Done; 3], "the jobs are settled")?;
    let group = world.read_job(jobs[0].id).await?.error_group.ok_or("it has no group")?;
    world.expect_findings("").await?;

    let listed = format!("error:{group}:jobs");
    world.tamper("ZREM", &listed, &[&jobs[1].id.to_string()]).await;
    world.tamper("ZADD", &listed, &["1", &jobs[2].id.to_string()]).await;
    world.tamper("ZADD", &listed, &["1", &world.broker.new_id(None).to_string()]).await;
    world.tamper("ZREM", "errors", &[&group.to_string()]).await;
    world.tamper("ZADD", "errors", &["1", "00112233aabbccdd"]).await;
    world.expect_healed("misplaced 1, orphan 1, unlisted 1, unindexed 2").await?;
    ensure(world.query_number("ZCARD", &listed).await == 2, "the group lists the failed jobs")?;

    world.tamper("DEL", &format!("error:{group}"), &[]).await;
    world.expect_healed("unindexed 1").await?;
    let found = world.broker.error_group(&group).await.map_err(|error| error.to_string())?;
    let found = found.ok_or("the group is lost")?;
    ensure((found.failures, found.failed_jobs) == (2, 2), "a group is restored from its jobs")
}

pub(super) async fn indexes(world: &mut World) -> Check {
    let [acme, north] = [("customer", "acme"), ("region", "north")];
    let [acme_index, north_index] =
        [acme, north].map(|(name, value)| format!("index:{}", IndexId::of(name, value).unwrap()));
    let jobs = [world.labelled(&[acme]), world.labelled(&[acme, north]), world.labelled(&[])];
    world.submit(&jobs).await?;
    world.expect_findings("").await?;
    let [first, second, unlabelled] = jobs.map(|job| job.id.to_string());

    world.tamper("ZREM", &north_index, &[&second]).await;
    world.expect_healed("unlisted 1").await?;
    world.tamper("ZADD", &north_index, &["5", &second]).await;
    world.expect_healed("unlisted 1").await?;
    let unsorted = world.tamper("ZCOUNT", &north_index, &["1", "+inf"]).await;
    ensure(unsorted == redis::Value::Int(0), "ids are sorted again")?;
    world.tamper("ZREM", &acme_index, &[&first]).await;
    world.tamper("ZADD", &north_index, &["0", &unlabelled]).await;
    world.tamper("ZADD", "index:00112233aabbccdd", &["0", &second]).await;
    let unknown = world.broker.new_id(None).to_string();
    world.tamper("ZADD", &acme_index, &["0", &unknown]).await;
    world.expect_healed("misplaced 2, orphan 1, unlisted 1").await?;
    let sizes = [
        world.query_number("ZCARD", &acme_index).await,
        world.query_number("ZCARD", &north_index).await,
        world.query_number("EXISTS", "index:00112233aabbccdd").await,
    ];
    ensure(sizes == [2, 1, 0], "each index lists the jobs that name it")
}

pub(super) async fn groups(world: &mut World) -> Check {
    let ids = world.submit_grouped("a", 3).await?;
    world.submit_grouped("b", 1).await?;
    world.expect_findings("").await?;
    let [first, second, third] = [0, 1, 2].map(|at: usize| ids[at].to_string());
    let [a, b] = ["a", "b"].map(super::groups::key_of);
    let id_of_b = b.rsplit(':').next().unwrap().to_owned();

    world.tamper("ZREM", &a, &[&first]).await;
    world.tamper("ZADD", &a, &["0", &second]).await;
    world.expect_healed("unlisted 2").await?;
    world.tamper("ZREM", "queue:story:grouped", &[&third]).await;
    world.expect_healed("lost 1").await?;
    world.tamper("ZREM", "queue:story:runnable", &[&id_of_b]).await;
    world.tamper("ZADD", "queue:story:runnable", &["1", "00112233aabbccdd"]).await;
    world.expect_healed("turn 2").await?;
    world.tamper("ZADD", &b, &["2", &first]).await;
    world.tamper("LPUSH", READY, &[&second]).await;
    world.expect_healed("misplaced 1, twice 1").await?;

    let unknown = [(); 2].map(|()| world.broker.new_id(None).to_string());
    world.tamper("ZADD", "queue:story:grouped", &["0", &unknown[0]]).await;
    world.tamper("ZADD", &a, &["2", &unknown[1]]).await;
    world.expect_healed("orphan 2").await?;
    world.broker.cancel(ids[0]).await.map_err(|error| error.to_string())?;
    world.tamper("ZADD", "queue:story:grouped", &["0", &first]).await;
    world.tamper("ZADD", &a, &["2", &first]).await;
    world.expect_healed("misplaced 1").await?;
    world.tamper("SREM", "queues:side", &["story"]).await;
    ensure(world.claim(9).await?.claims.is_empty(), "a queue that is not listed has no groups")?;
    ensure(world.claim(9).await?.claims.len() == 3, "until an idle worker looks for them")?;
    world.expect_findings("").await?;

    let waiting = world.submit_grouped("a", 1).await?[0].to_string();
    let id_of_a = a.rsplit(':').next().unwrap().to_owned();
    let running = |id: &str| format!("{id_of_a} {id}");
    world.tamper("ZREM", super::groups::RUNNING, &[&running(&second)]).await;
    let unknown = world.broker.new_id(None).to_string();
    for id in [&waiting, &unknown] {
        world.tamper("ZADD", super::groups::RUNNING, &["0", &running(id)]).await;
    }
    world.expect_healed("misplaced 1, orphan 1, unlisted 1").await?;
    world.tamper("ZREM", "queue:story:runnable", &[&id_of_a]).await;
    world.tamper("ZADD", "queue:story:blocked_groups", &["1", &id_of_a]).await;
    world.expect_healed("turn 1").await
}
