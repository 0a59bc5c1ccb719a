//! The history of attempts and queues.

use crunch_common::broker::{
    AttemptCounts, CountsByQueue, Ended, History, HistoryQuery, QueueSeries, Unit,
};

use super::*;

/// How long the parts are kept, and how many series an hour has by name.
const KEPT_HOURS: [(Unit, u64); 2] = [(Unit::Minute, 72), (Unit::Hour, 90 * 24)];
const MOST_SERIES: usize = 100;

/// Attempts of tasks in the queue of the scenarios.
fn counts(number: u64, attempts: &[(&str, &str)]) -> Option<NumberedCounts> {
    let mut counts = CountsByQueue::new();
    for (task, outcome) in attempts {
        let tasks = counts.entry("story".parse().unwrap()).or_default();
        let counts: &mut AttemptCounts = tasks.entry(task.parse().unwrap()).or_default();
        counts.add(outcome, Duration::from_millis(100));
    }
    Some(NumberedCounts { number, counts })
}

/// The last minutes or hours, the current one included.
async fn read(world: &World, unit: Unit, points: usize) -> Result<History, String> {
    let last = unit.number(Timestamp::from_unix_ms(world.now));
    let first = last + 1 - points as u64;
    let query = HistoryQuery { unit, first, points, among: None, queue: None, task: None };
    world.broker.history(&query).await.map_err(|error| error.to_string())
}

/// Moves the clock to the beginning of an hour: what follows within it is in the same one.
async fn begin_hour(world: &mut World) {
    let hour_ms = Unit::Hour.length().as_secs() * 1000;
    world.advance_clock(hour_ms - world.now % hour_ms).await;
}

/// Each part is kept for its time, from when it was last written.
async fn ensure_kept(world: &mut World, tail: &str) -> Check {
    for (unit, hours) in KEPT_HOURS {
        let number = unit.number(Timestamp::from_unix_ms(world.now));
        let left = world.query_number("PTTL", &format!("history:{unit}:{number}{tail}")).await;
        let kept = hours * 3_600_000;
        ensure((kept - 60_000..=kept).contains(&left), "the history is kept for its time")?;
    }
    Ok(())
}

pub(super) async fn counted(world: &mut World) -> Check {
    begin_hour(world).await;
    // The first heartbeat may come after the first attempts.
    for _ in 0..2 {
        let attempts = [("story", "succeeded"), ("story", "retrying"), ("other", "succeeded")];
        world.counts = counts(1, &attempts);
        world.heartbeat(&[]).await?;
    }
    // Redis does not know the worker any more: they may have been counted.
    world.tamper("DEL", &format!("worker:{}", world.worker), &[]).await;
    world.counts = counts(2, &[("story", "failed")]);
    world.heartbeat(&[]).await?;
    ensure_kept(world, "").await?;
    world.advance_clock(60_000).await;
    world.counts = counts(3, &[("story", "succeeded"), ("story", "succeeded")]);
    world.heartbeat(&[]).await?;
    world.counts = counts(4, &[("story", "canceled"), ("story", "released")]);
    world.heartbeat(&[]).await?;

    let of = |task: &str| Some(("story".parse().unwrap(), task.parse().unwrap()));
    let first = Ended { succeeded: 1, retried: 1, run_ms: 200, ..Ended::default() };
    let second = Ended { succeeded: 2, canceled: 1, run_ms: 300, ..Ended::default() };
    let other = Ended { succeeded: 1, run_ms: 100, ..Ended::default() };
    let minutes = read(world, Unit::Minute, 3).await?.attempts;
    let found: Vec<_> = minutes.iter().map(|series| (&series.of, &series.points[..])).collect();
    let none = Ended::default();
    let expected =
        [(&of("other"), &[none, other, none][..]), (&of("story"), &[none, first, second])];
    ensure(found == expected, "attempts are counted once, in their minute")?;
    let half = minutes[1].durations.quantile(0.5).map(|it| it.as_millis());
    ensure(half.is_some_and(|ms| (64..=128).contains(&ms)), "durations are counted")?;
    let hours = read(world, Unit::Hour, 1).await?.attempts;
    let both = Ended { succeeded: 3, retried: 1, canceled: 1, run_ms: 500, failed: 0 };
    let found: Vec<_> = hours.iter().map(|series| (&series.of, &series.points[..])).collect();
    let expected = [(&of("other"), &[other][..]), (&of("story"), &[both])];
    ensure(found == expected, "and in their hour")
}

pub(super) async fn limited(world: &mut World) -> Check {
    begin_hour(world).await;
    world.heartbeat(&[]).await?;
    let names: Vec<_> = (0..MOST_SERIES + 5).map(|number| format!("t{number:03}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "succeeded")).collect();
    world.counts = counts(1, &all[..MOST_SERIES - 10]);
    world.heartbeat(&[]).await?;
    world.counts = counts(2, &all);
    world.heartbeat(&[]).await?;
    world.advance_clock(60_000).await;
    world.counts = counts(3, &all[MOST_SERIES - 1..]);
    world.heartbeat(&[]).await?;
    for unit in [Unit::Minute, Unit::Hour] {
        let points = if unit == Unit::Minute { 2 } else { 1 };
        let attempts = read(world, unit, points).await?.attempts;
        let named = attempts.iter().filter(|series| series.of.is_some()).count();
        ensure(named == MOST_SERIES, "an hour has a hundred series")?;
        let others = attempts.iter().find(|series| series.of.is_none()).ok_or("no others")?;
        let others: u64 = others.points.iter().map(Ended::attempts).sum();
        ensure(others == 10, "others are counted together")?;
        let all = attempts.iter().flat_map(|series| &series.points).map(Ended::attempts);
        ensure(all.sum::<u64>() == 201, "each attempt is counted")?;
    }
    Ok(())
}

/// Of the queue of the scenarios: its queued and running jobs in each point.
fn depths(history: &History) -> Vec<Option<(u64, u64)>> {
    let of_story = |series: &&QueueSeries| {
        series.queue.as_ref().is_some_and(|queue| queue.as_str() == "story")
    };
    let points = history.queues.iter().find(of_story).map(|series| series.points.clone());
    let depth = |depth: crunch_common::broker::Depth| (depth.queued, depth.running);
    points.unwrap_or_default().into_iter().map(|point| point.map(depth)).collect()
}

pub(super) async fn sampled(world: &mut World) -> Check {
    begin_hour(world).await;
    let sample =
        async |world: &World| world.broker.sample_queues().await.map_err(|error| error.to_string());
    let jobs: Vec<_> = (0..3).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    ensure(sample(world).await?, "the first one of a minute is added")?;
    ensure_kept(world, ":queues").await?;
    let _running = world.claim(2).await?.claims;
    ensure(!sample(world).await?, "a second one is not")?;
    world.advance_clock(120_000).await;
    ensure(sample(world).await?, "one in a later minute is added")?;
    let minutes = read(world, Unit::Minute, 3).await?;
    ensure(depths(&minutes) == [Some((3, 0)), None, Some((1, 2))], "each has its own depths")?;
    ensure(minutes.queues.len() == 1, "that there are no others is not shown")?;
    let hours = read(world, Unit::Hour, 1).await?;
    ensure(depths(&hours) == [Some((3, 2))], "the hour has the highest")
}
