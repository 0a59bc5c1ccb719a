//! A key space and a worker, for scenarios.

use super::*;

/// The state of one scenario: its own key space, one worker, and a clock that only `advance_clock` moves.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) redis: MultiplexedConnection,
    pub(super) prefix: String,
    pub(super) redis_url: String,
    /// The functions that the broker uses.
    pub(super) library: Library,
    pub(super) worker: WorkerId,
    pub(super) number: u64,
    pub(super) busy: usize,
    pub(super) tasks: TaskNames,
    /// How long it holds its claims.
    pub(super) lease: Duration,
    /// When it saw that nothing was due.
    pub(super) quiet_at: Option<Timestamp>,
    /// What its next heartbeats add to the history.
    pub(super) counts: Option<NumberedCounts>,
    /// What an operator requested, in the reply to its last heartbeat.
    pub(super) wanted: Option<WorkerState>,
    pub(super) now: u64,
}

impl World {
    pub(crate) async fn new(redis: &RedisServer, prefix: &str, library: Library) -> Self {
        let connection = redis.connect().await;
        let config = BrokerConfig {
            redis_url: redis.url().parse().unwrap(),
            key_prefix: prefix.parse().unwrap(),
            max_queue_depth: MAX_QUEUE_DEPTH,
            ..BrokerConfig::default()
        };
        let broker = Broker::with_library(&config, library.clone()).unwrap();
        let now = Timestamp::now().unix_ms();
        let mut world = Self {
            broker,
            redis: connection,
            prefix: prefix.into(),
            redis_url: redis.url(),
            library,
            worker: WorkerId::generate(),
            number: 0,
            busy: 0,
            tasks: TaskNames::default(),
            lease: LEASE,
            quiet_at: None,
            counts: None,
            wanted: None,
            now,
        };
        world.advance_clock(0).await;
        world
    }

    pub(super) async fn advance_clock(&mut self, ms: u64) {
        self.now += ms;
        let () =
            redis::cmd("SET").arg(CLOCK).arg(self.now).query_async(&mut self.redis).await.unwrap();
    }

    pub(super) fn key(&self, tail: &str) -> String {
        format!("{}:{{0}}:{tail}", self.prefix)
    }

    /// Runs a command on a key of the partition, by hand.
    pub(super) async fn tamper(
        &mut self,
        command: &str,
        tail: &str,
        arguments: &[&str],
    ) -> redis::Value {
        let key = self.key(tail);
        let mut command = redis::cmd(command);
        command.arg(key).arg(arguments).query_async(&mut self.redis).await.unwrap()
    }

    pub(super) fn job(&self, payload: impl Into<bytes::Bytes>) -> NewJob {
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
            indexes: Vec::new(),
            lock: None,
            schedule: None,
        }
    }

    pub(super) async fn submit(&self, jobs: &[NewJob]) -> Check {
        self.broker
            .enqueue(jobs)
            .await
            .into_iter()
            .try_for_each(|answer| answer.map(|_| ()).map_err(|error| error.to_string()))
    }

    pub(super) async fn claim(&mut self, want: usize) -> Result<Exchanged, String> {
        self.exchange(Vec::new(), want).await
    }

    pub(super) async fn exchange(
        &mut self,
        settlements: Vec<Settlement>,
        want: usize,
    ) -> Result<Exchanged, String> {
        self.exchange_with_queues(vec!["story".parse().unwrap()], settlements, want).await
    }

    pub(super) async fn exchange_with_queues(
        &mut self,
        queues: Vec<QueueName>,
        settlements: Vec<Settlement>,
        want: usize,
    ) -> Result<Exchanged, String> {
        self.number += 1;
        let exchange = Exchange {
            worker: self.worker,
            number: self.number,
            lease: self.lease,
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

    /// The worker sends a heartbeat that names these leases.
    pub(super) async fn heartbeat(&mut self, leases: &[LeaseKey]) -> Result<Vec<Verdict>, String> {
        let info = WorkerInfo { slots: 1, ..WorkerInfo::of_this_process() };
        let heartbeat = Heartbeat {
            worker: self.worker,
            lease: self.lease,
            info: &info,
            busy: leases.len(),
            leases,
            quiet_at: self.quiet_at,
            counts: self.counts.as_ref(),
        };
        let answer = self.broker.heartbeat(Partition::default(), &heartbeat).await;
        let answer = answer.map_err(|error| error.to_string())?;
        self.wanted = answer.wanted;
        Ok(answer.verdicts)
    }

    /// How many jobs of these queues may be claimed at normal priority.
    pub(super) async fn ready_count(&mut self, queues: &[&str]) -> u64 {
        let mut sum = 0;
        for queue in queues {
            sum += self.query_number("LLEN", &format!("queue:{queue}:ready:normal")).await;
        }
        sum
    }

    /// Advances the clock second by second, with a sweep in each and without heartbeats.
    pub(super) async fn sweep_for_seconds(&mut self, seconds: u64) -> Check {
        for _ in 0..seconds {
            self.advance_clock(1000).await;
            self.broker
                .sweep(Partition::default(), None)
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(super) async fn read_job(&self, id: JobId) -> Result<JobRecord, String> {
        match self.broker.job(id).await.map_err(|error| error.to_string())? {
            Lookup::Found(job) => Ok(job),
            other => Err(format!("the job does not exist: {other:?}")),
        }
    }

    /// How long an ended job is kept from now on.
    pub(super) async fn kept_ms(&self, id: JobId) -> Result<u64, String> {
        let expires = self.read_job(id).await?.expires_at.ok_or("the job does not expire")?;
        Ok(expires.unix_ms() - self.now)
    }

    /// The answer of a command on one key, as a number.
    pub(super) async fn query_number(&mut self, command: &str, tail: &str) -> u64 {
        let key = self.key(tail);
        redis::cmd(command).arg(key).query_async(&mut self.redis).await.unwrap()
    }
}
