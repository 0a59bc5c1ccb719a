//! Limits that queues share.

use crunch_common::broker::{
    Limit, LimitChange, LimitState, QueueLimit, Rate, SharedChange, SharedStatus,
};
use crunch_common::queue::LimitName;

use super::groups::text;
use super::*;

/// Another queue than `story`, which shares a limit with it.
fn tale() -> QueueName {
    "tale".parse().unwrap()
}

fn story() -> QueueName {
    "story".parse().unwrap()
}

fn named(name: &str) -> LimitName {
    name.parse().unwrap()
}

fn concurrency(most: u32) -> Limit {
    Limit { concurrency: Some(most), rate: None }
}

fn every(per: u64, burst: u32) -> Limit {
    let rate = Rate { starts: 1, per: Duration::from_millis(per), burst };
    Limit { concurrency: None, rate: Some(rate) }
}

impl World {
    async fn set_shared(&self, name: &str, limit: Option<Limit>) -> Result<SharedChange, String> {
        self.broker.set_shared_limit(&named(name), limit).await.map_err(text)
    }

    async fn shared(&self, name: &str) -> Result<SharedStatus, String> {
        let found = self.broker.shared_limit(&named(name)).await.map_err(text)?;
        found.ok_or_else(|| format!("there is no limit {name}"))
    }

    /// Sets which limits a queue shares; it has no other.
    async fn share(&self, queue: &QueueName, names: &[&str]) -> Result<LimitChange, String> {
        let shared = names.iter().map(|name| named(name)).collect();
        let limit = QueueLimit { own: Limit::default(), shared };
        self.broker.set_queue_limit(queue, true, Some(limit)).await.map_err(text)
    }

    /// Both queues share a limit and have jobs.
    async fn share_both(&self, limit: Limit, jobs: usize) -> Check {
        ensure(self.set_shared("both", Some(limit)).await? == SharedChange::Done, "it is set")?;
        for queue in [story(), tale()] {
            ensure(self.share(&queue, &["both"]).await? == LimitChange::Done, "it is shared")?;
            let jobs: Vec<_> =
                (0..jobs).map(|_| NewJob { queue: queue.clone(), ..self.job("{}") }).collect();
            self.submit(&jobs).await?;
        }
        Ok(())
    }

    async fn claim_from(&mut self, queues: &[QueueName], want: usize) -> Result<Exchanged, String> {
        self.exchange_with_queues(queues.to_vec(), Vec::new(), want).await
    }

    async fn take_token_of(&mut self, queue: &QueueName) -> bool {
        let key = self.key(&format!("queue:{queue}:wake"));
        let token: Option<String> =
            redis::cmd("LPOP").arg(key).query_async(&mut self.redis).await.unwrap();
        token.is_some()
    }

    async fn take_all_tokens(&mut self) {
        for queue in [story(), tale()] {
            while self.take_token_of(&queue).await {}
        }
    }
}

pub(super) async fn running(world: &mut World) -> Check {
    world.share_both(concurrency(3), 4).await?;
    let mut claims = world.claim_from(&[story(), tale()], 2).await?.claims;
    claims.extend(world.claim_from(&[tale(), story()], 9).await?.claims);
    ensure(claims.len() == 3, "as many jobs run in both queues together as may")?;
    ensure(claims.iter().any(|claim| claim.job.queue == tale()), "of either queue")?;
    let status = world.shared("both").await?;
    ensure(status.state == LimitState::Blocked && status.running == 3, "no other may start")?;
    ensure(status.queues == [story(), tale()], "the limit names its queues")?;
    let limit = world.broker.queue_limit(&tale()).await.map_err(text)?;
    let limit = limit.ok_or("the queue has a limit")?;
    ensure(limit.state == LimitState::Blocked, "so the queue waits")?;
    ensure(limit.held_by == Some(named("both")), "for the limit that it shares")?;
    world.take_all_tokens().await;
    world.sweep_for_seconds(2).await?;
    ensure(!world.take_token_of(&tale()).await, "nobody is woken for it")?;

    let of_story = claims.iter().position(|claim| claim.job.queue == story());
    let done = claims.remove(of_story.ok_or("one of each")?).lease.complete(Payload::json("1"));
    let _ = world.exchange_with_queues(vec![], vec![done], 0).await?;
    ensure(world.take_token_of(&tale()).await, "the end of one wakes workers of the other queue")?;
    ensure(world.claim_from(&[tale()], 9).await?.claims.len() == 1, "which start one")?;
    world.take_all_tokens().await;
    let raised = world.set_shared("both", Some(concurrency(4))).await?;
    ensure(raised == SharedChange::Done, "a limit is raised")?;
    ensure(world.take_token_of(&tale()).await, "which wakes workers")?;
    ensure(world.claim_from(&[tale(), story()], 9).await?.claims.len() == 1, "and applies at once")
}

/// A worker that claims from the queue itself wakes those of the others too.
pub(super) async fn siblings(world: &mut World) -> Check {
    world.share_both(concurrency(1), 1).await?;
    // Rounds of sweeps, which visit all queues, come every ten seconds: the next one is far away.
    world.sweep_for_seconds(12).await?;
    let mut claims = world.claim_from(&[story()], 9).await?.claims;
    ensure(claims.len() == 1, "one job runs")?;
    world.take_all_tokens().await;
    let done = claims.remove(0).lease.complete(Payload::json("1"));
    let _ = world.exchange_with_queues(vec![story()], vec![done], 9).await?;
    ensure(world.take_token_of(&tale()).await, "its end wakes workers of the other queue")?;
    ensure(!world.take_token_of(&tale()).await, "once")?;
    world.lease = Duration::from_secs(4);
    let claims = world.claim_from(&[tale()], 9).await?.claims;
    ensure(claims.len() == 1, "which start its job")?;
    world.submit(&[world.job("{}")]).await?;
    world.take_all_tokens().await;
    world.sweep_for_seconds(5).await?;
    ensure(world.take_token_of(&story()).await, "the loss of a worker wakes those of others too")?;
    ensure(world.claim_from(&[story()], 9).await?.claims.len() == 1, "which start a job")
}

pub(super) async fn rates(world: &mut World) -> Check {
    world.share_both(every(1000, 2), 9).await?;
    world.sweep_for_seconds(1).await?;
    world.lease = Duration::from_secs(600);
    let claims = world.claim_from(&[story(), tale()], 9).await?.claims;
    ensure(claims.len() == 2, "as many start at once in both queues as the burst")?;
    let exchanged = world.claim_from(&[tale()], 9).await?;
    ensure(exchanged.claims.is_empty(), "and no more")?;
    ensure(exchanged.next_due == Some(Duration::from_secs(1)), "until the next may start")?;
    world.take_all_tokens().await;
    world.sweep_for_seconds(1).await?;
    for queue in [story(), tale()] {
        ensure(world.take_token_of(&queue).await, "then workers of both queues are woken")?;
    }
    ensure(world.claim_from(&[story(), tale()], 9).await?.claims.len() == 1, "and one starts")?;
    ensure(world.claim_from(&[tale()], 9).await?.claims.is_empty(), "only one")?;
    world.advance_clock(60_000).await;
    let claims = world.claim_from(&[tale(), story()], 9).await?.claims;
    ensure(claims.len() == 2, "a pause allows no more than the burst")
}

/// A queue may share two limits, and have one of its own.
pub(super) async fn several(world: &mut World) -> Check {
    world.share_both(concurrency(3), 9).await?;
    let _ = world.set_shared("one", Some(concurrency(2))).await?;
    let own = concurrency(1);
    let limit = QueueLimit { own, shared: vec![named("both"), named("one")] };
    let set = world.broker.set_queue_limit(&story(), true, Some(limit.clone())).await;
    ensure(set.map_err(text)? == LimitChange::Done, "a queue has three limits")?;
    let read = world.broker.queue_limit(&story()).await.map_err(text)?;
    ensure(read.is_some_and(|read| read.limit == limit), "they read back")?;
    ensure(world.claim_from(&[story()], 9).await?.claims.len() == 1, "its own applies")?;
    let _ = world.share(&story(), &["one", "both"]).await?;
    ensure(world.claim_from(&[story()], 9).await?.claims.len() == 1, "that of itself")?;
    ensure(world.claim_from(&[tale()], 9).await?.claims.len() == 1, "that of both")?;
    let _ = world.set_shared("both", Some(concurrency(9))).await?;
    ensure(world.claim_from(&[story()], 9).await?.claims.is_empty(), "each applies")?;
    let _ = world.share(&story(), &["both"]).await?;
    ensure(world.shared("one").await?.queues.is_empty(), "a queue leaves a limit")?;
    ensure(world.claim_from(&[story()], 3).await?.claims.len() == 3, "then it does not apply")?;

    ensure(world.share(&story(), &["none"]).await? == LimitChange::UnknownLimit, "unknown")?;
    let removed = world.set_shared("both", None).await?;
    let both = SharedChange::Removed(vec![tale(), story()]);
    ensure(removed == both, "a limit is removed, whichever queues share it")?;
    ensure(world.set_shared("both", None).await? == SharedChange::Unknown, "once")?;
    ensure(world.take_token_of(&tale()).await, "which wakes workers")?;
    ensure(world.claim_from(&[tale()], 9).await?.claims.len() == 8, "then nothing is limited")?;
    let read = world.broker.queue_limit(&tale()).await.map_err(text)?;
    let read = read.ok_or("the queue is still in one partition")?;
    ensure(read.limit == QueueLimit::default(), "and the queue names it no more")?;
    // The limit of that name that is made later is another one.
    let _ = world.set_shared("both", Some(concurrency(1))).await?;
    ensure(world.shared("both").await?.queues.is_empty(), "a new one has no queues")
}

/// At most sixteen queues share a limit, and at most a hundred limits are in a partition.
pub(super) async fn bounds(world: &mut World) -> Check {
    let _ = world.set_shared("both", Some(concurrency(1))).await?;
    let queue = |number: usize| format!("q{number}").parse::<QueueName>().unwrap();
    for number in 0..16 {
        ensure(world.share(&queue(number), &["both"]).await? == LimitChange::Done, "sixteen")?;
    }
    let full = world.share(&queue(16), &["both"]).await?;
    ensure(full == LimitChange::SharedByTooMany, "queues share a limit")?;
    let again = world.share(&queue(3), &["both"]).await?;
    ensure(again == LimitChange::Done, "one of them may say so again")?;
    ensure(
        world.broker.set_queue_limit(&queue(3), true, None).await.map_err(text)?
            == LimitChange::Done,
        "one leaves",
    )?;
    ensure(world.share(&queue(16), &["both"]).await? == LimitChange::Done, "then another may")?;
    for number in 1..100 {
        let set = world.set_shared(&format!("l{number}"), Some(concurrency(1))).await?;
        ensure(set == SharedChange::Done, "a hundred limits")?;
    }
    let more = world.set_shared("more", Some(concurrency(1))).await?;
    ensure(more == SharedChange::TooMany, "are the most")?;
    let known = world.set_shared("l7", Some(concurrency(2))).await?;
    ensure(known == SharedChange::Done, "those may be changed")?;
    let all = world.broker.shared_limits().await.map_err(text)?;
    ensure(all.len() == 100 && all[0].name == named("both"), "all are listed by name")
}
