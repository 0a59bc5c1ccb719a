//! What a running job reports arrives once, whatever is sent again, and what is missing is counted.

use crunch_common::broker::{Progress, Reported};
use crunch_common::job::JobId;

use super::*;

/// An attempt that numbers its reports as a worker does.
pub(super) struct Reporting {
    lease: LeaseKey,
    lines: u64,
    progress: u64,
}

impl Reporting {
    pub(super) fn of(lease: LeaseKey) -> Self {
        Self { lease, lines: 0, progress: 0 }
    }

    /// The next report.
    pub(super) fn next(&mut self, progress: Option<(f64, &str)>, log: LogLines) -> Report {
        let first_line = self.lines + 1;
        self.lines += log.len() as u64;
        self.progress += u64::from(progress.is_some());
        let numbered = |(fraction, message): (f64, &str)| {
            (self.progress, Progress { fraction, message: message.into() })
        };
        Report { lease: self.lease, progress: progress.map(numbered), first_line, log }
    }

    /// Sends the next report, which must be confirmed.
    pub(super) async fn send(
        &mut self,
        world: &World,
        progress: Option<(f64, &str)>,
        log: LogLines,
    ) -> Check {
        let report = self.next(progress, log);
        let outcome = send(world, &report, false).await?;
        ensure(outcome == Reported::Confirmed, &format!("a report is confirmed: {outcome:?}"))
    }
}

async fn send(world: &World, report: &Report, last: bool) -> Result<Reported, String> {
    let reports = std::slice::from_ref(report);
    let sent = world.broker.report(Partition::default(), world.worker, reports, last).await;
    sent.map(|outcomes| outcomes[0]).map_err(|error| error.to_string())
}

async fn running(world: &mut World) -> Result<(JobId, crunch_common::broker::Lease), String> {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    Ok((id, world.claim(1).await?.claims.remove(0).lease))
}

async fn log_is(world: &World, id: JobId, expected: &[&str]) -> Check {
    let read = world.broker.log(id, 0).await.map_err(|error| error.to_string())?;
    let Lookup::Found((_, lines)) = read else { return Err("the job is gone".into()) };
    let lines: Vec<_> = lines.iter().map(|line| line.line.as_str()).collect();
    ensure(lines == expected, &format!("the log is {expected:?}: {lines:?}"))
}

fn lines(texts: &[&str]) -> LogLines {
    texts.iter().map(ToString::to_string).collect()
}

/// A reply got lost, and more was reported before the worker tried again.
pub(super) async fn repeated(world: &mut World) -> Check {
    let (id, lease) = running(world).await?;
    let mut reporting = Reporting::of(lease.key());
    let first = reporting.next(Some((0.5, "half")), lines(&["one", "", "three"]));
    send(world, &first, false).await?;
    let more = Report { log: lines(&["one", "", "three", "four"]), ..first.clone() };
    ensure(send(world, &more, false).await? == Reported::Confirmed, "a repeat is confirmed")?;
    ensure(send(world, &first, false).await? == Reported::Confirmed, "and a late one")?;
    log_is(world, id, &["one", "", "three", "four"]).await?;
    let Lookup::Found(job) = world.broker.job(id).await.map_err(|error| error.to_string())? else {
        return Err("the job is gone".into());
    };
    ensure(job.version == 3, "progress that was sent again is no change")?;
    let later = JobError::retryable(ErrorCode::timeout(), "once more");
    let _nothing = world.exchange(vec![lease.retry(later, Duration::ZERO)], 0).await?;
    ensure(
        send(world, &more, false).await? == Reported::Stale,
        "an attempt that ended is refused",
    )?;
    let again = world.claim(1).await?.claims.remove(0).lease;
    Reporting::of(again.key()).send(world, None, lines(&["one"])).await?;
    log_is(world, id, &["one", "", "three", "four", "one"]).await
}

/// The worker dropped the oldest lines because too many waited.
pub(super) async fn missing(world: &mut World) -> Check {
    let (id, lease) = running(world).await?;
    let mut reporting = Reporting::of(lease.key());
    reporting.send(world, None, lines(&["one"])).await?;
    reporting.lines += 7;
    reporting.send(world, None, lines(&["nine"])).await?;
    reporting.send(world, None, lines(&["ten"])).await?;
    log_is(world, id, &["one", "[7 lines are missing]", "nine", "ten"]).await
}

/// A nearly full Redis takes no log, and the last report is answered all the same.
pub(super) async fn full(world: &mut World) -> Check {
    let (id, lease) = running(world).await?;
    let mut reporting = Reporting::of(lease.key());
    let used = async |world: &mut World, percent: u32| {
        let sweep = world.key("sweep");
        let memory = redis::cmd("HSET").arg(sweep).arg("memory").arg(percent).to_owned();
        let _: i64 = memory.query_async(&mut world.redis).await.unwrap();
    };
    used(world, 99).await;
    let first = reporting.next(Some((0.5, "half")), lines(&["one", "two"]));
    ensure(send(world, &first, false).await? == Reported::Full, "it is to be sent again")?;
    log_is(world, id, &[]).await?;
    used(world, 10).await;
    ensure(send(world, &first, false).await? == Reported::Confirmed, "and then arrives")?;
    used(world, 99).await;
    let last = reporting.next(None, lines(&["three", "four", "five"]));
    ensure(send(world, &last, true).await? == Reported::Confirmed, "the last is not sent again")?;
    log_is(world, id, &["one", "two", "[3 lines are missing: Redis is full]"]).await
}
