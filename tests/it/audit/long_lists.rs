//! Lists that are too long to be searched in one step. The functions here search only four entries, so that short lists
//! are too long.

use std::time::Duration;

use crunch_common::broker::{
    Audit, Broker, Exchange, FindingKind, Library, NewJob, Settled, TaskNames, WorkerId,
};
use crunch_common::job::{JobId, Partition, Payload};
use crunch_common::task::TaskDescriptor;
use crunch_tests::RedisServer;
use redis::aio::MultiplexedConnection;

const READY: &str = "long:{0}:queue:long:ready:normal";

struct LongList {
    broker: Broker,
    redis: MultiplexedConnection,
    /// In the order in which they were submitted.
    ids: Vec<JobId>,
    _server: RedisServer,
}

fn with_short_searches() -> Library {
    Library::edited(|text| {
        let edited = text.replacen("LIST_LOOKS = 10000", "LIST_LOOKS = 4", 1).replacen(
            "PUSHED_ALONG = 1000",
            "PUSHED_ALONG = 3",
            1,
        );
        assert_eq!(edited.len() + 4 + 3, text.len(), "the library contains both numbers");
        edited
    })
}

impl LongList {
    /// Fills a queue with forty jobs.
    async fn new() -> Self {
        let server = RedisServer::start().with_partitions(1);
        let broker = server.broker("long", with_short_searches());
        let redis = server.connect().await;
        let mut list = Self { broker, redis, ids: Vec::new(), _server: server };

        let jobs: Vec<_> = (0..40).map(|_| list.job()).collect();
        list.ids = jobs.iter().map(|job| job.id).collect();
        for answer in list.broker.enqueue(&jobs).await {
            answer.unwrap();
        }
        list
    }

    fn job(&self) -> NewJob {
        let task = TaskDescriptor::new("long".parse().unwrap());
        NewJob::of(&task, self.broker.new_id(None), "{}")
    }

    async fn tamper(&mut self, command: &str, key: &str, arguments: &[&str]) {
        let mut command = redis::cmd(command);
        let () = command.arg(key).arg(arguments).query_async(&mut self.redis).await.unwrap();
    }

    /// Heals; returns how many of each kind were found, and how many of them are left.
    async fn heal(&self, audit: &mut Audit) -> Vec<(FindingKind, u64, u64)> {
        self.broker.heal(audit).await.unwrap();
        let tallies = audit.findings.iter();
        tallies.map(|(&kind, tally)| (kind, tally.found, tally.left())).collect()
    }

    async fn audit(&self) -> Audit {
        self.broker.audit(|_| ()).await.unwrap()
    }

    /// Completes every job that is ready; returns their ids.
    async fn complete_all(&self) -> Vec<JobId> {
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
async fn a_job_that_the_audit_found_in_no_list_is_put_back() {
    let mut list = LongList::new().await;
    let lost = list.ids[20];
    list.tamper("LREM", READY, &["1", &lost.to_string()]).await;

    let mut audit = list.audit().await;
    assert_eq!(list.heal(&mut audit).await, [(FindingKind::Lost, 1, 0)]);

    assert!(list.audit().await.findings.is_empty());
    let completed = list.complete_all().await;
    assert_eq!((completed.len(), completed[0]), (40, lost));
}

#[tokio::test]
async fn an_audit_proves_nothing_once_an_id_was_removed_from_a_list() {
    let mut list = LongList::new().await;
    let lost = list.ids[20].to_string();
    list.tamper("LREM", READY, &["1", &lost]).await;
    let mut audit = list.audit().await;

    list.tamper("HINCRBY", "long:{0}:audit", &["removals", "1"]).await;
    // Healing compares with the count that its own audit started from.
    assert_eq!(list.heal(&mut audit).await, [(FindingKind::Lost, 1, 1)]);

    let mut audit = list.audit().await;
    assert_eq!(list.heal(&mut audit).await, [(FindingKind::Lost, 1, 0)]);
}

#[tokio::test]
async fn a_job_that_has_changed_since_the_audit_is_left_alone() {
    let mut list = LongList::new().await;
    let lost = list.ids[20].to_string();
    list.tamper("LREM", READY, &["1", &lost]).await;
    let mut audit = list.audit().await;

    let state = "queued 2 long 0 - - - - -";
    list.tamper("HSET", &format!("long:{{0}}:job:{lost}"), &["state", state]).await;
    assert_eq!(list.heal(&mut audit).await, [(FindingKind::Lost, 1, 1)]);
}

#[tokio::test]
async fn a_wrong_id_deep_in_a_list_is_removed_once_it_is_near_an_end() {
    let mut list = LongList::new().await;
    let middle = list.ids[20].to_string();
    let after = list.ids[0].to_string();
    // Its other place is correct, so only the deep one is wrong.
    list.tamper(
        "HSET",
        &format!("long:{{0}}:job:{middle}"),
        &["priority", "high", "optional", "priority"],
    )
    .await;
    list.tamper("LPUSH", "long:{0}:queue:long:ready:high", &[&middle]).await;

    let mut audit = list.audit().await;
    assert_eq!(list.heal(&mut audit).await, [(FindingKind::Twice, 1, 1)]);

    // Other jobs are removed from the list, which is short now.
    list.tamper("LTRIM", READY, &["17", "22"]).await;
    list.tamper("RPUSH", READY, &[&after]).await;
    let mut audit = list.audit().await;
    let healed = list.heal(&mut audit).await;
    assert!(healed.contains(&(FindingKind::Twice, 1, 0)), "{healed:?}");

    assert!(list.audit().await.is_clean());
    let completed = list.complete_all().await;
    assert_eq!(completed.iter().filter(|id| id.to_string() == middle).count(), 1);
    assert_eq!(completed.len(), 40);
}

#[tokio::test]
async fn an_id_without_a_job_deep_in_a_list_becomes_a_ghost() {
    let mut list = LongList::new().await;
    let deleted = list.ids[20].to_string();
    list.tamper("DEL", &format!("long:{{0}}:job:{deleted}"), &[]).await;

    let mut audit = list.audit().await;
    assert_eq!(list.heal(&mut audit).await, [(FindingKind::Orphan, 1, 0)]);
    assert!(list.audit().await.findings.is_empty());

    let ghosts: u64 = redis::cmd("SCARD")
        .arg("long:{0}:queue:long:ghosts")
        .query_async(&mut list.redis)
        .await
        .unwrap();
    assert_eq!(ghosts, 1);

    assert_eq!(list.complete_all().await.len(), 39);
    assert!(list.audit().await.findings.is_empty());
}
