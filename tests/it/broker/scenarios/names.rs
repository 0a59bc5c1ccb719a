//! The index of queues by name: lists are read from it.

use crunch_common::broker::QueueQuery;

use super::*;

/// The names of all queues, by pages of two.
async fn listed_names(world: &World) -> Result<Vec<String>, String> {
    let (mut query, mut names) = (QueueQuery::first(2), Vec::new());
    loop {
        let page = world.broker.queues(&query).await.map_err(|error| error.to_string())?;
        names.extend(page.items.iter().map(|queue| queue.name.to_string()));
        query.after = page.next;
        if query.after.is_none() {
            return Ok(names);
        }
    }
}

/// Queues become known by a submission, a worker, and a pause.
async fn fill(world: &World) -> Check {
    let job = |queue: &str| NewJob { queue: queue.parse().unwrap(), ..world.job("{}") };
    world.submit(&["b", "d.1", "a"].map(job)).await?;
    let served = ["c".parse().unwrap()];
    world.broker.announce(&served, &[]).await.map_err(|error| error.to_string())?;
    let paused = world.broker.pause(&"e".parse().unwrap(), true).await;
    ensure(paused.map_err(|error| error.to_string())?, "a queue is paused before its first job")
}

const ALL: [&str; 5] = ["a", "b", "c", "d.1", "e"];

pub(super) async fn listed(world: &mut World) -> Check {
    fill(world).await?;
    ensure(
        world.query_number("ZCARD", "queues:names").await == 5,
        "each queue is listed when it becomes known",
    )?;
    ensure(listed_names(world).await? == ALL, "pages list the queues by name")?;

    world.tamper("DEL", "queues:names", &[]).await;
    ensure(listed_names(world).await? == ALL, "pages list the queues without the index of names")?;

    world.tamper("ZADD", "queues:names", &["0", "forgotten"]).await;
    ensure(
        listed_names(world).await? == ALL,
        "pages do not list a removed queue that is still in the index",
    )?;

    world.broker.sweep(Partition::default(), None).await.map_err(|error| error.to_string())?;
    ensure(world.query_number("ZCARD", "queues:names").await == 5, "a sweep corrects the names")
}

pub(super) async fn audited(world: &mut World) -> Check {
    fill(world).await?;
    world.tamper("ZREM", "queues:names", &["b"]).await;
    // As many as there are queues, so that no sweep notices.
    world.tamper("ZADD", "queues:names", &["0", "x"]).await;

    let mut audit = world.broker.audit(|_| {}).await.map_err(|error| error.to_string())?;
    ensure(audit.findings.len() == 1, "the audit finds the queue")?;
    world.broker.heal(&mut audit).await.map_err(|error| error.to_string())?;
    ensure(audit.is_clean(), "healing lists the queue again")
}
