//! Small stories about single verbs, told with the same edited libraries as the random histories, so that a broken
//! function can be caught by either.

use crunch_tests::RedisServer;
use std::time::Duration;

use crunch_common::broker::{
    Broker, Durability, Enqueued, Exchange, Exchanged, Heartbeat, Idempotency, JobRecord, LeaseKey,
    Library, LogLines, Lookup, NewJob, ReleaseCause, Report, Settled, Settlement, Start, TaskNames,
    Verdict, WorkerId, WorkerInfo,
};
use crunch_common::job::{
    ErrorCode, JobError, JobId, JobOptions, Partition, Payload, Priority, Status,
};
use crunch_common::queue::QueueName;
use redis::aio::MultiplexedConnection;

use super::driver::{CLOCK, Check, library, options};

mod audits;
mod deadlines;
mod ends;
mod intake;
mod limits;
mod losses;
mod names;
mod parking;
mod reclaims;
mod reports;
mod sweeps;
mod waking;
mod watching;
mod webhooks;

/// One story's world: a key space of its own and a clock that stands until it is moved.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) redis: MultiplexedConnection,
    prefix: String,
    worker: WorkerId,
    number: u64,
    busy: usize,
    tasks: TaskNames,
    now: u64,
}

impl World {
    pub(crate) async fn new(redis: &RedisServer, prefix: &str, library: Library) -> Self {
        let connection = redis.connect().await;
        let broker = redis.broker(prefix, library);
        let now = crunch_common::time::Timestamp::now().unix_ms();
        let mut world = Self {
            broker,
            redis: connection,
            prefix: prefix.into(),
            worker: WorkerId::generate(),
            number: 0,
            busy: 0,
            tasks: TaskNames::default(),
            now,
        };
        world.pass(0).await;
        world
    }

    async fn pass(&mut self, ms: u64) {
        self.now += ms;
        let () =
            redis::cmd("SET").arg(CLOCK).arg(self.now).query_async(&mut self.redis).await.unwrap();
    }

    fn key(&self, tail: &str) -> String {
        format!("{}:{{0}}:{tail}", self.prefix)
    }

    fn job(&self, payload: impl Into<bytes::Bytes>) -> NewJob {
        NewJob {
            id: self.broker.new_id(None),
            task: "story".parse().unwrap(),
            queue: "story".parse().unwrap(),
            priority: Priority::Normal,
            start: Start::Now,
            payload: payload.into(),
            options: options(),
            retention: None,
            idempotency: None,
            durability: Durability::MEMORY,
            webhook: None,
        }
    }

    async fn submit(&self, jobs: &[NewJob]) -> Check {
        self.broker
            .enqueue(jobs)
            .await
            .into_iter()
            .try_for_each(|answer| answer.map(|_| ()).map_err(|error| error.to_string()))
    }

    async fn claim(&mut self, want: usize) -> Result<Exchanged, String> {
        self.exchange(Vec::new(), want).await
    }

    async fn exchange(
        &mut self,
        settlements: Vec<Settlement>,
        want: usize,
    ) -> Result<Exchanged, String> {
        self.exchange_over(vec!["story".parse().unwrap()], settlements, want).await
    }

    async fn exchange_over(
        &mut self,
        queues: Vec<QueueName>,
        settlements: Vec<Settlement>,
        want: usize,
    ) -> Result<Exchanged, String> {
        self.number += 1;
        let exchange = Exchange {
            worker: self.worker,
            number: self.number,
            lease: Duration::from_secs(10),
            tasks: self.tasks.clone(),
            queues,
            settlements,
            want,
            busy: self.busy,
        };
        let exchanged = self.broker.exchange(Partition::default(), &exchange).await;
        let mut exchanged = exchanged.map_err(|error| error.to_string())?;
        for claim in exchanged.claims.iter_mut().filter(|claim| claim.payload_is_to_come) {
            let payload = self.broker.claimed_payload(claim.lease.key()).await;
            let payload = payload.map_err(|error| error.to_string())?;
            claim.job.payload.bytes = payload.ok_or("a claimed job has no payload")?;
        }
        Ok(exchanged)
    }

    /// The worker beats and names these leases.
    async fn beat(&mut self, leases: &[LeaseKey]) -> Result<Vec<Verdict>, String> {
        let info = WorkerInfo {
            host: "here".into(),
            pid: 1,
            version: "0".into(),
            tasks: Vec::new(),
            queues: Vec::new(),
            slots: 1,
            started_at: crunch_common::time::Timestamp::now(),
            suspended: Vec::new(),
        };
        let beat = Heartbeat {
            worker: self.worker,
            lease: Duration::from_secs(10),
            info: &info,
            busy: leases.len(),
            leases,
        };
        let beaten = self.broker.heartbeat(Partition::default(), &beat).await;
        beaten.map(|beaten| beaten.verdicts).map_err(|error| error.to_string())
    }

    /// How many jobs of these queues may be claimed at normal priority.
    async fn ready(&mut self, queues: &[&str]) -> u64 {
        let mut sum = 0;
        for queue in queues {
            sum += self.length("LLEN", &format!("queue:{queue}:ready:normal")).await;
        }
        sum
    }

    /// Seconds pass in which sweeps come by, but no beat.
    async fn silence(&mut self, seconds: u64) -> Check {
        for _ in 0..seconds {
            self.pass(1000).await;
            self.broker.sweep(Partition::default()).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Takes the wake-up token, if there is one.
    async fn token(&mut self) -> bool {
        let wake = self.key("queue:story:wake");
        let token: Option<String> =
            redis::cmd("LPOP").arg(wake).query_async(&mut self.redis).await.unwrap();
        token.is_some()
    }

    /// The job, as it is read.
    async fn found(&self, id: JobId) -> Result<JobRecord, String> {
        match self.broker.job(id).await.map_err(|error| error.to_string())? {
            Lookup::Found(job) => Ok(job),
            gone => Err(format!("the job is gone: {gone:?}")),
        }
    }

    async fn length(&mut self, command: &str, tail: &str) -> u64 {
        let key = self.key(tail);
        redis::cmd(command).arg(key).query_async(&mut self.redis).await.unwrap()
    }
}

fn ensure(holds: bool, what: &str) -> Check {
    if holds { Ok(()) } else { Err(format!("it does not hold that {what}")) }
}

macro_rules! stories {
    ($($name:literal => $file:ident::$story:ident,)*) => {
        /// Every story, by its name.
        pub(crate) const NAMES: &[&str] = &[$($name),*];

        /// Tells the story of that name.
        pub(crate) async fn tell(name: &str, world: &mut World) -> Check {
            match name {
                $($name => $file::$story(world).await,)*
                _ => panic!("no story is called {name:?}"),
            }
        }
    };
}

stories! {
    "the same key and request is one job, in one call or in two" => intake::idempotency,
    "one unreadable record does not take nine others with it" => intake::quarantine,
    "wake-up tokens chain until no claimable work is left" => waking::tokens,
    "a new earliest delayed job wakes a worker, a later one does not" => waking::delayed_tokens,
    "resume wakes a worker" => waking::resume,
    "what a worker without queues gives back wakes another" => waking::given_back,
    "a worker's first queue does not wait for the others' due jobs" => limits::first_first,
    "a queue where few jobs stand is listed, and one that is not is found by a sweep" => waking::unusual,
    "large payloads are laid down, and taken away with their job" => intake::large_payloads,
    "a call hands out at most 4 MiB, and a larger job alone" => limits::budget,
    "what does not fit a call any more waits for the next, whatever its queue" => limits::full,
    "a log keeps its newest 256 lines and 64 KiB" => limits::log_limits,
    "a report that is sent again is written once, in each attempt" => reports::repeated,
    "lines that are missing are counted in the log" => reports::missing,
    "a nearly full Redis takes reports later, and counts the lines of the last" => reports::full,
    "attempts are remembered, the last ten" => limits::history,
    "a history of long errors stays within its bytes" => limits::long_history,
    "a call moves a hundred jobs over all queues, and a sweep goes on to the end" => limits::hundred,
    "canceled jobs do not hide a live one of their priority" => limits::ghosts,
    "expired jobs leave the indexes" => ends::expiry,
    "settling forgets twice as much as it adds" => ends::trimmed,
    "a revived job is kept again" => ends::revived,
    "no job is forgotten before a lost reply can be asked for again" => ends::least_retention,
    "poison runs alone from its second loss and fails with its fifth" => losses::poison,
    "a worker that runs empty stays chosen, and paused queues choose nobody" => losses::reserved,
    "failed hand-overs run alone from the third and end with the eighth" => losses::not_delivered,
    "a worker that died before the clock was set back is to blame" => losses::set_back,
    "a broken running record can be canceled" => losses::broken_canceled,
    "what a machine cannot run is uncharged, waits ever longer, and tells why" => losses::machine,
    "a cancel wins over another attempt" => losses::canceled_meanwhile,
    "a batch of plain and special jobs keeps its order" => intake::order,
    "two exchanges of a worker may be under way, each with its number" => losses::strands,
    "a living worker keeps its job through an outage of seven seconds" => losses::outage,
    "a lease counts only in the hands of its worker" => losses::stolen,
    "a job that stands nowhere is put back where its status says" => audits::put_back,
    "a running job without a lease stays with a worker that beats" => audits::lease,
    "what is canceled while it is lost stays canceled" => audits::canceled,
    "a heal that comes late leaves alone what has moved" => audits::late,
    "what stands where it should not stands there no more" => audits::strays,
    "what stands twice is handed out once" => audits::twice,
    "entries and keys without a job are removed" => audits::orphans,
    "ended jobs are listed and expire again" => audits::ended,
    "an audit knows what only looks odd" => audits::odd,
    "what a person must look at is told and left alone" => audits::left,
    "what a dead worker held is back at once, a loss is counted, and its neighbour goes on" => reclaims::taken_back,
    "what the dead said before and comes after their reclaims is refused" => reclaims::last_words,
    "poison fails with the fifth reclaims of its worker" => reclaims::poison,
    "a job that waits to run alone does not wait for a dead worker" => reclaims::reserved,
    "a reclaims goes on to the end, whatever its worker held" => reclaims::many,
    "a broken running record does not stop the recovery of others" => losses::broken,
    "whoever watches a job is told of every change, and nobody of other jobs" => watching::told_in_order,
    "the changes of a job that is followed are kept without a gap, or a gap is told" => watching::kept_without_gap,
    "lines of a log keep their numbers when older ones go" => watching::numbered_lines,
    "a purge cancels what waits and leaves what runs or has run" => watching::purged,
    "the end of a job makes a delivery in the same step" => webhooks::made,
    "whatever ends a job is told" => webhooks::every_end,
    "each life is told once, and a muted job no more" => webhooks::lives,
    "parked jobs are for workers with their task, and in order" => parking::own_tasks,
    "what was parked once stays with workers that have its task" => parking::stays,
    "parked jobs of several tasks take turns" => parking::turns,
    "what cannot be parked is tried again later" => parking::not_parked,
    "parked jobs are counted, listed, canceled and purged" => parking::left_alone,
    "parked jobs may wait for hours" => parking::kept,
    "sweeps drop parked jobs that were canceled" => parking::ghosts,
    "a deadline ends a job that nobody claims, wherever it waits" => deadlines::missed,
    "a job that runs at its deadline is its worker's, until it is lost" => deadlines::running,
    "a job that ended has no deadline any more, and one that is revived has" => deadlines::revived,
    "what an audit knows of deadlines and parked jobs" => audits::side_lists,
    "a page lists every queue by name, also beside a version that knows no names" => names::listed,
    "an audit finds a queue that no list shows" => names::audited,
    // Those that take longest come last: a mutant is tried on each until one notices.
    "what is due is found in one of many queues, and the others are visited in turn" => sweeps::many_queues,
    "queues in which nothing is due are visited in rounds" => sweeps::rounds,
    "a queue with much that is due is visited until all of it is done" => sweeps::many_jobs,
    "a clock that went back makes a sweep visit every queue" => sweeps::clock_back,
    "a nearly full Redis makes a sweep visit every queue" => sweeps::nearly_full,
    "no more queues are known than may be, and those that are go on" => limits::names,
    "an empty queue is forgotten an hour after its last use, and not after its first" => limits::last_use,
    "no more tasks are declared than may be, and those that are go on" => limits::tasks,
}

/// Tells every story to functions of which the text was edited.
async fn tell_all(edit: impl Fn(String) -> String) {
    let redis = RedisServer::start();
    for (at, name) in NAMES.iter().enumerate() {
        let mut world = World::new(&redis, &format!("story-{at}"), library(&edit)).await;
        if let Err(wrong) = tell(name, &mut world).await {
            panic!("{name}: {wrong}");
        }
    }
}

#[tokio::test]
async fn every_story_of_a_verb_holds() {
    tell_all(|text| text).await;
}

/// What is kept for the next call is only kept, and not relied on.
#[tokio::test]
async fn every_story_holds_where_nothing_is_kept_in_memory() {
    tell_all(|text| {
        let forgetful =
            text.replace("_KEPT = 4096", "_KEPT = 1").replace("_KEPT = 512", "_KEPT = 1");
        assert_ne!(forgetful, text);
        forgetful
    })
    .await;
}
