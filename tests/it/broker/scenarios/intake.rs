//! What comes in: keys that make one job of two requests, and records that cannot be read.

use super::*;

pub(super) async fn idempotency(world: &mut World) -> Check {
    let keyed = |world: &World, key: &str, request: &str| {
        let idempotency = Idempotency::new(&[key.as_bytes()], &[request.as_bytes()]);
        let id = world.broker.new_id(Some(&idempotency));
        NewJob { id, idempotency: Some(idempotency), ..world.job("{}") }
    };
    let batch = [
        keyed(world, "a", "x"),
        keyed(world, "a", "x"),
        keyed(world, "a", "y"),
        keyed(world, "b", "x"),
    ];
    let once = |answers: Vec<Result<Enqueued, _>>| {
        answers
            .into_iter()
            .map(Result::<_, crunch_common::broker::Error>::unwrap)
            .collect::<Vec<_>>()
    };
    let first = once(world.broker.enqueue(&batch).await);
    ensure(matches!(first[0], Enqueued::Created(_)), "the first makes a job")?;
    ensure(first[1] == Enqueued::Replayed(batch[0].id), "the second in the same call is that job")?;
    ensure(first[2] == Enqueued::Conflict, "another request with the key is refused")?;
    ensure(matches!(first[3], Enqueued::Created(_)), "another key makes another job")?;
    let again = once(world.broker.enqueue(&[keyed(world, "a", "x"), keyed(world, "a", "z")]).await);
    ensure(again[0] == Enqueued::Replayed(batch[0].id), "a later call finds that job")?;
    ensure(again[1] == Enqueued::Conflict, "and refuses another request")?;
    ensure(world.length("LLEN", "queue:story:ready:normal").await == 2, "two jobs are queued")
}

pub(super) async fn quarantine(world: &mut World) -> Check {
    let jobs: Vec<_> = (0..10).map(|_| world.job("{}")).collect();
    world.submit(&jobs).await?;
    let broken = world.key(&format!("job:{}", jobs[4].id));
    let () = redis::pipe()
        .cmd("DEL")
        .arg(&broken)
        .cmd("SET")
        .arg(&broken)
        .arg("junk")
        .ignore()
        .exec_async(&mut world.redis)
        .await
        .unwrap();
    let claims = world.claim(10).await?.claims;
    ensure(claims.len() == 9, "nine are handed out")?;
    ensure(world.length("ZCARD", "quarantine").await == 1, "one is put aside")?;
    ensure(world.length("LLEN", "queue:story:ready:normal").await == 0, "none is left behind")
}
