//! Groups: whose turn it is, and where their jobs wait.

use crunch_common::broker::{Claim, GroupId, GroupRule, ListQuery, RuleChange, Weight};
use crunch_common::job::GroupName;

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
pub(super) fn text(error: crunch_common::broker::Error) -> String {
    error.to_string()
}

pub(super) fn named(name: &str) -> GroupName {
    name.parse().unwrap()
}

pub(super) fn story() -> QueueName {
    "story".parse().unwrap()
}

impl World {
    pub(super) fn grouped(&self, group: &str) -> NewJob {
        let mut job = self.job("{}");
        job.options.group = Some(named(group));
        job
    }

    /// Submits jobs of groups, and returns their ids.
    pub(super) async fn submit_grouped(
        &self,
        group: &str,
        count: usize,
    ) -> Result<Vec<JobId>, String> {
        let jobs: Vec<_> = (0..count).map(|_| self.grouped(group)).collect();
        self.submit(&jobs).await?;
        Ok(jobs.iter().map(|job| job.id).collect())
    }

    /// Claims jobs one by one or many at a time, and returns their groups; "-" of those without one.
    pub(super) async fn groups_claimed(
        &mut self,
        calls: usize,
        want: usize,
    ) -> Result<Vec<String>, String> {
        let mut groups = Vec::new();
        for _ in 0..calls {
            let claims = self.claim(want).await?.claims;
            groups.extend(claims.iter().map(group_of));
        }
        Ok(groups)
    }

    /// Sets the rule of a group of the queue, or of each.
    pub(super) async fn rule(
        &self,
        group: Option<&str>,
        rule: Option<GroupRule>,
    ) -> Result<RuleChange, String> {
        let group = group.map(named);
        let changed =
            self.broker.set_group_rule(&story(), false, group.as_ref(), rule.as_ref()).await;
        changed.map_err(text)
    }

    /// Sets the rule of each group, of a queue that is known.
    pub(super) async fn set_each(&mut self, rule: GroupRule) -> Check {
        let job = self.job("{}");
        self.submit(std::slice::from_ref(&job)).await?;
        self.broker.cancel(job.id).await.map_err(text)?;
        let _ = self.claim(1).await?;
        self.set_rule(None, rule).await
    }

    pub(super) async fn set_rule(&self, group: Option<&str>, rule: GroupRule) -> Check {
        let changed = self.rule(group, Some(rule)).await?;
        ensure(changed == RuleChange::Done, "a rule is set")
    }

    /// The sizes of `grouped`, `runnable` and `idle_groups`.
    pub(super) async fn sizes_of_groups(&mut self) -> [u64; 3] {
        let mut sizes = [0; 3];
        for (size, name) in sizes.iter_mut().zip(["grouped", "runnable", "idle_groups"]) {
            *size = self.query_number("ZCARD", &format!("queue:story:{name}")).await;
        }
        sizes
    }
}

pub(super) fn group_of(claim: &Claim) -> String {
    claim.job.options.group.as_ref().map_or("-", GroupName::as_str).to_owned()
}

pub(super) fn count(groups: &[String], name: &str) -> usize {
    groups.iter().filter(|group| *group == name).count()
}

pub(super) const RUNNING: &str = "queue:story:grouped_running";

pub(super) fn weight(weight: f64) -> GroupRule {
    GroupRule { weight: Weight::new(weight).unwrap(), ..GroupRule::default() }
}

pub(super) fn key_of(group: &str) -> String {
    format!("queue:story:group:{}", GroupId::of(&named(group)))
}

pub(super) async fn turns(world: &mut World) -> Check {
    let big = world.submit_grouped("big", 40).await?;
    for group in ["a", "b", "c"] {
        world.submit_grouped(group, 2).await?;
    }
    let first = world.groups_claimed(4, 1).await?;
    ensure(count(&first, "big") == 1, "each group has one of the first four claims")?;
    let next = world.groups_claimed(1, 4).await?;
    ensure(count(&next, "big") == 1, "and of the next four, in one call")?;
    let rest = world.claim(32).await?.claims;
    let rest: Vec<_> = rest.iter().map(|claim| claim.job.id).collect();
    ensure(rest == big[2..34], "then the only group with jobs gets all, in their order")?;
    let end = world.groups_claimed(1, 32).await?;
    ensure(end.len() == 6, "the last jobs are claimed")?;
    ensure(world.sizes_of_groups().await[..2] == [0, 0], "no job is left, and no turn")?;
    let used = world.tamper("HGET", "layout", &["features"]).await;
    ensure(used == redis::Value::BulkString(b"groups".to_vec()), "the feature is listed")
}

pub(super) async fn weights(world: &mut World) -> Check {
    for group in ["one", "two", "four"] {
        world.submit_grouped(group, 100).await?;
    }
    world.set_rule(Some("two"), weight(2.0)).await?;
    world.set_rule(Some("four"), weight(4.0)).await?;
    let claimed = world.groups_claimed(10, 7).await?;
    let shares = ["one", "two", "four"].map(|group| count(&claimed, group));
    ensure(shares == [10, 20, 40], &format!("shares by weight, not {shares:?}"))?;

    ensure(world.rule(Some("four"), None).await? == RuleChange::Done, "a rule is removed")?;
    let claimed = world.groups_claimed(4, 8).await?;
    let shares = ["one", "two", "four"].map(|group| count(&claimed, group));
    ensure(shares == [8, 16, 8], &format!("it applies from the next turn on, not {shares:?}"))?;
    ensure(
        world.query_number("HLEN", "queue:story:rules").await == 1,
        "only rules that were set are kept",
    )
}

/// Many groups of one job each, as many as are claimed: the others still have their turns.
pub(super) async fn one_shot(world: &mut World) -> Check {
    world.lease = Duration::from_secs(600);
    world.submit_grouped("old", 30).await?;
    world.submit(&(0..30).map(|_| world.job("{}")).collect::<Vec<_>>()).await?;
    let mut claimed = Vec::new();
    for number in 0..60 {
        for which in ["a", "b"] {
            world.submit_grouped(&format!("{which}{number}"), 1).await?;
        }
        claimed.extend(world.groups_claimed(1, 2).await?);
    }
    let shares = ["old", "-"].map(|group| count(&claimed, group));
    ensure(shares.iter().all(|&share| share >= 3), &format!("all have turns, not {shares:?}"))?;
    world.sweep_for_seconds(1).await?;
    let left = world.sizes_of_groups().await[2];
    ensure(left < 60, &format!("what no longer matters is forgotten by claims, not {left} left"))
}

pub(super) async fn plain(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..12).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    world.submit_grouped("a", 12).await?;
    world.submit_grouped("b", 12).await?;
    for (calls, want) in [(1, 6), (6, 1)] {
        let claimed = world.groups_claimed(calls, want).await?;
        let shares = ["-", "a", "b"].map(|group| count(&claimed, group));
        ensure(shares == [2; 3], &format!("jobs without a group are one group, {shares:?}"))?;
    }
    let urgent = NewJob { priority: Priority::Urgent, ..world.job("{}") };
    world.submit(std::slice::from_ref(&urgent)).await?;
    let claims = world.claim(3).await?.claims;
    ensure(claims.iter().any(|claim| claim.job.id == urgent.id), "of which urgent ones are first")?;

    world.broker.cancel(jobs[9].id).await.map_err(text)?;
    let rest = world.groups_claimed(1, 22).await?;
    ensure(
        ["-", "a", "b"].map(|group| count(&rest, group)) == [7; 3],
        "each has as many turns while all have jobs",
    )?;

    let jobs: Vec<_> = (0..4).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    world.submit_grouped("a", 8).await?;
    for job in &jobs[..3] {
        world.broker.cancel(job.id).await.map_err(text)?;
    }
    let claimed = world.groups_claimed(1, 8).await?;
    ensure(
        ["-", "a"].map(|group| count(&claimed, group)) == [1, 7],
        "a group gets the turns for which the others have no job",
    )
}

pub(super) async fn order(world: &mut World) -> Check {
    let normal = world.submit_grouped("a", 3).await?;
    let low = NewJob { priority: Priority::Low, ..world.grouped("a") };
    let urgent = NewJob { priority: Priority::Urgent, ..world.grouped("a") };
    world.submit(&[low.clone(), urgent.clone()]).await?;
    let mut claims = world.claim(2).await?.claims;
    let ids: Vec<_> = claims.iter().map(|claim| claim.job.id).collect();
    ensure(ids == [urgent.id, normal[0]], "the highest priority is first, then the oldest")?;

    let error = JobError::retryable(ErrorCode::task_failed(), "again");
    let retried = claims.pop().unwrap().lease.retry(error, Duration::from_secs(1));
    let released = claims.pop().unwrap().lease.release(ReleaseCause::Worker);
    let _ = world.exchange(vec![retried, released], 0).await?;
    world.advance_clock(1000).await;
    let ids: Vec<_> = world.claim(9).await?.claims.iter().map(|claim| claim.job.id).collect();
    let expected = [urgent.id, normal[0], normal[1], normal[2], low.id];
    ensure(ids == expected, "a job that becomes ready again keeps its place")
}

pub(super) async fn idle(world: &mut World) -> Check {
    world.submit_grouped("busy", 100).await?;
    world.groups_claimed(1, 20).await?;
    world.submit_grouped("late", 20).await?;
    let claimed = world.groups_claimed(1, 20).await?;
    ensure(count(&claimed, "late") == 10, "a group earns no turns while it is idle")?;

    let mut claimed = Vec::new();
    for _ in 0..20 {
        world.submit_grouped("single", 1).await?;
        claimed.extend(world.groups_claimed(1, 1).await?);
    }
    let single = count(&claimed, "single");
    ensure((6..=8).contains(&single), &format!("one job at a time gains nothing, not {single}"))
}

pub(super) async fn left(world: &mut World) -> Check {
    let ids = world.submit_grouped("a", 2).await?;
    let other = world.submit_grouped("b", 1).await?;
    let delayed = NewJob { start: Start::After(Duration::from_secs(5)), ..world.grouped("a") };
    world.submit(std::slice::from_ref(&delayed)).await?;
    ensure(world.sizes_of_groups().await == [3, 2, 0], "a delayed job is in no group")?;
    world.broker.cancel(ids[0]).await.map_err(text)?;
    ensure(world.sizes_of_groups().await == [2, 2, 0], "the group keeps its turn")?;
    world.broker.cancel(ids[1]).await.map_err(text)?;
    ensure(world.sizes_of_groups().await == [1, 1, 1], "a group without jobs has none")?;
    ensure(world.query_number("SCARD", "queue:story:ghosts").await == 0, "there are no ghosts")?;

    world.broker.retry(ids[0]).await.map_err(text)?;
    world.advance_clock(5000).await;
    let claims = world.claim(1).await?.claims;
    ensure(group_of(&claims[0]) == "b" || group_of(&claims[0]) == "a", "a job is claimed")?;
    let claims = world.claim(9).await?.claims;
    ensure(claims.len() == 2, "the job that runs again and the one that was due are claimed")?;
    let _ = (other, delayed);
    ensure(world.sizes_of_groups().await == [0, 0, 2], "nothing is left")
}

pub(super) async fn purged(world: &mut World) -> Check {
    for group in 0..90 {
        world.submit_grouped(&group.to_string(), 2).await?;
    }
    world.submit(&[world.job("{}")]).await?;
    let running = world.claim(1).await?.claims.pop().ok_or("a job is claimed")?;
    let purged = world.broker.purge(&story()).await.map_err(text)?;
    ensure(purged == Some(180), "a purge cancels the jobs of all groups, and the others")?;
    ensure(world.sizes_of_groups().await == [0, 0, 90], "nothing waits any more")?;
    let done = running.lease.complete(Payload::json("1"));
    let settled = world.exchange(vec![done], 0).await?.settled;
    ensure(settled == [Settled::Done], "what runs goes on")?;
    world.sweep_for_seconds(11).await?;
    ensure(world.sizes_of_groups().await == [0, 0, 0], "a sweep forgets groups without jobs")?;
    world.sweep_for_seconds(11).await?;
    let time = world.tamper("HGET", "queue:story:turns", &["now"]).await;
    ensure(time == redis::Value::Nil, "and the time of turns")
}

pub(super) async fn shown(world: &mut World) -> Check {
    let mut ids = world.submit_grouped("a", 3).await?;
    ids.extend(world.submit_grouped("b", 2).await?);
    world.submit(&[world.job("{}")]).await?;
    let known = world.broker.queue(&story()).await.map_err(text)?.ok_or("the queue is known")?;
    ensure(known.queued == 6 && known.oldest_age.is_some(), "jobs of groups count as queued")?;

    let mut query = ListQuery { status: Some(Status::Queued), limit: 2, ..ListQuery::default() };
    let mut found = Vec::new();
    loop {
        let page = world.broker.list(&query).await.map_err(text)?;
        found.extend(page.items.iter().map(|job| job.id));
        query.cursor = page.next.map(|cursor| cursor.to_string().parse().unwrap());
        if query.cursor.is_none() {
            break;
        }
    }
    ids.sort_by(|one, other| other.cmp(one));
    ensure(found.len() == 6 && found[1..] == ids, "and are listed, the newest first")?;

    let page = world.broker.groups_of(&story(), 0, 9).await.map_err(text)?;
    let groups = page.items.iter().map(|group| (group.name.clone(), group.queued));
    let mut groups: Vec<_> = groups.collect();
    groups.sort();
    ensure(
        groups == [(Some(named("a")), 3), (Some(named("b")), 2)] && page.next.is_none(),
        "the groups are listed with their names and sizes",
    )
}

pub(super) async fn limited(world: &mut World) -> Check {
    let jobs: Vec<_> =
        (0..MAX_QUEUE_DEPTH).map(|at| world.grouped(&format!("{}", at % 7))).collect();
    world.submit(&jobs).await?;
    let answers = world.broker.enqueue(&[world.grouped("7"), world.job("{}")]).await;
    ensure(answers.iter().all(Result::is_err), "jobs of groups count towards the depth of a queue")
}

pub(super) async fn woken(world: &mut World) -> Check {
    world.submit_grouped("a", 1).await?;
    world.submit_grouped("b", 1).await?;
    ensure(world.take_wake_token().await, "a job of a group wakes a worker")?;
    let _ = world.claim(1).await?;
    ensure(world.take_wake_token().await, "what a claim leaves wakes another")?;
    let _ = world.claim(1).await?;
    ensure(!world.take_wake_token().await, "nothing is left that would")?;
    world.submit_grouped("a", 2).await?;
    let _ = world.take_wake_token().await;
    world.sweep_for_seconds(11).await?;
    ensure(world.take_wake_token().await, "a sweep wakes a worker for a group")
}

pub(super) async fn alone(world: &mut World) -> Check {
    world.submit_grouped("a", 2).await?;
    world.sweep_for_seconds(11).await?;
    let first = world.claim(1).await?.claims[0].job.id;
    world.sweep_for_seconds(11).await?;
    ensure(world.claim(1).await?.claims[0].job.id == first, "a lost job is the next of its group")?;
    world.sweep_for_seconds(11).await?;
    ensure(world.sizes_of_groups().await[0] == 1, "a job that must run alone leaves its group")?;
    world.broker.cancel(first).await.map_err(text)?;
    world.broker.retry(first).await.map_err(text)?;
    ensure(world.sizes_of_groups().await[0] == 2, "once it is retried it is there again")?;
    ensure(
        world.query_number("LLEN", "queue:story:ready:solitary").await == 0,
        "and not where it ended",
    )?;
    let audit = world.broker.audit(|_| ()).await.map_err(text)?;
    ensure(audit.is_clean(), &format!("{:?}", audit.findings))?;
    ensure(world.claim(9).await?.claims.len() == 2, "both are claimed")
}

pub(super) async fn unreadable(world: &mut World) -> Check {
    let ids = world.submit_grouped("a", 3).await?;
    world.tamper("HSET", &format!("job:{}", ids[0]), &["state", "nonsense"]).await;
    world.tamper("DEL", &format!("job:{}", ids[1]), &[]).await;
    let claims = world.claim(1).await?.claims;
    ensure(claims.len() == 1 && claims[0].job.id == ids[2], "broken records are passed over")?;
    ensure(world.sizes_of_groups().await == [0, 0, 1], "and removed")?;
    ensure(world.query_number("ZCARD", "quarantine").await == 1, "one is in quarantine")
}

pub(super) async fn forgotten(world: &mut World) -> Check {
    world.lease = Duration::from_secs(60);
    for (group, count) in [("a", 1), ("b", 1), ("c", 9)] {
        world.submit_grouped(group, count).await?;
    }
    let _ = world.claim(3).await?;
    world.sweep_for_seconds(1).await?;
    ensure(world.sizes_of_groups().await == [8, 1, 2], "the ends of two turns are remembered")?;
    let _ = world.claim(2).await?;
    world.sweep_for_seconds(11).await?;
    ensure(world.sizes_of_groups().await == [6, 1, 0], "until another had as many turns")?;
    let time = world.tamper("HGET", "queue:story:turns", &["now"]).await;
    ensure(time == redis::Value::BulkString(b"2.25".to_vec()), "the time of turns goes on")?;
    world.submit_grouped("b", 1).await?;
    ensure(world.groups_claimed(2, 1).await?.contains(&"b".to_owned()), "and a group joins in")
}

/// The simulated clock is a key of one slot, which functions of the other partitions may not read in a cluster.
pub(super) async fn reserved(world: &mut World) -> Check {
    if crunch_tests::is_cluster() {
        return Ok(());
    }
    let config = BrokerConfig {
        partitions: 4,
        redis_url: world.redis_url.parse().unwrap(),
        key_prefix: format!("{}-four", world.prefix).parse().unwrap(),
        ..BrokerConfig::default()
    };
    let broker = Broker::with_library(&config, world.library.clone()).unwrap();
    let mut elsewhere = 0;
    for number in 0..20 {
        let key = Idempotency::new(&[format!("key-{number}").as_bytes()], &[b"request"]);
        let job = |group: &str, idempotency: &Idempotency| {
            let bindings = crunch_common::broker::Bindings {
                at_home_of: Some(&story()),
                idempotency: Some(idempotency),
            };
            NewJob {
                id: broker.new_bound_id(bindings),
                idempotency: Some(idempotency.clone()),
                ..world.grouped(group)
            }
        };
        let (first, again) = (job("a", &key), job("a", &key));
        elsewhere += usize::from(broker.new_id(Some(&key)).partition() != first.id.partition());
        let created = broker.enqueue(std::slice::from_ref(&first)).await.remove(0).map_err(text)?;
        ensure(matches!(created, Enqueued::Created(_)), "a job is created")?;
        let replayed = broker.enqueue(&[again]).await.remove(0).map_err(text)?;
        ensure(replayed == Enqueued::Replayed(first.id), "the same request is the same job")?;
        let repeated =
            broker.enqueue(std::slice::from_ref(&first)).await.remove(0).map_err(text)?;
        ensure(repeated != Enqueued::Conflict, "the same submission is the same job")?;
        let other = Idempotency::new(&[format!("key-{number}").as_bytes()], &[b"other"]);
        let conflict = broker.enqueue(&[job("b", &other)]).await.remove(0).map_err(text)?;
        ensure(conflict == Enqueued::Conflict, "another request with that key is refused")?;
        let plain = NewJob { idempotency: Some(other.clone()), ..world.job("{}") };
        let plain = NewJob { id: broker.new_id(Some(&other)), ..plain };
        let conflict = broker.enqueue(&[plain]).await.remove(0).map_err(text)?;
        ensure(conflict == Enqueued::Conflict, "one without a group too")?;
        let found = broker.jobs_by_key(std::slice::from_ref(&key)).await.map_err(text)?;
        ensure(found == [first.id], "the job is found by its key")?;
        let Lookup::Found(_) = broker.job(first.id).await.map_err(text)? else {
            return Err("the job does not exist".into());
        };
        // A process that died between the two steps: the key names a job that does not exist.
        let job_key =
            format!("{}-four:{{{}}}:job:{}", world.prefix, first.id.partition(), first.id);
        let mut connection = world.redis.clone();
        let () = redis::cmd("DEL").arg(job_key).query_async(&mut connection).await.unwrap();
        if broker.new_id(Some(&key)).partition() != first.id.partition() {
            let healed = broker.enqueue(&[job("a", &key)]).await.remove(0).map_err(text)?;
            let Enqueued::Created(job) = healed else { return Err(format!("{healed:?}")) };
            ensure(job.id == first.id, "a repeated request creates the job under the reserved id")?;
        }
    }
    ensure((5..20).contains(&elsewhere), "most keys are in other partitions")
}
