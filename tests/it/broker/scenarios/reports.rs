//! Reports of a running job: repeated ones are written once, and missing lines are counted.

use crunch_common::broker::{Progress, Reported};
use crunch_common::job::JobId;

use super::*;

/// The reports of an attempt, numbered as a worker numbers them.
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

async fn claim_one(world: &mut World) -> Result<(JobId, crunch_common::broker::Lease), String> {
    let job = world.job("{}");
    let id = job.id;
    world.submit(&[job]).await?;
    Ok((id, world.claim(1).await?.claims.remove(0).lease))
}

async fn expect_log(world: &World, id: JobId, expected: &[&str]) -> Check {
    let read = world.broker.log(id, 0).await.map_err(|error| error.to_string())?;
    let Lookup::Found((_, lines)) = read else { return Err("the job does not exist".into()) };
    let lines: Vec<_> = lines.iter().map(|line| line.line.as_str()).collect();
    ensure(lines == expected, &format!("the log is {expected:?}: {lines:?}"))
}

fn lines(texts: &[&str]) -> LogLines {
    texts.iter().map(ToString::to_string).collect()
}

/// A reply was lost, and the repeated report contains one more line.
pub(super) async fn repeated(world: &mut World) -> Check {
    let (id, lease) = claim_one(world).await?;
    let mut reporting = Reporting::of(lease.key());
    let first = reporting.next(Some((0.5, "half")), lines(&["one", "", "three"]));
    send(world, &first, false).await?;

    let extended = Report { log: lines(&["one", "", "three", "four"]), ..first.clone() };
    ensure(
        send(world, &extended, false).await? == Reported::Confirmed,
        "a repeated report with one more line is confirmed",
    )?;
    ensure(
        send(world, &first, false).await? == Reported::Confirmed,
        "a late repeat of the first report is confirmed",
    )?;
    expect_log(world, id, &["one", "", "three", "four"]).await?;
    let Lookup::Found(job) = world.broker.job(id).await.map_err(|error| error.to_string())? else {
        return Err("the job does not exist".into());
    };
    ensure(job.version == 3, "repeated progress is no change")?;

    let error = JobError::retryable(ErrorCode::timeout(), "once more");
    let _answer = world.exchange(vec![lease.retry(error, Duration::ZERO)], 0).await?;
    ensure(
        send(world, &extended, false).await? == Reported::Stale,
        "a report of an attempt that ended is refused",
    )?;

    let again = world.claim(1).await?.claims.remove(0).lease;
    Reporting::of(again.key()).send(world, None, lines(&["one"])).await?;
    expect_log(world, id, &["one", "", "three", "four", "one"]).await
}

/// The worker dropped seven lines because too many waited.
pub(super) async fn missing(world: &mut World) -> Check {
    let (id, lease) = claim_one(world).await?;
    let mut reporting = Reporting::of(lease.key());
    reporting.send(world, None, lines(&["one"])).await?;
    reporting.lines += 7;
    reporting.send(world, None, lines(&["nine"])).await?;
    reporting.send(world, None, lines(&["ten"])).await?;
    expect_log(world, id, &["one", "[7 lines are missing]", "nine", "ten"]).await
}

/// A nearly full Redis stores no log lines, but the last report of an attempt is confirmed nevertheless.
pub(super) async fn full(world: &mut World) -> Check {
    let (id, lease) = claim_one(world).await?;
    let mut reporting = Reporting::of(lease.key());
    let set_used_memory = async |world: &mut World, percent: u32| {
        let sweep = world.key("sweep");
        let memory = redis::cmd("HSET").arg(sweep).arg("memory").arg(percent).to_owned();
        let _: i64 = memory.query_async(&mut world.redis).await.unwrap();
    };
    set_used_memory(world, 99).await;

    let first = reporting.next(Some((0.5, "half")), lines(&["one", "two"]));
    ensure(send(world, &first, false).await? == Reported::Full, "the report is to be sent again")?;
    expect_log(world, id, &[]).await?;

    set_used_memory(world, 10).await;
    ensure(
        send(world, &first, false).await? == Reported::Confirmed,
        "the repeated report is stored once memory is free",
    )?;

    set_used_memory(world, 99).await;
    let last = reporting.next(None, lines(&["three", "four", "five"]));
    ensure(send(world, &last, true).await? == Reported::Confirmed, "the last report is confirmed")?;
    expect_log(world, id, &["one", "two", "[3 lines are missing: Redis is full]"]).await
}
