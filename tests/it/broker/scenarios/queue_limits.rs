//! Limits of queues: how many of their jobs run and start, and that all of them are in one partition.

use crunch_common::broker::{
    Bindings, GroupRule, Limit, LimitChange, LimitState, QueueLimit, Rate, RetryOutcome,
};

use super::groups::{story, text};
use super::*;

impl World {
    async fn limit(&self, limit: Option<QueueLimit>) -> Result<LimitChange, String> {
        self.broker.set_queue_limit(&story(), false, limit).await.map_err(text)
    }

    async fn set_limit(&self, limit: QueueLimit) -> Check {
        ensure(self.limit(Some(limit)).await? == LimitChange::Done, "a limit is set")
    }

    async fn limit_state(&self) -> Result<LimitState, String> {
        let status = self.broker.queue_limit(&story()).await.map_err(text)?;
        Ok(status.ok_or("the queue has no limit")?.state)
    }

    async fn submit_plain(&self, count: usize) -> Result<Vec<JobId>, String> {
        let jobs: Vec<_> = (0..count).map(|_| self.job("{}")).collect();
        self.submit(&jobs).await?;
        Ok(jobs.iter().map(|job| job.id).collect())
    }
}

fn own(own: Limit) -> QueueLimit {
    QueueLimit { own, shared: Vec::new() }
}

fn concurrency(most: u32) -> QueueLimit {
    own(Limit { concurrency: Some(most), rate: None })
}

fn rate(starts: u32, per: u64, burst: u32) -> QueueLimit {
    let rate = Rate { starts, per: Duration::from_millis(per), burst };
    own(Limit { concurrency: None, rate: Some(rate) })
}

pub(super) async fn running(world: &mut World) -> Check {
    ensure(
        world.limit(Some(concurrency(2))).await? == LimitChange::UnknownQueue,
        "a queue that does not exist has no limit",
    )?;
    let _ = world.submit_plain(3).await?;
    world.set_limit(concurrency(3)).await?;
    world.submit_grouped("a", 2).await?;
    world.submit_grouped("b", 2).await?;
    let urgent = NewJob { priority: Priority::Urgent, ..world.job("{}") };
    world.submit(std::slice::from_ref(&urgent)).await?;
    let mut claims = world.claim(9).await?.claims;
    ensure(claims.len() == 3, "three jobs of the queue run, whatever their groups")?;
    ensure(
        claims.iter().any(|claim| claim.job.id == urgent.id),
        "an urgent one is the first of those without a group",
    )?;
    ensure(world.limit_state().await? == LimitState::Blocked, "then no job may start")?;
    let _ = world.take_wake_token().await;
    ensure(world.claim(9).await?.claims.is_empty(), "and none does")?;
    ensure(!world.take_wake_token().await, "nobody is woken for a queue that may start none")?;
    world.sweep_for_seconds(2).await?;
    ensure(!world.take_wake_token().await, "by a sweep neither")?;

    let done = claims.remove(0).lease.complete(Payload::json("1"));
    let exchanged = world.exchange_with_queues(vec![], vec![done], 0).await?;
    ensure(exchanged.settled == [Settled::Done], "one ends")?;
    ensure(world.take_wake_token().await, "which wakes a worker")?;
    ensure(world.claim(9).await?.claims.len() == 1, "and makes room for one")?;
    world.set_limit(concurrency(4)).await?;
    ensure(world.take_wake_token().await, "a higher limit wakes a worker")?;
    ensure(world.claim(9).await?.claims.len() == 1, "and applies at once")?;
    world.set_limit(concurrency(1)).await?;
    ensure(world.claim(9).await?.claims.is_empty(), "so does a lower one; what runs goes on")?;
    ensure(world.limit(None).await? == LimitChange::Done, "a limit is removed")?;
    ensure(world.claim(9).await?.claims.len() == 3, "then nothing is limited")?;
    let none = world.broker.queue_limit(&story()).await.map_err(text)?;
    ensure(none.is_none(), "and there is none")
}

pub(super) async fn lost(world: &mut World) -> Check {
    let _ = world.submit_plain(3).await?;
    world.set_limit(concurrency(1)).await?;
    ensure(world.claim(9).await?.claims.len() == 1, "one job runs")?;
    world.sweep_for_seconds(11).await?;
    ensure(world.take_wake_token().await, "the loss of its worker wakes another one")?;
    ensure(world.claim(9).await?.claims.len() == 1, "and makes room for one")?;
    world.set_limit(concurrency(2)).await?;
    let first = std::mem::replace(&mut world.worker, WorkerId::generate());
    world.lease = Duration::from_secs(60);
    let other = world.claim(1).await?.claims.pop().ok_or("another one runs")?;
    world.lease = LEASE;
    let long = std::mem::replace(&mut world.worker, first);
    world.set_limit(concurrency(1)).await?;
    world.sweep_for_seconds(11).await?;
    let _ = world.take_wake_token().await;
    // It was lost twice, and runs alone. The worker is not idle, so it is reserved for that job, but only once it may start.
    world.busy = 1;
    ensure(!world.claim(9).await?.reserved, "nobody waits for a job that may not start")?;
    world.busy = 0;
    ensure(world.claim(9).await?.claims.is_empty(), "and an idle worker does not start it")?;
    world.busy = 1;
    let first = std::mem::replace(&mut world.worker, long);
    let done = other.lease.complete(Payload::json("1"));
    let _ = world.exchange_with_queues(vec![], vec![done], 0).await?;
    world.worker = first;
    let exchanged = world.claim(9).await?;
    ensure(exchanged.claims.is_empty() && exchanged.reserved, "it is waited for")?;
    world.busy = 0;
    let claims = world.claim(9).await?.claims;
    ensure(claims.len() == 1 && claims[0].job.attempt == 1, "a job that runs alone starts")?;
    world.worker = WorkerId::generate();
    ensure(world.claim(9).await?.claims.is_empty(), "and counts")
}

pub(super) async fn rates(world: &mut World) -> Check {
    let _ = world.submit_plain(9).await?;
    world.submit_grouped("a", 9).await?;
    world.set_limit(rate(10, 1000, 2)).await?;
    ensure(world.claim(9).await?.claims.len() == 2, "as many start at once as the burst")?;
    let exchanged = world.claim(9).await?;
    ensure(exchanged.claims.is_empty(), "and no more")?;
    ensure(exchanged.next_due == Some(Duration::from_millis(100)), "until the next may start")?;
    let _ = world.take_wake_token().await;
    let other = std::mem::replace(&mut world.worker, WorkerId::generate());
    ensure(world.claim(9).await?.next_due.is_none(), "another worker does not learn the time")?;
    ensure(!world.take_wake_token().await, "and nobody is woken")?;
    world.advance_clock(100).await;
    ensure(world.claim(9).await?.claims.len() == 1, "one starts when the rate allows it")?;
    world.worker = other;
    world.advance_clock(1000).await;
    ensure(world.claim(9).await?.claims.len() == 2, "a pause allows no more than the burst")?;
    world.sweep_for_seconds(1).await?;
    ensure(world.take_wake_token().await, "a sweep wakes a worker when the time has come")?;
    world.set_limit(rate(1000, 1000, 5)).await?;
    ensure(world.claim(9).await?.claims.len() == 5, "a faster rate applies at once")?;
    // What is shown is by the clock of Redis, not by the simulated one: so the next start is far away.
    world.advance_clock(1000).await;
    world.set_limit(rate(1, 3_600_000, 1)).await?;
    ensure(world.claim(9).await?.claims.len() == 1, "a slower rate as well")?;
    let next_start = match world.limit_state().await? {
        LimitState::Delayed(at) => at.unix_ms(),
        LimitState::Open | LimitState::Blocked => 0,
    };
    ensure(next_start > world.now + 3_500_000, "the next start is shown")
}

/// Sweeps visit a queue when its rate allows the next start, also between their rounds.
pub(super) async fn rates_swept(world: &mut World) -> Check {
    let _ = world.submit_plain(9).await?;
    world.set_limit(rate(1, 5000, 1)).await?;
    world.lease = Duration::from_secs(60);
    for round_first in [false, true] {
        if round_first {
            // The second round of sweeps is eleven seconds after the first.
            world.sweep_for_seconds(6).await?;
            let _ = world.take_wake_token().await;
        }
        ensure(world.claim(1).await?.claims.len() == 1, "a job starts")?;
        let _ = world.take_wake_token().await;
        world.sweep_for_seconds(4).await?;
        ensure(!world.take_wake_token().await, "no other may")?;
        world.sweep_for_seconds(1).await?;
        ensure(world.take_wake_token().await, "until its time, when a worker is woken")?;
    }
    Ok(())
}

/// Of two changes at the same time the one that began last is made.
pub(super) async fn contended(world: &mut World) -> Check {
    let _ = world.submit_plain(1).await?;
    let broker = world.broker.clone();
    let (queue, home) = (story(), Partition::default());
    let older = broker.change_limit(&queue, false, None, "").await.map_err(text)?;
    let newer = broker.change_limit(&queue, false, None, "").await.map_err(text)?;
    ensure(older < newer, "each change has a version")?;
    let confine = async |version, home| broker.confine(&queue, home, version, Some(home)).await;
    let _ = confine(newer, home).await.map_err(text)?;
    ensure(confine(older, home).await.map_err(text)? == -1, "an older change confines nothing")?;
    let made = broker.change_limit(&queue, false, Some(older), "1 1 - - - ").await;
    ensure(made.map_err(text)? == -1, "and is not made")?;
    let made = broker.change_limit(&queue, false, Some(newer), "1 2 - - - ").await;
    ensure(made.map_err(text)? == newer, "the newer one is")
}

/// A worker that has no slot left when it should come passes that on.
pub(super) async fn timekeeper(world: &mut World) -> Check {
    let _ = world.submit_plain(9).await?;
    world.set_limit(rate(10, 1000, 1)).await?;
    let first = world.worker;
    ensure(world.claim(9).await?.next_due.is_some(), "a worker with idle slots comes again")?;
    world.worker = WorkerId::generate();
    ensure(world.claim(9).await?.next_due.is_none(), "another one does not")?;
    let _ = world.take_wake_token().await;
    world.worker = first;
    ensure(world.claim(0).await?.next_due.is_none(), "without idle slots it does not come")?;
    ensure(world.take_wake_token().await, "and wakes another one")?;
    world.worker = WorkerId::generate();
    ensure(world.claim(9).await?.next_due.is_some(), "which comes")?;
    world.worker = first;
    ensure(world.claim(0).await?.next_due.is_none(), "without slots")?;
    ensure(!world.take_wake_token().await, "nobody is woken by a worker that is not expected")?;
    world.advance_clock(201).await;
    ensure(world.claim(1).await?.claims.len() == 1, "a job starts")?;
    ensure(world.claim(9).await?.next_due.is_some(), "one that is late is replaced")
}

/// A key space of four partitions: the home of the queue, and others. The simulated clock is a key of one slot.
struct Four {
    config: BrokerConfig,
    library: Library,
    redis: MultiplexedConnection,
    template: NewJob,
    one: Broker,
    home: Partition,
}

impl Four {
    fn of(world: &World) -> Self {
        let config = BrokerConfig {
            partitions: 4,
            redis_url: world.redis_url.parse().unwrap(),
            key_prefix: format!("{}-four", world.prefix).parse().unwrap(),
            ..BrokerConfig::default()
        };
        let library = world.library.clone();
        let one = Broker::with_library(&config, library.clone()).unwrap();
        let bindings = Bindings { at_home_of: Some(&story()), ..Bindings::default() };
        let home = one.new_bound_id(bindings).partition();
        let (redis, template) = (world.redis.clone(), world.job("{}"));
        Self { config, library, redis, template, one, home }
    }

    /// Another process.
    fn another(&self) -> Broker {
        Broker::with_library(&self.config, self.library.clone()).unwrap()
    }

    /// A job with the idempotency key of that number, in the key's partition.
    fn job(&self, number: usize) -> NewJob {
        let key = Idempotency::new(&[format!("key-{number}").as_bytes()], &[b"request"]);
        NewJob { id: self.one.new_id(Some(&key)), idempotency: Some(key), ..self.template.clone() }
    }

    /// The first such job from that number on that is not in the home.
    fn job_elsewhere(&self, first: usize) -> NewJob {
        (first..).map(|number| self.job(number)).find(|job| !self.is_home(job.id)).unwrap()
    }

    fn is_home(&self, id: JobId) -> bool {
        id.partition() == self.home
    }

    async fn set(&self, limit: Option<QueueLimit>) -> Result<LimitChange, String> {
        self.one.set_queue_limit(&story(), false, limit).await.map_err(text)
    }

    async fn keys(&mut self, tail: &str) -> Vec<String> {
        let pattern = format!("{}:{tail}", self.config.key_prefix);
        redis::cmd("KEYS").arg(pattern).query_async(&mut self.redis).await.unwrap()
    }

    async fn run(&mut self, command: &str, arguments: &[&str]) {
        let mut command = redis::cmd(command);
        let () = command.arg(arguments).query_async(&mut self.redis).await.unwrap();
    }

    async fn sweep_all(&self) -> Check {
        for partition in self.one.partitions() {
            self.one.sweep(partition, None).await.map_err(text)?;
        }
        Ok(())
    }

    /// Makes the key of a job that was submitted name another job, which does not exist: as if a process had died after it
    /// reserved the key for a job elsewhere, and before it submitted that job.
    async fn forget(&mut self, job: &NewJob) {
        let name = self.keys(&format!("*:job:{}", job.id)).await.remove(0);
        let place = name.split(":job:").next().unwrap().to_owned();
        let mut partitions = (0..4).filter_map(Partition::new);
        let other = partitions.find(|it| ![self.home, job.id.partition()].contains(it)).unwrap();
        let absent = job.id.moved_to(other);
        for key in self.keys("*:idempotency:*").await {
            let value: String =
                redis::cmd("GET").arg(&key).query_async(&mut self.redis).await.unwrap();
            if let Some(print) = value.strip_prefix(&job.id.to_string()) {
                self.run("SET", &[&key, &format!("{absent}{print}")]).await;
            }
        }
        self.run("DEL", &[&name]).await;
        let lane = format!("{place}:queue:story:ready:normal");
        self.run("LREM", &[&lane, "1", &job.id.to_string()]).await;
        self.run("SREM", &[&format!("{place}:queue:story:ghosts"), &job.id.to_string()]).await;
    }
}

async fn submit(broker: &Broker, jobs: &[NewJob]) -> Result<Vec<Enqueued>, String> {
    let answers = broker.enqueue(jobs).await.into_iter();
    answers.map(|answer| answer.map_err(text)).collect()
}

/// The ids of jobs that were accepted now.
fn created(answers: &[Enqueued]) -> Vec<JobId> {
    let id = |answer: &Enqueued| match answer {
        Enqueued::Created(job) => Some(job.id),
        _ => None,
    };
    answers.iter().filter_map(id).collect()
}

/// The ids of jobs that were accepted before.
fn known(answers: &[Enqueued]) -> Vec<JobId> {
    let id = |answer: &Enqueued| match answer {
        Enqueued::Replayed(id) | Enqueued::AlreadyCreated(id) => Some(*id),
        _ => None,
    };
    answers.iter().filter_map(id).collect()
}

pub(super) async fn confined(world: &mut World) -> Check {
    if crunch_tests::is_cluster() {
        return Ok(());
    }
    let four = Four::of(world);
    let (one, other) = (&four.one, four.another());
    let jobs: Vec<_> = (0..24).map(|number| four.job(number)).collect();
    let ids = |jobs: &[NewJob]| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    let _ = submit(one, &jobs[..8]).await?;
    let elsewhere = jobs[..8].iter().filter(|job| !four.is_home(job.id)).count() as u64;
    ensure(
        four.set(Some(concurrency(1))).await? == LimitChange::JobsElsewhere(elsewhere),
        "jobs elsewhere are counted",
    )?;
    for job in &jobs[..8] {
        one.cancel(job.id).await.map_err(text)?;
    }
    ensure(four.set(Some(concurrency(1))).await? == LimitChange::Done, "but not canceled ones")?;
    // The queue stays confined, and a broker that does not know it yet is refused.
    four.sweep_all().await?;
    let at_home = created(&submit(&other, &jobs[8..16]).await?);
    ensure(
        at_home.len() == 8 && at_home.iter().all(|&id| four.is_home(id)),
        "new jobs are in the home of their queue",
    )?;
    ensure(
        known(&submit(one, &jobs[8..16]).await?) == at_home,
        "the same request is the same job",
    )?;
    let again = known(&submit(&other, &jobs[..8]).await?);
    ensure(again == ids(&jobs[..8]), "jobs from before the limit are still known")?;
    let outside = jobs[..8].iter().find(|job| !four.is_home(job.id)).unwrap();
    let retried = one.retry(outside.id).await.map_err(text)?;
    ensure(retried == Lookup::Found(RetryOutcome::Elsewhere), "one elsewhere cannot run again")?;

    ensure(four.set(None).await? == LimitChange::Done, "the limit is removed")?;
    let retried = one.retry(outside.id).await.map_err(text)?;
    ensure(retried == Lookup::Found(RetryOutcome::Queued), "then it can")?;
    let anywhere = created(&submit(&four.another(), &jobs[16..]).await?);
    ensure(anywhere == ids(&jobs[16..]), "and jobs are everywhere again")
}

pub(super) async fn failed_elsewhere(world: &mut World) -> Check {
    if crunch_tests::is_cluster() {
        return Ok(());
    }
    let mut four = Four::of(world);
    let mut late = four.job_elsewhere(0);
    late.options.deadline = Some(Duration::from_millis(1));
    let _ = submit(&four.one, std::slice::from_ref(&late)).await?;
    let later = (world.now + 1000).to_string();
    four.run("SET", &[CLOCK, &later]).await;
    four.sweep_all().await?;
    ensure(four.set(Some(concurrency(1))).await? == LimitChange::Done, "one that ended is none")?;
    let redriven = four.one.redrive(&story(), None, 9).await.map_err(text)?;
    ensure(redriven == Some(0), "jobs that failed elsewhere do not run again")?;
    ensure(four.set(None).await? == LimitChange::Done, "the limit is removed")?;
    let redriven = four.one.redrive(&story(), None, 9).await.map_err(text)?;
    ensure(redriven == Some(1), "then they do")
}

pub(super) async fn forgotten(world: &mut World) -> Check {
    if crunch_tests::is_cluster() {
        return Ok(());
    }
    let mut four = Four::of(world);
    let job = [four.job_elsewhere(0)];
    let _ = submit(&four.one, &job).await?;
    four.forget(&job[0]).await;
    let again = created(&submit(&four.one, &job).await?);
    ensure(again == [job[0].id], "a key whose job never was names the one that follows")?;
    four.one.cancel(job[0].id).await.map_err(text)?;
    ensure(known(&submit(&four.one, &job).await?) == again, "from then on")?;
    four.forget(&job[0]).await;
    ensure(four.set(Some(concurrency(1))).await? == LimitChange::Done, "the queue gets a limit")?;
    let again = created(&submit(&four.another(), &job).await?);
    ensure(again == [job[0].id.moved_to(four.home)], "then that one is at its home")?;
    ensure(known(&submit(&four.one, &job).await?) == again, "from then on too")
}

/// While a job that must run alone waits until its group may start one, no other job of the group starts.
pub(super) async fn solitary_first(world: &mut World) -> Check {
    world.lease = Duration::from_secs(10);
    let alone = world.submit_grouped("a", 1).await?[0];
    world.set_rule(None, GroupRule { concurrency: Some(1), ..GroupRule::default() }).await?;
    for _ in 0..2 {
        ensure(world.claim(1).await?.claims.len() == 1, "it starts")?;
        world.worker = WorkerId::generate();
        world.sweep_for_seconds(11).await?;
    }
    world.submit_grouped("a", 5).await?;
    world.submit_grouped("b", 1).await?;
    world.busy = 1;
    // A worker with jobs: it does not get the job that must run alone, and is reserved for it.
    ensure(world.claim(1).await?.reserved, "a worker is reserved")?;
    let reserved = std::mem::replace(&mut world.worker, WorkerId::generate());
    let claims = world.claim(9).await?.claims;
    ensure(
        claims.len() == 1 && super::groups::group_of(&claims[0]) == "b",
        "others of its group wait for it",
    )?;
    world.expect_findings("").await?;
    world.worker = reserved;
    world.busy = 0;
    let mut claims = world.claim(9).await?.claims;
    ensure(claims.len() == 1 && claims[0].job.id == alone, "it starts first")?;
    let done = claims.remove(0).lease.complete(Payload::json("1"));
    let claims = world.exchange(vec![done], 9).await?.claims;
    ensure(claims.len() == 1, "then the next of its group")
}

/// While a job that must run alone may not start by the rate of its group, the others wait; and no longer.
pub(super) async fn solitary_ends(world: &mut World) -> Check {
    world.set_each(GroupRule::default()).await?;
    let every_minute = Rate { starts: 1, per: Duration::from_secs(60), burst: 1 };
    let rule = GroupRule { rate: Some(every_minute), ..GroupRule::default() };
    for cancel in [true, false] {
        world.rule(None, None).await?;
        let alone = world.submit_grouped("a", 1).await?[0];
        for _ in 0..2 {
            ensure(world.claim(1).await?.claims.len() == 1, "it starts")?;
            world.worker = WorkerId::generate();
            world.sweep_for_seconds(11).await?;
        }
        world.set_rule(None, rule.clone()).await?;
        world.advance_clock(60_000).await;
        world.submit_grouped("a", 1).await?;
        world.busy = 1;
        ensure(world.claim(9).await?.reserved, "a worker is reserved")?;
        let reserved = std::mem::replace(&mut world.worker, WorkerId::generate());
        ensure(world.claim(9).await?.claims.is_empty(), "others of its group wait")?;
        world.busy = 0;
        if cancel {
            world.broker.cancel(alone).await.map_err(text)?;
        } else {
            world.worker = reserved;
            world.lease = Duration::from_secs(600);
            ensure(world.claim(9).await?.claims.len() == 1, "it starts")?;
            world.worker = WorkerId::generate();
            world.advance_clock(60_000).await;
        }
        ensure(world.claim(9).await?.claims.len() == 1, "then they go on")?;
        world.tamper("DEL", "reserved", &[]).await;
    }
    Ok(())
}
