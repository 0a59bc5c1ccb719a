//! Lists too long to be searched in one step. The functions here look only four entries deep, so that lists are long soon.

use std::time::Duration;

use crunch_common::broker::{
    Audit, Broker, Durability, Exchange, FindingKind, Library, NewJob, Settled, Start, TaskNames,
    WorkerId,
};
use crunch_common::job::{ContentType, JobId, JobOptions, Partition, Payload, Priority};
use crunch_tests::RedisServer;
use redis::aio::MultiplexedConnection;

const READY: &str = "long:{0}:queue:long:ready:normal";

struct World {
    broker: Broker,
    redis: MultiplexedConnection,
    /// In the order in which they were submitted.
    ids: Vec<JobId>,
    _server: RedisServer,
}

fn short_sighted() -> Library {
    Library::edited(|text| {
        let edited = text.replacen("LIST_LOOKS = 10000", "LIST_LOOKS = 4", 1).replacen(
            "PUSHED_ALONG = 1000",
            "PUSHED_ALONG = 3",
            1,
        );
        assert_eq!(edited.len() + 4 + 3, text.len(), "both numbers stand in the library");
        edited
    })
}

impl World {
    /// A queue of forty jobs.
    async fn new() -> Self {
        let server = RedisServer::start();
        let broker = server.broker("long", short_sighted());
        let redis = server.client().get_multiplexed_async_connection().await.unwrap();
        let mut world = Self { broker, redis, ids: Vec::new(), _server: server };
        let jobs: Vec<_> = (0..40).map(|_| world.job()).collect();
        world.ids = jobs.iter().map(|job| job.id).collect();
        for answer in world.broker.enqueue(&jobs).await {
            answer.unwrap();
        }
        world
    }

    fn job(&self) -> NewJob {
        NewJob {
            id: self.broker.new_id(None),
            task: "long".parse().unwrap(),
            queue: "long".parse().unwrap(),
            priority: Priority::Normal,
            start: Start::Now,
            payload: "{}".into(),
            options: JobOptions {
                max_attempts: 1,
                timeout: Duration::from_secs(60),
                deadline: None,
                backoff: crunch_common::backoff::Backoff::FOR_ATTEMPTS,
                content_type: ContentType::json(),
                payload_size: 2,
                metadata: crunch_common::job::Metadata::default(),
                trace: None,
            },
            retention: None,
            durability: Durability::MEMORY,
            webhook: None,
            idempotency: None,
        }
    }

    async fn tamper(&mut self, command: &str, key: &str, arguments: &[&str]) {
        let mut command = redis::cmd(command);
        let () = command.arg(key).arg(arguments).query_async(&mut self.redis).await.unwrap();
    }

    /// What was found, and how much of it is left after healing.
    async fn heal(&self, audit: &mut Audit) -> Vec<(FindingKind, u64, u64)> {
        self.broker.heal(audit).await.unwrap();
        let tallies = audit.findings.iter();
        tallies.map(|(&kind, tally)| (kind, tally.found, tally.left())).collect()
    }

    async fn audit(&self) -> Audit {
        self.broker.audit(|_| ()).await.unwrap()
    }

    /// Runs everything that waits; returns what ran.
    async fn run_all(&self) -> Vec<JobId> {
        let worker = WorkerId::generate();
        let exchange = |number, settlements| Exchange {
            worker,
            number,
            lease: Duration::from_secs(10),
            tasks: TaskNames::default(),
            queues: vec!["long".parse().unwrap()],
            settlements,
            want: 100,
            busy: 0,
        };
        let partition = Partition::default();
        let (mut ids, mut number, mut done) = (Vec::new(), 1, Vec::new());
        loop {
            let exchanged = self.broker.exchange(partition, &exchange(number, done)).await.unwrap();
            assert!(exchanged.settled.iter().all(|settled| *settled == Settled::Done));
            if exchanged.claims.is_empty() {
                return ids;
            }
            ids.extend(exchanged.claims.iter().map(|claim| claim.job.id));
            let claims = exchanged.claims.into_iter();
            done = claims.map(|claim| claim.lease.complete(Payload::json("1"))).collect();
            number += 1;
        }
    }
}

#[tokio::test]
async fn a_job_that_the_walk_did_not_meet_is_put_back() {
    let mut world = World::new().await;
    let lost = world.ids[20];
    world.tamper("LREM", READY, &["1", &lost.to_string()]).await;
    let mut audit = world.audit().await;
    assert_eq!(world.heal(&mut audit).await, [(FindingKind::Lost, 1, 0)]);
    assert!(world.audit().await.findings.is_empty());
    let ran = world.run_all().await;
    assert_eq!((ran.len(), ran[0]), (40, lost));
}

#[tokio::test]
async fn a_walk_proves_nothing_once_something_was_taken_out_of_a_list() {
    let mut world = World::new().await;
    let lost = world.ids[20].to_string();
    world.tamper("LREM", READY, &["1", &lost]).await;
    let mut audit = world.audit().await;
    world.tamper("HINCRBY", "long:{0}:audit", &["removals", "1"]).await;
    // The count that healing starts from is the one of its own audit.
    assert_eq!(world.heal(&mut audit).await, [(FindingKind::Lost, 1, 1)]);
    let mut audit = world.audit().await;
    assert_eq!(world.heal(&mut audit).await, [(FindingKind::Lost, 1, 0)]);
}

#[tokio::test]
async fn a_job_that_has_changed_since_the_walk_is_left_alone() {
    let mut world = World::new().await;
    let lost = world.ids[20].to_string();
    world.tamper("LREM", READY, &["1", &lost]).await;
    let mut audit = world.audit().await;
    let state = "queued 2 long 0 - - - - -";
    world.tamper("HSET", &format!("long:{{0}}:job:{lost}"), &["state", state]).await;
    assert_eq!(world.heal(&mut audit).await, [(FindingKind::Lost, 1, 1)]);
}

#[tokio::test]
async fn what_stands_deep_is_found_and_taken_out_when_it_comes_near_the_end() {
    let mut world = World::new().await;
    let middle = world.ids[20].to_string();
    let after = world.ids[0].to_string();
    // Its other place is where it belongs, so only the deep one is wrong.
    world
        .tamper("HSET", &format!("long:{{0}}:job:{middle}"), &["priority", "high", "rare", "1"])
        .await;
    world.tamper("LPUSH", "long:{0}:queue:long:ready:high", &[&middle]).await;
    let mut audit = world.audit().await;
    assert_eq!(world.heal(&mut audit).await, [(FindingKind::Twice, 1, 1)]);

    // Somebody else's jobs are gone, and the list is short.
    world.tamper("LTRIM", READY, &["17", "22"]).await;
    world.tamper("RPUSH", READY, &[&after]).await;
    let mut audit = world.audit().await;
    let healed = world.heal(&mut audit).await;
    assert!(healed.contains(&(FindingKind::Twice, 1, 0)), "{healed:?}");
    assert!(world.audit().await.is_clean());
    let ran = world.run_all().await;
    assert_eq!(ran.iter().filter(|id| id.to_string() == middle).count(), 1);
    assert_eq!(ran.len(), 40);
}

#[tokio::test]
async fn an_id_without_a_job_deep_inside_becomes_a_ghost() {
    let mut world = World::new().await;
    let gone = world.ids[20].to_string();
    world.tamper("DEL", &format!("long:{{0}}:job:{gone}"), &[]).await;
    let mut audit = world.audit().await;
    assert_eq!(world.heal(&mut audit).await, [(FindingKind::Orphan, 1, 0)]);
    assert!(world.audit().await.findings.is_empty());
    let ghosts: u64 = redis::cmd("SCARD")
        .arg("long:{0}:queue:long:ghosts")
        .query_async(&mut world.redis)
        .await
        .unwrap();
    assert_eq!(ghosts, 1);
    assert_eq!(world.run_all().await.len(), 39);
    assert!(world.audit().await.findings.is_empty());
}
