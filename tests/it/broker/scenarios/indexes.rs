//! Indexes of metadata: which jobs they list, and until when.

use crunch_common::broker::{IndexId, ListQuery};

use super::*;

const ACME: (&str, &str) = ("customer", "acme");
const NORTH: (&str, &str) = ("region", "north");

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn text(error: crunch_common::broker::Error) -> String {
    error.to_string()
}

fn index_of((name, value): (&str, &str)) -> IndexId {
    IndexId::of(name, value).unwrap()
}

impl World {
    /// A job with these labels, all of them indexed.
    pub(super) fn labelled(&self, labels: &[(&str, &str)]) -> NewJob {
        let mut job = self.job("{}");
        for &(name, value) in labels {
            job.options.metadata.insert(name.to_owned(), value.to_owned()).unwrap();
        }
        NewJob { indexes: labels.iter().map(|&label| index_of(label)).collect(), ..job }
    }

    /// How many jobs the indexes of `ACME` and `NORTH` have.
    async fn sizes(&mut self) -> [u64; 2] {
        let [acme, north] = [ACME, NORTH].map(|label| format!("index:{}", index_of(label)));
        [self.query_number("ZCARD", &acme).await, self.query_number("ZCARD", &north).await]
    }

    /// The jobs with a label, in pages of two.
    async fn found(&self, label: (&str, &str), query: ListQuery) -> Result<Vec<JobId>, String> {
        let mut query = ListQuery { index: Some(index_of(label)), limit: 2, ..query };
        query.metadata.insert(label.0.to_owned(), label.1.to_owned()).unwrap();
        let mut ids = Vec::new();
        loop {
            let page = self.broker.list(&query).await.map_err(text)?;
            ids.extend(page.items.iter().map(|job| job.id));
            query.cursor = page.next;
            if query.cursor.is_none() {
                return Ok(ids);
            }
        }
    }

    async fn sweep(&self) -> Check {
        self.broker.sweep(Partition::default(), None).await.map(|_| ()).map_err(text)
    }
}

pub(super) async fn kept(world: &mut World) -> Check {
    world.submit(&[world.job("{}")]).await?;
    ensure(world.sizes().await == [0, 0], "a job without labels is in no index")?;
    let jobs = [world.labelled(&[ACME, NORTH]), world.labelled(&[ACME])];
    for _ in 0..2 {
        world.submit(&jobs).await?;
    }
    ensure(world.sizes().await == [2, 1], "each job is in the index of each of its labels")?;
    let used = world.tamper("HGET", "layout", &["features"]).await;
    let listed = redis::Value::BulkString(b"indexes".to_vec());
    ensure(used == listed, "the feature is listed, once")?;

    let claims = world.claim(3).await?.claims;
    let error = JobError::permanent(ErrorCode::task_failed(), "no");
    let fail = |claim: crunch_common::broker::Claim| claim.lease.fail(error.clone());
    let settled = world.exchange(claims.into_iter().map(fail).collect(), 0).await?.settled;
    ensure(settled == [Settled::Done; 3], "all jobs fail")?;
    ensure(world.sizes().await == [2, 1], "jobs that ended stay")?;
    world.broker.retry(jobs[0].id).await.map_err(text)?;
    world.broker.delete(jobs[1].id).await.map_err(text)?;
    ensure(
        world.sizes().await == [1, 1],
        "a job that runs again stays, one that is deleted leaves",
    )?;
    world.broker.cancel(jobs[0].id).await.map_err(text)?;
    world.broker.delete(jobs[0].id).await.map_err(text)?;
    ensure(world.sizes().await == [0, 0], "a job leaves all of its indexes")
}

pub(super) async fn expiry(world: &mut World) -> Check {
    let jobs = [world.labelled(&[ACME, NORTH]), world.labelled(&[ACME]), world.labelled(&[NORTH])];
    world.submit(&jobs).await?;
    for job in &jobs[..2] {
        world.broker.cancel(job.id).await.map_err(text)?;
    }
    world.advance_clock(25 * 3600 * 1000).await;
    world.sweep().await?;
    ensure(world.sizes().await == [0, 1], "jobs that expire leave their indexes")?;

    // A nearly full Redis: without `maxmemory`, 0 percent of it are used, at or above this watermark.
    world.broker.cancel(jobs[2].id).await.map_err(text)?;
    world.tamper("HSET", "sweep", &["watermark", "0"]).await;
    for _ in 0..2 {
        world.advance_clock(1000).await;
        world.heartbeat(&[]).await?;
    }
    ensure(world.sizes().await == [0, 0], "so do jobs that are deleted to make room")
}

pub(super) async fn listed(world: &mut World) -> Check {
    let mut jobs = Vec::new();
    for at in 0..12 {
        let labels: &[_] = if at % 3 == 0 { &[ACME, NORTH] } else { &[ACME] };
        jobs.push(world.labelled(labels));
    }
    // Submitted in another order than that of their ids.
    let mut mixed = jobs.clone();
    mixed.rotate_left(5);
    world.submit(&mixed).await?;
    let mut ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    ids.sort_unstable_by(|one, other| other.cmp(one));
    let all = world.found(ACME, ListQuery::default()).await?;
    ensure(all == ids, "all jobs with a label are listed, the newest first")?;
    let north = world.found(NORTH, ListQuery::default()).await?;
    ensure(north.len() == 4, "those with another label are listed by its index")?;

    world.broker.cancel(jobs[3].id).await.map_err(text)?;
    let canceled = ListQuery { status: Some(Status::Canceled), ..ListQuery::default() };
    ensure(world.found(ACME, canceled).await? == [jobs[3].id], "other filters apply too")?;
    let last = ids.last().map(|id| id.created_at());
    let before = ListQuery { created_before: last, ..ListQuery::default() };
    ensure(world.found(ACME, before).await?.is_empty(), "and so do times")?;
    let after = ListQuery { created_after: last, ..ListQuery::default() };
    ensure(world.found(ACME, after).await? == ids, "of which the first is included")
}
