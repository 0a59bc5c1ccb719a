//! Schedules: what operators do with them, and what an audit says of them.

use crunch_common::broker::{
    Condition, Fired, MAX_SCHEDULES, Pause, PutOutcome, PutSchedule, ScheduleChange,
    ScheduleOrigin, ScheduleRecord, TickOutcome,
};
use crunch_common::schedule::{Overlap, Rule, ScheduleName, Timing};

use super::groups::text;
use super::schedules::{at, every_ten_seconds, submitted};
use super::*;

pub(super) async fn paused(world: &mut World) -> Check {
    world.put_schedule(&every_ten_seconds(Overlap::BufferOne)).await?;
    submitted(&world.next_tick().await?)?;
    ensure(world.next_tick().await? == [TickOutcome::Buffered], "one tick waits")?;
    let record = world.schedule().await?;
    let reason = ("misfit", "/n: expected text\nand more");
    let stale = world.broker.pause_schedule(&record, Some(1), reason).await.map_err(text)?;
    ensure(stale == ScheduleChange::OtherVersion, "only the version that is wrong is paused")?;
    let version = Some(record.version);
    let change = world.broker.pause_schedule(&record, version, reason).await.map_err(text)?;
    ensure(change == ScheduleChange::Done, "a misfit pauses it")?;
    let pause = world.schedule().await?.paused.ok_or("it is not paused")?;
    ensure(pause.code == "misfit" && pause.reason.contains("and more"), "with its reason")?;
    ensure(world.schedule().await?.buffered.is_none(), "what was buffered is dropped")?;
    ensure(world.looked_at().await.is_none(), "nobody looks at it")?;
    world.run_one().await?;
    ensure(world.next_tick().await?.is_empty(), "it has no ticks")?;
    ensure(world.fire_tick(&record).await? == Fired::Paused, "not even late ones")?;

    let requested = (Pause::REQUESTED, "");
    world.broker.pause_schedule(&record, None, requested).await.map_err(text)?;
    let code = world.schedule().await?.paused.map(|pause| pause.code);
    ensure(code.as_deref() == Some(Pause::REQUESTED), "an operator's pause stands")?;
    world.broker.pause_schedule(&record, version, reason).await.map_err(text)?;
    let code = world.schedule().await?.paused.map(|pause| pause.code);
    ensure(code.as_deref() == Some(Pause::REQUESTED), "also after another error")?;

    world.advance_clock(60_000).await;
    let next = record.timing.next_after(at(world.now)).unwrap();
    let change = world.broker.resume_schedule(&record, next).await.map_err(text)?;
    ensure(change == ScheduleChange::Done, "it is resumed")?;
    let record = world.schedule().await?;
    ensure(record.paused.is_none() && record.next == next, "with the next tick from now")?;
    submitted(&world.next_tick().await?)?;
    ensure(world.schedule().await?.submitted == 2, "what passed meanwhile is not made up for")
}

pub(super) async fn changed(world: &mut World) -> Check {
    let put = every_ten_seconds(Overlap::Skip);
    let when = |condition| PutSchedule { condition, ..put.clone() };
    let of = async |world: &World, condition| world.put_schedule(&when(condition)).await;
    ensure(of(world, Condition::Known).await? == PutOutcome::ConditionFailed, "there is none")?;
    ensure(of(world, Condition::New).await? == PutOutcome::Created, "it is created")?;
    ensure(of(world, Condition::New).await? == PutOutcome::ConditionFailed, "there is one")?;
    let record = world.schedule().await?;
    ensure(of(world, Condition::None).await? == PutOutcome::Unchanged, "a repetition")?;
    ensure(world.schedule().await? == record, "changes nothing")?;
    let stale = Condition::Version(record.version - 1);
    ensure(of(world, stale).await? == PutOutcome::ConditionFailed, "another version")?;
    let from_file = PutSchedule { origin: ScheduleOrigin::File, ..put.clone() };
    ensure(
        world.put_schedule(&from_file).await? == PutOutcome::OtherOrigin,
        "it is not of a file",
    )?;

    // A tick that is due is not lost because the payload changes.
    world.advance_clock(10_000 - world.now % 10_000).await;
    let tick = at(world.now);
    let other = PutSchedule {
        payload: b"{}".to_vec(),
        condition: Condition::Version(record.version),
        ..put.clone()
    };
    ensure(world.put_schedule(&other).await? == PutOutcome::Changed, "its payload is changed")?;
    let changed = world.schedule().await?;
    ensure(changed.version > record.version && changed.next == Some(tick), "its tick stays")?;
    ensure(changed.created_at == record.created_at, "so does its time of creation")?;
    ensure(world.fire_tick(&record).await? == Fired::Changed, "nothing fires as it was before")?;
    submitted(&world.fire_due().await?)?;
    let timing = Timing::of(Rule::Every(Duration::from_secs(60)));
    world
        .put_schedule(&PutSchedule { timing, condition: Condition::Known, ..other.clone() })
        .await?;
    let next = world.schedule().await?.next.map(Timestamp::unix_ms);
    ensure(next == Some(world.now - world.now % 60_000 + 60_000), "another timing, another tick")?;

    // A change ends the pause of an error; that of an operator stays.
    let record = world.schedule().await?;
    world.broker.pause_schedule(&record, None, ("misfit", "x")).await.map_err(text)?;
    world.advance_clock(120_000).await;
    let again =
        PutSchedule { payload: b"[]".to_vec(), timing: record.timing.clone(), ..put.clone() };
    ensure(world.put_schedule(&again).await? == PutOutcome::Changed, "its payload is corrected")?;
    let record = world.schedule().await?;
    ensure(record.paused.is_none(), "it goes on")?;
    ensure(record.next > Some(at(world.now)), "with the next tick from now")?;
    world.broker.pause_schedule(&record, None, (Pause::REQUESTED, "x")).await.map_err(text)?;
    world.put_schedule(&put).await?;
    ensure(world.schedule().await?.paused.is_some(), "an operator's pause stays")?;
    ensure(world.looked_at().await.is_none(), "and nobody looks at it")
}

pub(super) async fn removed(world: &mut World) -> Check {
    world.put_schedule(&every_ten_seconds(Overlap::Skip)).await?;
    submitted(&world.next_tick().await?)?;
    let record = world.schedule().await?;
    let stale = world.broker.delete_schedule(&record, Some(7)).await.map_err(text)?;
    ensure(stale == ScheduleChange::OtherVersion, "another version is not removed")?;
    let change = world.broker.delete_schedule(&record, Some(record.version)).await.map_err(text)?;
    ensure(change == ScheduleChange::Done, "it is removed")?;
    let listed = world.broker.schedules(None, None, 10).await.map_err(text)?;
    ensure(listed.is_empty() && world.looked_at().await.is_none(), "it is listed nowhere")?;
    ensure(world.fire_tick(&record).await? == Fired::Changed, "it has no ticks")?;
    world.run_one().await?;
    ensure(world.looked_at().await.is_none(), "the end of its job changes nothing")?;
    let change = world.broker.delete_schedule(&record, None).await.map_err(text)?;
    ensure(change == ScheduleChange::Unknown, "a second time there is none")?;
    world.put_schedule(&every_ten_seconds(Overlap::Skip)).await?;
    let version = world.schedule().await?.version;
    ensure(version > record.version, "a later one of that name has another version")
}

pub(super) async fn limited(world: &mut World) -> Check {
    let put = every_ten_seconds(Overlap::Skip);
    for number in 0..3 {
        let name: ScheduleName = format!("s{number}").parse().unwrap();
        world.put_schedule(&PutSchedule { name, ..put.clone() }).await?;
    }
    let names = |found: &[ScheduleRecord]| -> Vec<_> {
        found.iter().map(|record| record.name.as_str().to_owned()).collect()
    };
    let all = world.broker.schedules(None, None, 2).await.map_err(text)?;
    ensure(names(&all) == ["s0", "s1"], "they are listed by name")?;
    let rest = world.broker.schedules(Some(&all[1].name), None, 2).await.map_err(text)?;
    ensure(names(&rest) == ["s2"], "page by page")?;
    let others = ["other".parse().unwrap()].into();
    let none = world.broker.schedules(None, Some(&others), 2).await.map_err(text)?;
    ensure(none.is_empty(), "or those of some queues")?;
    let key = world.key("schedules:names");
    let mut fill = redis::cmd("ZADD");
    fill.arg(key);
    for number in 0..MAX_SCHEDULES - 3 {
        fill.arg(0).arg(format!("t{number}"));
    }
    let () = fill.query_async(&mut world.redis).await.unwrap();
    ensure(
        world.put_schedule(&put).await? == PutOutcome::TooMany,
        "there are ten thousand at most",
    )?;
    let known = PutSchedule { name: "s0".parse().unwrap(), payload: b"2".to_vec(), ..put };
    ensure(world.put_schedule(&known).await? == PutOutcome::Changed, "known ones may be changed")
}

pub(super) async fn audited(world: &mut World) -> Check {
    let put = every_ten_seconds(Overlap::BufferOne);
    world.put_schedule(&put).await?;
    world.expect_findings("").await?;
    // One that nobody would look at, or too late; one that lists do not show; and two without a record.
    world.tamper("ZREM", "schedules", &["nightly"]).await;
    world.expect_healed("unindexed 1").await?;
    let late = (world.now + 120_000).to_string();
    world.tamper("ZADD", "schedules", &[&late, "nightly"]).await;
    world.expect_healed("unindexed 1").await?;
    world.tamper("ZREM", "schedules:names", &["nightly"]).await;
    world.expect_healed("unindexed 1").await?;
    world.tamper("ZADD", "schedules", &["1", "gone"]).await;
    world.tamper("ZADD", "schedules:names", &["0", "lost"]).await;
    world.expect_healed("unindexed 2").await?;
    world.tamper("HSET", "schedule:nightly", &["paused", "1 requested x"]).await;
    world.expect_healed("unindexed 1").await?;
    // One that was taken by a process is looked at later, and that is no finding.
    world.tamper("HDEL", "schedule:nightly", &["paused"]).await;
    world.expect_healed("unindexed 1").await?;
    world.advance_clock(20_000).await;
    world
        .broker
        .due_schedules(Partition::default(), 1, LEASE)
        .await
        .map_err(|it| it.to_string())?;
    world.expect_findings("").await.map(|_| ())
}
