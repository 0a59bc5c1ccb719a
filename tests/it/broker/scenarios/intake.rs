//! Submissions: idempotency keys, records that cannot be read, large payloads, and the order of a batch.

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
    let unwrap_all = |answers: Vec<Result<Enqueued, _>>| {
        answers
            .into_iter()
            .map(Result::<_, crunch_common::broker::Error>::unwrap)
            .collect::<Vec<_>>()
    };

    let first = unwrap_all(world.broker.enqueue(&batch).await);
    ensure(matches!(first[0], Enqueued::Created(_)), "the first submission creates a job")?;
    ensure(
        first[1] == Enqueued::Replayed(batch[0].id),
        "the second one in the same call returns that job",
    )?;
    ensure(first[2] == Enqueued::Conflict, "another request with the key is refused")?;
    ensure(matches!(first[3], Enqueued::Created(_)), "another key creates another job")?;

    let again =
        unwrap_all(world.broker.enqueue(&[keyed(world, "a", "x"), keyed(world, "a", "z")]).await);
    ensure(again[0] == Enqueued::Replayed(batch[0].id), "a later call returns that job")?;
    ensure(again[1] == Enqueued::Conflict, "a later call refuses another request with the key")?;
    ensure(world.query_number("LLEN", "queue:story:ready:normal").await == 2, "two jobs are queued")
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
    ensure(claims.len() == 9, "nine jobs are handed out")?;
    ensure(world.query_number("ZCARD", "quarantine").await == 1, "one job is in quarantine")?;
    ensure(
        world.query_number("LLEN", "queue:story:ready:normal").await == 0,
        "the ready list is empty",
    )
}

/// A payload that is too large for a function is stored before the call, and deleted if its job is not created.
pub(super) async fn large_payloads(world: &mut World) -> Check {
    let payload = |letter: &str, size: usize| format!("\"{}\"", letter.repeat(size));
    let texts =
        [payload("a", 65_534), payload("b", 65_535), payload("c", 10), payload("d", 1 << 20)];
    let jobs = texts.clone().map(|text| world.job(text));
    world.submit(&jobs).await?;

    for (at, field) in ["payload", "payload_large", "payload", "payload_large"].iter().enumerate() {
        let key = world.key(&format!("job:{}", jobs[at].id));
        let size: usize =
            redis::cmd("HSTRLEN").arg(key).arg(field).query_async(&mut world.redis).await.unwrap();
        ensure(size == texts[at].len(), "the payload is in the field for its size")?;
        let Ok(Lookup::Found(Some(read))) = world.broker.payload(jobs[at].id).await else {
            return Err("the payload cannot be read".into());
        };
        ensure(read.bytes == texts[at].as_bytes(), "the payload is read as it was submitted")?;
    }

    let answers = async |world: &World, jobs: &[NewJob]| {
        world.broker.enqueue(jobs).await.into_iter().filter_map(Result::ok).collect::<Vec<_>>()
    };
    let known = jobs.each_ref().map(|job| Enqueued::Known(job.id));
    ensure(
        answers(world, &jobs).await == known,
        "the jobs are known when they are submitted again",
    )?;

    let claims = world.claim(4).await?.claims;
    let claimed: Vec<_> = claims.iter().map(|claim| &claim.job.payload.bytes[..]).collect();
    ensure(claimed == texts.each_ref().map(String::as_bytes), "the payloads are handed out whole")?;

    let keyed = |world: &World, request: &str| {
        let idempotency = Idempotency::new(&[b"large"], &[request.as_bytes()]);
        let id = world.broker.new_id(Some(&idempotency));
        NewJob { id, idempotency: Some(idempotency), ..world.job(payload("e", 100_000)) }
    };
    let first = keyed(world, "x");
    world.submit(std::slice::from_ref(&first)).await?;
    for (request, expected) in [("x", Enqueued::Replayed(first.id)), ("y", Enqueued::Conflict)] {
        let job = keyed(world, request);
        ensure(answers(world, std::slice::from_ref(&job)).await == [expected], "the key is known")?;
        ensure(
            world.query_number("EXISTS", &format!("job:{}", job.id)).await == 0,
            "nothing is left of the refused job",
        )?;
    }

    ensure(world.broker.cancel(first.id).await.is_ok(), "the job is canceled")?;
    ensure(world.broker.delete(first.id).await.is_ok(), "the job is deleted")?;
    let known = [Enqueued::Known(first.id)];
    ensure(
        answers(world, std::slice::from_ref(&first)).await == known,
        "the id of the tombstone is known",
    )?;
    ensure(
        world.query_number("HLEN", &format!("job:{}", first.id)).await == 1,
        "the tombstone has one field",
    )
}

pub(super) async fn order(world: &mut World) -> Check {
    let job = |at| match at % 2 {
        0 => world.job("{}"),
        _ => NewJob { retention: Some(Duration::from_secs(3600)), ..world.job("{}") },
    };
    let jobs: Vec<_> = (0..10).map(job).collect();
    world.submit(&jobs).await?;

    let claims = world.claim(10).await?.claims;
    let taken = claims.iter().map(|claim| claim.job.id);
    ensure(taken.eq(jobs.iter().map(|job| job.id)), "jobs are claimed in the order of the batch")
}
