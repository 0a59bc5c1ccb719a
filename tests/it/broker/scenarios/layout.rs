//! What stops calls: a partition that is being moved to another node, and a feature that this version lacks.

use redis::Value;

use super::*;

/// A call succeeds, or its error contains this text.
fn expect<T>(answer: Result<T, String>, problem: Option<&str>) -> Check {
    match (answer, problem) {
        (Ok(_), None) => Ok(()),
        (Err(error), Some(problem)) if error.contains(problem) => Ok(()),
        (answer, problem) => Err(format!("{problem:?} expected, got {:?}", answer.err())),
    }
}

pub(super) async fn moving(world: &mut World) -> Check {
    world.submit(&[world.job("{}"), world.job("{}")]).await?;
    let claim = world.claim(1).await?.claims.remove(0);
    world.tamper("SET", "absent:1", &["what fails to be read while Redis moves it"]).await;

    expect(world.claim(1).await, Some("MOVING"))?;
    expect(world.heartbeat(&[claim.lease.key()]).await, Some("MOVING"))?;
    ensure(world.broker.sweep(Partition::default(), None).await.is_err(), "no sweep is made")?;
    ensure(
        world.query_number("LLEN", "queue:story:ready:normal").await == 1,
        "the other job is still ready",
    )?;

    world.tamper("DEL", "absent:1", &[]).await;
    expect(world.claim(1).await, None)
}

/// Uses a feature for the first time, and then one that only a later version has.
async fn use_features(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    ensure(world.query_number("HLEN", "layout").await == 2, "no feature is in use yet")?;
    for _ in 0..2 {
        world.submit(&[webhooks::job_with_webhook(world, &[Status::Failed])]).await?;
    }
    let used = world.tamper("HGET", "layout", &["features"]).await;
    ensure(used == Value::BulkString(b"webhooks".to_vec()), "the feature is listed, once")?;
    expect(world.heartbeat(&[]).await, None)?;

    world.tamper("HSET", "layout", &["features", "webhooks novelty"]).await;
    Ok(())
}

pub(super) async fn lacking_in_heartbeat(world: &mut World) -> Check {
    use_features(world).await?;
    expect(world.heartbeat(&[]).await, Some("novelty"))?;
    expect(world.submit(&[world.job("{}")]).await, Some("novelty"))
}

pub(super) async fn lacking_in_sweep(world: &mut World) -> Check {
    use_features(world).await?;
    let swept = world.broker.sweep(Partition::default(), None).await;
    expect(swept.map_err(|error| error.to_string()), Some("novelty"))?;
    expect(world.claim(1).await, Some("novelty"))
}
