//! Rules of groups: how many of their jobs run, start and wait.

use crunch_common::broker::{Claim, GroupId, GroupRule, GroupState, Rate, RuleChange};

use super::groups::{RUNNING, count, group_of, named, story, text, weight};
use super::*;

pub(super) async fn rules_limited(world: &mut World) -> Check {
    let unknown = world.rule(Some("a"), Some(weight(2.0))).await?;
    ensure(unknown == RuleChange::UnknownQueue, "a queue that does not exist has no groups")?;
    world.submit_grouped("a", 1).await?;
    for number in 0..1000 {
        world.set_rule(Some(&number.to_string()), weight(2.0)).await?;
    }
    let more = world.rule(Some("a"), Some(weight(2.0))).await?;
    ensure(more == RuleChange::TooMany, "no more than a thousand groups may have a rule")?;
    world.set_rule(Some("7"), weight(3.0)).await?;

    let page = world.broker.groups_of(&story(), 0, 3).await.map_err(text)?;
    let names: Vec<_> = page.items.iter().filter_map(|group| group.name.as_ref()).collect();
    ensure(
        (page.waiting, page.next) == (1, Some(3))
            && names == [&named("a"), &named("0"), &named("1")],
        "groups with jobs are listed first, then those with rules by name",
    )?;
    let last = world.broker.groups_of(&story(), 1000, 3).await.map_err(text)?;
    ensure((last.items.len(), last.next) == (1, None), "the list ends")?;

    world.broker.purge(&story()).await.map_err(text)?;
    world.advance_clock(2 * 86_400_000).await;
    world.sweep_for_seconds(2).await?;
    ensure(world.query_number("ZCARD", "queues").await == 1, "a queue with rules stays")
}

pub(super) async fn concurrency(world: &mut World) -> Check {
    world.set_each(GroupRule { concurrency: Some(2), ..GroupRule::default() }).await?;
    world.submit_grouped("a", 5).await?;
    world.submit_grouped("b", 1).await?;
    let mut claims = world.claim(9).await?.claims;
    let groups: Vec<_> = claims.iter().map(group_of).collect();
    ensure([count(&groups, "a"), count(&groups, "b")] == [2, 1], "two jobs of a group run")?;
    let _ = world.take_wake_token().await;
    ensure(world.claim(9).await?.claims.is_empty(), "and no more")?;
    ensure(!world.take_wake_token().await, "nobody is woken for a group that may start none")?;
    let page = world.broker.groups_of(&story(), 0, 9).await.map_err(text)?;
    let blocked: Vec<_> = page.items.iter().map(|group| (group.state, group.running)).collect();
    ensure(blocked == [(GroupState::Blocked, 2)], "the list says what a group waits for")?;
    world.submit_grouped("c", 1).await?;
    let page = world.broker.groups_of(&story(), 0, 1).await.map_err(text)?;
    ensure((page.items.len(), page.next) == (1, Some(1)), "in pages")?;
    let page = world.broker.groups_of(&story(), 1, 1).await.map_err(text)?;
    ensure((page.items.len(), page.next) == (1, None), "to the last")?;
    ensure(world.claim(1).await?.claims.len() == 1, "the other group goes on")?;

    let at = claims.iter().position(|claim| group_of(claim) == "a").unwrap();
    let done = claims.remove(at).lease.complete(Payload::json("1"));
    let exchanged = world.exchange(vec![done], 9).await?;
    ensure(exchanged.claims.len() == 1, "one that ends makes room for another")?;
    world.sweep_for_seconds(11).await?;
    let _ = world.take_wake_token().await;
    let claims = world.claim(9).await?.claims;
    ensure(claims.len() == 4, "jobs whose worker was lost make room too")?;
    ensure(claims.iter().filter(|claim| group_of(claim) == "a").count() == 2, "for as many")?;

    let _ = world.take_wake_token().await;
    world.set_rule(None, GroupRule { concurrency: Some(3), ..GroupRule::default() }).await?;
    ensure(world.take_wake_token().await, "a higher limit wakes a worker")?;
    ensure(world.claim(9).await?.claims.len() == 1, "and applies at once")?;
    world.set_rule(Some("a"), GroupRule { concurrency: Some(1), ..GroupRule::default() }).await?;
    world.submit_grouped("a", 3).await?;
    ensure(world.claim(9).await?.claims.is_empty(), "so does a lower one; what runs goes on")?;
    ensure(world.rule(Some("a"), None).await? == RuleChange::Done, "a rule is removed")?;
    ensure(world.rule(None, None).await? == RuleChange::Done, "that of each group too")?;
    ensure(world.claim(9).await?.claims.len() == 4, "then nothing is limited")
}

pub(super) async fn bounded(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..300).map(|at| world.grouped(&(at % 150).to_string())).collect();
    world.submit(&jobs).await?;
    let claimed = world.groups_claimed(5, 30).await?;
    ensure(claimed.len() == 150 && count(&claimed, "7") == 1, "a job of each group runs")?;
    world.set_rule(None, GroupRule { concurrency: Some(1), ..GroupRule::default() }).await?;
    for more in [true, false] {
        let exchanged = world.claim(30).await?;
        ensure(exchanged.claims.is_empty(), "no other may start")?;
        ensure(exchanged.more == more, "a call looks at a hundred groups")?;
    }
    ensure(
        world.query_number("ZCARD", "queue:story:blocked_groups").await == 150,
        "all wait for the end of a job",
    )
}

pub(super) async fn faster(world: &mut World) -> Check {
    let a_day = Rate { starts: 1, per: Duration::from_secs(86_400), burst: 1 };
    world.set_each(GroupRule { rate: Some(a_day), ..GroupRule::default() }).await?;
    world.submit_grouped("a", 3).await?;
    ensure(world.claim(9).await?.claims.len() == 1, "one may start a day")?;
    let a_second = Rate { starts: 1, per: Duration::from_secs(1), burst: 1 };
    world.set_rule(None, GroupRule { rate: Some(a_second), ..GroupRule::default() }).await?;
    let next = world.claim(9).await?.next_due;
    ensure(next == Some(Duration::from_secs(1)), &format!("a faster rate applies, {next:?}"))?;

    world.tamper("ZADD", "queue:story:delayed_groups", &[&u64::MAX.to_string(), &id_of("a")]).await;
    world.advance_clock(1000).await;
    world.sweep_for_seconds(1).await?;
    ensure(world.claim(9).await?.claims.len() == 1, "a sweep looks at groups that wait too long")
}

fn id_of(group: &str) -> String {
    GroupId::of(&named(group)).to_string()
}

/// What was lost by damage, or changed for more groups than a change of the rule looks at.
pub(super) async fn looked_at(world: &mut World) -> Check {
    world.set_each(GroupRule { concurrency: Some(1), ..GroupRule::default() }).await?;
    world.submit_grouped("a", 2).await?;
    ensure(world.claim(9).await?.claims.len() == 1, "one job of the group runs")?;
    world.tamper("DEL", RUNNING, &[]).await;
    ensure(world.claim(9).await?.claims.is_empty(), "the group waits in vain")?;
    world.sweep_for_seconds(1).await?;
    ensure(world.claim(9).await?.claims.len() == 1, "until a sweep looks at it")
}

pub(super) async fn rate(world: &mut World) -> Check {
    world.lease = Duration::from_secs(600);
    let rate = Rate { starts: 2, per: Duration::from_secs(3), burst: 2 };
    world.set_each(GroupRule { rate: Some(rate), ..GroupRule::default() }).await?;
    world.submit_grouped("a", 9).await?;
    let _ = world.take_wake_token().await;
    let exchanged = world.claim(9).await?;
    ensure(exchanged.claims.len() == 2, "a burst may start at once")?;
    let next = exchanged.next_due.map(|due| due.as_millis());
    ensure(next == Some(1500), &format!("the worker learns when the next may, {next:?}"))?;
    ensure(!world.take_wake_token().await, "nobody is woken before")?;
    let page = world.broker.groups_of(&story(), 0, 9).await.map_err(text)?;
    let at = Timestamp::from_unix_ms(world.now + 1500);
    ensure(page.items[0].state == GroupState::Delayed(at), "the list says when")?;

    world.advance_clock(1499).await;
    ensure(world.claim(9).await?.claims.is_empty(), "and not earlier")?;
    world.advance_clock(1).await;
    ensure(world.claim(9).await?.claims.len() == 1, "then one may start")?;
    world.advance_clock(10_000).await;
    world.sweep_for_seconds(1).await?;
    ensure(world.take_wake_token().await, "a sweep wakes a worker once a rate allows it")?;
    ensure(world.claim(9).await?.claims.len() == 2, "a pause earns a burst and no more")?;
    world.advance_clock(60_000).await;
    world.sweep_for_seconds(12).await?;
    ensure(
        world.query_number("ZCARD", "queue:story:rates").await == 0,
        "unused rates are forgotten",
    )?;
    ensure(world.rule(None, None).await? == RuleChange::Done, "a rule is removed")?;
    ensure(world.claim(9).await?.claims.len() == 4, "then nothing is limited")
}

pub(super) async fn capped(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    world.set_each(GroupRule { max_queued: Some(3), ..GroupRule::default() }).await?;
    world.submit_grouped("a", 2).await?;
    let jobs = [world.grouped("a"), world.grouped("a"), world.grouped("b"), world.job("{}")];
    let answers = world.broker.enqueue(&jobs).await;
    let refused: Vec<_> = answers
        .iter()
        .map(|answer| matches!(answer, Err(crunch_common::broker::Error::GroupFull { .. })))
        .collect();
    ensure(refused == [false, true, false, false], "a fourth job of a group is refused")?;
    let again = world.broker.enqueue(&jobs[..1]).await.remove(0).map_err(text)?;
    ensure(again == Enqueued::AlreadyCreated(jobs[0].id), "one that is known is not")?;
    let _ = world.claim(9).await?;
    world.submit_grouped("a", 3).await.map(|_| ())
}

/// A job that must run alone still counts.
pub(super) async fn alone_limited(world: &mut World) -> Check {
    let one = GroupRule { concurrency: Some(1), ..GroupRule::default() };
    world.set_each(one).await?;
    world.submit_grouped("a", 1).await?;
    for _ in 0..2 {
        world.sweep_for_seconds(11).await?;
        ensure(world.claim(1).await?.claims.len() == 1, "the job is claimed")?;
    }
    world.sweep_for_seconds(11).await?;
    ensure(world.query_number("LLEN", "queue:story:ready:solitary").await == 1, "it runs alone")?;
    world.submit_grouped("a", 1).await?;
    world.busy = 1;
    let claims = world.exchange_with_queues(vec![story()], Vec::new(), 0).await?.claims;
    ensure(claims.is_empty(), "nothing is wanted")?;
    world.tamper("DEL", "reserved", &[]).await;
    let claimed = world.broker.groups_of(&story(), 0, 9).await.map_err(text)?.items;
    ensure(claimed.len() == 1, "another of its group waits")?;
    world.busy = 0;
    let first = world.claim(1).await?.claims;
    ensure(first.len() == 1, "the one that must run alone is first")?;
    ensure(world.query_number("ZCARD", RUNNING).await == 1, "and counts as running")?;
    world.worker = WorkerId::generate();
    ensure(world.claim(1).await?.claims.is_empty(), "so no other may start beside it")?;
    world.sweep_for_seconds(11).await?;
    let other = world.claim(9).await?;
    ensure(other.claims.len() == 1, "one of them may once it is lost")?;
    world.worker = WorkerId::generate();
    ensure(world.claim(9).await?.claims.is_empty(), "and not both")
}

/// Nor does a job that must run alone stop a worker while its group may not start it.
pub(super) async fn alone_blocked(world: &mut World) -> Check {
    world.set_each(GroupRule { concurrency: Some(1), ..GroupRule::default() }).await?;
    world.submit_grouped("a", 1).await?;
    for _ in 0..3 {
        world.sweep_for_seconds(11).await?;
        let _ = world.claim(1).await?;
    }
    world.sweep_for_seconds(11).await?;
    ensure(world.query_number("LLEN", "queue:story:ready:solitary").await == 1, "it runs alone")?;
    world.submit_grouped("a", 1).await?;
    world.busy = 1;
    ensure(world.claim(1).await?.reserved, "a busy worker is reserved for it")?;
    let reserved = std::mem::replace(&mut world.worker, WorkerId::generate());
    ensure(world.claim(1).await?.claims.is_empty(), "others of its group wait for it")?;
    world.rule(None, None).await?;
    ensure(world.claim(1).await?.claims.len() == 1, "unless nothing limits them")?;
    let one = GroupRule { concurrency: Some(1), ..GroupRule::default() };
    world.set_rule(None, one).await?;
    world.worker = reserved;
    world.tamper("DEL", "reserved", &[]).await;
    world.submit(&[world.job("{}")]).await?;
    let exchanged = world.claim(1).await?;
    ensure(!exchanged.reserved, "no worker is reserved for a job that may not start")?;
    world.busy = 0;
    ensure(exchanged.claims.len() == 1, "jobs of others go on")
}

pub(super) async fn parked(world: &mut World) -> Check {
    world.set_each(GroupRule { concurrency: Some(1), ..GroupRule::default() }).await?;
    let ids = world.submit_grouped("a", 2).await?;
    let claim = world.claim(9).await?.claims.pop().ok_or("a job is claimed")?;
    let _ = world.exchange(vec![claim.lease.release(ReleaseCause::Unroutable)], 0).await?;
    let job = world.read_job(ids[0]).await?;
    ensure(job.status == Status::Queued, "a job whose task a worker lacks is parked")?;
    world.set_tasks(&["another"]);
    let other = world.claim(9).await?.claims.pop().ok_or("the next of its group is claimed")?;
    ensure(other.job.id == ids[1], "a worker without the task gets only that")?;
    world.set_tasks(&["story"]);
    let _ = world.take_wake_token().await;
    ensure(world.claim(9).await?.claims.is_empty(), "the parked one counts in its group")?;
    ensure(!world.take_wake_token().await, "nobody is woken for it")?;
    let done = other.lease.complete(Payload::json("1"));
    let claims = world.exchange(vec![done], 9).await?.claims;
    ensure(claims.len() == 1 && claims[0].job.id == ids[0], "and starts when the other ended")?;
    ensure(world.query_number("ZCARD", RUNNING).await == 1, "and runs in its group")?;

    let _ = world.exchange(claims.into_iter().map(release).collect(), 0).await?;
    world.broker.cancel(ids[0]).await.map_err(text)?;
    world.broker.retry(ids[0]).await.map_err(text)?;
    let audit = world.broker.audit(|_| ()).await.map_err(text)?;
    ensure(audit.is_clean(), &format!("{:?}", audit.findings))?;
    ensure(world.claim(9).await?.claims.len() == 1, "one that is retried keeps its place")
}

pub(super) async fn together(world: &mut World) -> Check {
    world.set_each(GroupRule { concurrency: Some(1), ..GroupRule::default() }).await?;
    let _ = world.submit_grouped("a", 1).await?;
    let claims = world.claim(9).await?.claims;
    let _ = world.exchange(claims.into_iter().map(release).collect(), 0).await?;
    let _ = world.submit_grouped("a", 1).await?;
    world.set_tasks(&["story"]);
    ensure(
        world.claim(9).await?.claims.len() == 1,
        "of a parked job and one in its turn, one call starts one",
    )
}

fn release(claim: Claim) -> Settlement {
    claim.lease.release(ReleaseCause::Unroutable)
}
