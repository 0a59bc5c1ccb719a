//! The newest jobs over all queues.

use crunch_common::broker::{ListQuery, Page};

use super::*;

/// All pages of a list, and how many there are.
async fn all_pages(world: &World, mut query: ListQuery) -> Result<(Vec<JobId>, usize), String> {
    let (mut ids, mut pages) = (Vec::new(), 0);
    loop {
        let page: Page = world.broker.list(&query).await.map_err(|error| error.to_string())?;
        ids.extend(page.items.iter().map(|job| job.id));
        pages += 1;
        query.cursor = page.next;
        if query.cursor.is_none() {
            return Ok((ids, pages));
        }
    }
}

pub(super) async fn listed(world: &mut World) -> Check {
    let mut jobs = Vec::new();
    for number in 0..60 {
        let queue = if number % 3 == 0 { "other" } else { "story" };
        let start = if number % 5 == 0 { Start::After(LEASE) } else { Start::Now };
        jobs.push(NewJob { queue: queue.parse().unwrap(), start, ..world.job("{}") });
    }
    jobs.sort_by_key(|job| job.id);
    // Alone, and with others. The second one that is alone finds its queue in use, and no other in a lane of its own.
    for job in &mut jobs[..2] {
        (job.queue, job.start) = ("story".parse().unwrap(), Start::Now);
    }
    for jobs in [&jobs[..1], &jobs[1..2], &jobs[2..]] {
        world.submit(jobs).await?;
    }
    let claims = world.claim(5).await?.claims;
    let complete = |claim: crunch_common::broker::Claim| claim.lease.complete(Payload::json("1"));
    let settled = world.exchange(claims.into_iter().map(complete).collect(), 0).await?.settled;
    ensure(settled == [Settled::Done; 5], "five jobs succeed")?;

    let newest_first: Vec<_> = jobs.iter().rev().map(|job| job.id).collect();
    for limit in [1, 7, 50, 59, 60, 61, 100] {
        let query = ListQuery { limit, ..ListQuery::default() };
        let (ids, pages) = all_pages(world, query).await?;
        ensure(ids == newest_first, "the newest are first, whatever their queue and status")?;
        ensure(pages <= 60_usize.div_ceil(limit) + 1, "pages are full")?;
    }
    let task = "story".parse().ok();
    let filtered = ListQuery { task, limit: 7, ..ListQuery::default() };
    ensure(all_pages(world, filtered).await?.0 == newest_first, "with a filter as well")?;
    let queue = "other".parse().ok();
    let in_other = jobs.iter().filter(|job| Some(&job.queue) == queue.as_ref()).count();
    let of_queue = ListQuery { queue, limit: 7, ..ListQuery::default() };
    ensure(all_pages(world, of_queue).await?.0.len() == in_other, "those of a queue are listed")?;

    // What the list of the newest does not have follows.
    let kept = newest_first.iter().take(10).map(ToString::to_string).collect::<Vec<_>>();
    world.tamper("LTRIM", "recent", &["0", "9"]).await;
    for limit in [1, 9, 10, 11, 100] {
        let query = ListQuery { limit, ..ListQuery::default() };
        let (ids, _) = all_pages(world, query).await?;
        let first: Vec<_> = ids.iter().take(10).map(ToString::to_string).collect();
        ensure(first == kept, "the newest are first")?;
        let mut ids = ids;
        ids.sort_by(|one, other| other.cmp(one));
        ensure(ids == newest_first, "and each other job follows once")?;
    }
    Ok(())
}

pub(super) async fn trimmed(world: &mut World) -> Check {
    let many: Vec<_> = (0..1100).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    world.tamper("RPUSH", "recent", &many).await;
    world.submit(&[world.job("{}")]).await?;
    world.sweep_for_seconds(1).await?;
    ensure(world.query_number("LLEN", "recent").await == 1000, "a sweep trims the list")?;
    let newest: String = redis::cmd("LINDEX")
        .arg(world.key("recent"))
        .arg(0)
        .query_async(&mut world.redis)
        .await
        .unwrap();
    ensure(newest.parse::<JobId>().is_ok(), "and keeps the newest")
}
