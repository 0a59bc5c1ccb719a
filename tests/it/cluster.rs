//! A Redis Cluster: all features over all nodes; what a lost node costs, and what it does not; partitions that move.

mod functions;
mod split;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crunch_common::Broker;
use crunch_common::broker::{BrokerConfig, Error};
use crunch_common::job::{JobId, Partition};
use crunch_tests::{Answer, Api, Cut, Host, RedisCluster, RedisServer, Stack, Worker, eventually};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// A multiple of the masters, so that each has as many.
const PARTITIONS: u16 = 6;
/// The slot of partition 0, which the last of three masters has.
const SLOT: u16 = 13_907;
const OWNER: usize = 2;

struct Setup {
    cluster: RedisCluster,
    stack: Stack,
    api: Arc<Api>,
    worker: Worker,
}

impl Setup {
    async fn start(replicas: usize, environment: &[(&str, &str)]) -> Self {
        Self::on(RedisCluster::start(3, replicas).await, environment).await
    }

    async fn on(cluster: RedisCluster, environment: &[(&str, &str)]) -> Self {
        // Nothing connects to this one.
        let unused = RedisServer::single().with_partitions(PARTITIONS);
        let mut stack = Stack::on(unused).by(cluster.url());
        let api = stack.api_with(environment).await;
        let worker = stack.worker(&api, 4).await;
        Self { cluster, stack, api: Arc::new(api), worker }
    }

    /// Submits jobs until the returned value is used; it returns the ids of those that were accepted.
    fn submit_meanwhile(&self) -> Submissions {
        let (api, stop) = (self.api.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut ids = Vec::new();
            for n in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let answer = submit(&api, &format!("key-{n}")).await;
                match answer.status.as_u16() {
                    202 => ids.push(answer.id()),
                    status => assert_eq!(status, 503, "{}", answer.json()),
                }
            }
            ids
        });
        Submissions { stop, task }
    }

    /// Submits with keys that together have every home; waits until each is accepted.
    async fn submit_everywhere(&self, name: &str) -> Vec<String> {
        let mut ids = Vec::new();
        for n in 0..40 {
            let accepted = eventually("the job is accepted", async || {
                let answer = submit(&self.api, &format!("{name}-{n}")).await;
                let status = answer.status.as_u16();
                assert!([202, 503].contains(&status), "{}", answer.json());
                (status == 202).then(|| answer.id())
            });
            ids.push(accepted.await);
        }
        let homes: BTreeSet<_> = ids.iter().map(|id| home(id)).collect();
        assert_eq!(homes.len(), usize::from(PARTITIONS));
        ids
    }

    /// Returns the partitions that a node has.
    async fn partitions_of(&self, node: usize) -> BTreeSet<u16> {
        let (ranges, broker) = (self.cluster.slots_of(node).await, broker(&self.cluster.url()));
        let is_here = |partition: &Partition| {
            let slot = broker.slot(*partition);
            ranges.iter().any(|&(first, last)| (first..=last).contains(&slot))
        };
        broker.partitions().filter(is_here).map(Partition::number).collect()
    }

    /// Waits until all have succeeded; returns how many attempts they took.
    async fn assert_all_succeed(&mut self, ids: &[String]) -> u64 {
        let mut attempts = 0;
        for id in ids {
            let job = self.api.wait_for_status(id, "succeeded").await;
            attempts += job["attempt"].as_u64().unwrap();
        }
        self.stack.assert_clean_audit().await;
        assert!(!self.worker.has_exited());
        attempts
    }
}

struct Submissions {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Submissions {
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

async fn submit(api: &Api, key: &str) -> Answer {
    let body = json!({ "task": "square", "payload": { "n": 1 }, "idempotency_key": key });
    api.post("/jobs", &body).await
}

/// The partition that is part of an id.
fn home(id: &str) -> u16 {
    id.parse::<JobId>().unwrap().partition().number()
}

fn broker(url: &str) -> Broker {
    let redis_url = url.parse().unwrap();
    let config = BrokerConfig { redis_url, partitions: PARTITIONS, ..BrokerConfig::default() };
    Broker::new(&config).unwrap()
}

#[tokio::test]
async fn one_queue_is_spread_over_all_nodes() {
    let mut setup = Setup::start(0, &[]).await;
    let jobs: Vec<_> = (0..60).map(|n| json!({ "task": "echo", "payload": n })).collect();
    let answer = setup.api.post("/jobs/batch", &json!({ "jobs": jobs })).await;
    assert_eq!(answer.status.as_u16(), 202, "{:#}", answer.json());
    let items = answer.json()["items"].as_array().unwrap().clone();
    let ids: Vec<_> =
        items.iter().map(|item| item["job"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(setup.assert_all_succeed(&ids).await, 60);
    let homes: BTreeSet<_> = ids.iter().map(|id| home(id)).collect();
    assert_eq!(homes.len(), usize::from(PARTITIONS));
    for node in 0..3 {
        let keys: Vec<String> = setup.cluster.execute(node, &["KEYS", "*:job:*"]).await;
        let partitions = setup.partitions_of(node).await;
        let here = ids.iter().filter(|id| partitions.contains(&home(id)));
        assert!(here.clone().count() >= 2, "of {} jobs on node {node}", keys.len());
        for id in here {
            assert!(keys.iter().any(|key| key.ends_with(id)), "{id} is on node {node}");
        }
    }
}

#[tokio::test]
async fn lists_counts_waits_and_verbs_cover_all_nodes() {
    let mut setup = Setup::start(0, &[("CRUNCH_API_UNKNOWN_TASKS", "accept")]).await;
    let ids: Vec<_> = {
        let mut ids = Vec::new();
        for n in 0..30 {
            let body = json!({ "task": "later", "queue": "later", "payload": n });
            ids.push(setup.api.post("/jobs", &body).await.id());
        }
        ids
    };
    let mut listed = BTreeSet::new();
    let first = "/jobs?status=queued&queue=later&limit=7".to_owned();
    let mut path = first.clone();
    loop {
        let page = setup.api.get(&path).await.json();
        let items = page["items"].as_array().unwrap().iter();
        listed.extend(items.map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("{first}&cursor={cursor}");
    }
    assert_eq!(listed, ids.iter().cloned().collect());
    let queue = setup.api.get("/queues/later").await.json();
    assert_eq!(queue["counts"]["queued"], 30, "{queue:#}");
    let canceled = setup.api.post_empty(&format!("/jobs/{}/cancel", ids[0])).await;
    assert!(canceled.status.is_success(), "{}", canceled.json());
    let purged = setup.api.post_empty("/queues/later/purge").await;
    assert!(purged.status.is_success(), "{}", purged.json());
    assert_eq!(setup.api.get("/queues/later").await.json()["counts"]["queued"], 0);
    assert!(setup.api.post_empty("/queues/echo/pause").await.status.is_success());
    assert!(setup.api.post_empty("/queues/echo/resume").await.status.is_success());

    // Changes of jobs of every node reach those that wait for them, and large payloads and results arrive.
    for _ in 0..12 {
        let body = json!({ "task": "echo", "payload": "x".repeat(100_000) });
        let job = setup.api.post("/jobs?wait=60", &body).await.json();
        assert_eq!(job["status"], "succeeded", "{job}");
    }
    let metrics = setup.api.get("/metrics").await.body;
    assert!(String::from_utf8_lossy(&metrics).contains("crunch_queue_jobs"));
    assert_eq!(setup.assert_all_succeed(&[]).await, 0);
}

#[tokio::test]
async fn a_lost_master_costs_no_durable_job_and_the_others_serve_on() {
    let cluster = RedisCluster::start_on_network(3, 1).await;
    let mut setup = Setup::on(cluster, &[("CRUNCH_DURABILITY", "replica")]).await;
    let mut ids = setup.submit_everywhere("before").await;
    // What its replica does not have is not accepted, and lost with the master.
    let [master, replica] = [OWNER, 3 + OWNER].map(|node| [Host::Node(node)]);
    setup.cluster.network().split(&master, &replica, Cut::Reset);
    let keys: Vec<_> = (0..20).map(|n| format!("alone-{n}")).collect();
    let answers = join_all(keys.iter().map(|key| submit(&setup.api, key))).await;
    let accepted = answers.iter().filter(|answer| answer.status.as_u16() == 202);
    ids.extend(accepted.map(Answer::id));
    let meanwhile = setup.submit_meanwhile();
    setup.cluster.nodes[OWNER].kill();
    setup.cluster.network().heal();
    // Jobs without a key are not for partitions of the lost node once that is known.
    let mut in_a_row = 0;
    while in_a_row < 10 && !setup.cluster.is_master(3 + OWNER).await {
        let answer = setup.api.post("/jobs", &json!({ "task": "echo" })).await;
        in_a_row = if answer.status.as_u16() == 202 { in_a_row + 1 } else { 0 };
        ids.extend((answer.status.as_u16() == 202).then(|| answer.id()));
    }
    assert!(in_a_row >= 10, "the other partitions serve while the node is lost");
    eventually("the replica has taken over", async || {
        setup.cluster.is_master(3 + OWNER).await.then_some(())
    })
    .await;
    // It accepts durable jobs once it has a replica itself.
    setup.cluster.nodes[OWNER].restart();
    ids.extend(setup.submit_everywhere("after").await);
    ids.extend(meanwhile.end().await);
    setup.assert_all_succeed(&ids).await;
}

#[tokio::test]
async fn a_worker_runs_the_jobs_of_other_nodes_while_one_does_not_answer() {
    let mut setup = Setup::start(0, &[]).await;
    // Enough for all partitions to have jobs, and all slots to be in use, when the node stops.
    let body = json!({ "task": "square", "payload": { "n": 1, "busy_ms": 200 } });
    let jobs = vec![body; 90];
    let items = setup.api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();
    let items = items["items"].as_array().unwrap().clone();
    let ids: Vec<_> =
        items.iter().map(|item| item["job"]["id"].as_str().unwrap().to_owned()).collect();
    let partitions = setup.partitions_of(OWNER).await;
    let (there, elsewhere): (Vec<_>, Vec<_>) =
        ids.iter().partition(|id| partitions.contains(&home(id)));
    assert!(there.len() > 10 && elsewhere.len() > 30, "{} {}", there.len(), elsewhere.len());
    setup.cluster.nodes[OWNER].freeze();
    for id in elsewhere {
        setup.api.wait_for_status(id, "succeeded").await;
    }
    setup.cluster.nodes[OWNER].thaw();
    setup.assert_all_succeed(&ids).await;
}

#[tokio::test]
async fn each_node_proves_the_durability_of_its_own_jobs() {
    let mut setup = Setup::start(1, &[("CRUNCH_DURABILITY", "replica")]).await;
    let ids = setup.submit_everywhere("warm").await;
    setup.cluster.nodes[3 + OWNER].freeze();
    let jobs: Vec<_> =
        (0..60).map(|n| json!({ "task": "square", "payload": { "n": n } })).collect();
    let items = setup.api.post("/jobs/batch", &json!({ "jobs": jobs })).await.json();
    let items = items["items"].as_array().unwrap().clone();
    let id = |item: &Value| item["job"]["id"].as_str().map(str::to_owned);
    let durable: Vec<_> = items.iter().filter_map(id).collect();
    let homes: BTreeSet<_> = durable.iter().map(|id| home(id)).collect();
    assert_eq!(homes.len(), usize::from(PARTITIONS) * 2 / 3, "{homes:?}");
    for item in items.iter().filter(|item| id(item).is_none()) {
        let (status, outcome) = (&item["status"], &item["problem"]["outcome"]);
        assert_eq!((status, outcome), (&json!(503), &json!("unknown")), "{item:#}");
    }
    setup.cluster.nodes[3 + OWNER].thaw();
    setup.assert_all_succeed(&[ids, durable].concat()).await;
}

#[tokio::test]
async fn a_partition_that_moves_under_load_loses_nothing_and_runs_nothing_twice() {
    let mut setup = Setup::start(0, &[]).await;
    let new = setup.cluster.add_master().await;
    let meanwhile = setup.submit_meanwhile();
    let mut ids = setup.submit_everywhere("before").await;
    for (from, to) in [(OWNER, 0), (0, new), (new, OWNER)] {
        // While some keys are here and others there, calls go on.
        let calls_go_on = async || {
            let before = setup.cluster.calls(from).await;
            eventually("calls are rejected", async || {
                (setup.cluster.calls(from).await > before + 20).then_some(())
            })
            .await;
        };
        setup.cluster.move_slot_pausing(SLOT, from, to, calls_go_on).await;
        ids.extend(setup.submit_everywhere(&format!("at-{to}")).await);
    }
    ids.extend(meanwhile.end().await);
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(setup.assert_all_succeed(&ids).await, ids.len() as u64);
    assert_eq!(setup.stack.ledger().len(), 2 * unique.len(), "each job ran once");
    let functions: Vec<redis::Value> = setup.cluster.execute(new, &["FUNCTION", "LIST"]).await;
    assert_eq!(functions.len(), 1, "the new node got the functions with its first partition");
}

#[tokio::test]
async fn a_replica_that_takes_over_as_planned_costs_nothing() {
    let mut setup = Setup::start(1, &[]).await;
    let meanwhile = setup.submit_meanwhile();
    let mut ids = setup.submit_everywhere("before").await;
    setup.cluster.execute::<()>(3 + OWNER, &["CLUSTER", "FAILOVER"]).await;
    eventually("the replica is the master", async || {
        setup.cluster.is_master(3 + OWNER).await.then_some(())
    })
    .await;
    ids.extend(setup.submit_everywhere("after").await);
    ids.extend(meanwhile.end().await);
    setup.assert_all_succeed(&ids).await;
}

#[tokio::test]
async fn a_worker_and_the_deliveries_of_an_api_are_healthy_while_a_node_does_not_answer() {
    let Setup { cluster, mut stack, api, .. } = Setup::start(0, &crate::webhooks::SETTINGS).await;
    let mut worker = stack.worker_process(1, &[("CRUNCH_WORKER_ADDR", "127.0.0.1:0")]);
    let address = worker.wait_for_log("listening on ").await;
    let are_healthy = async || {
        let worker = reqwest::get(format!("{address}/readyz")).await.unwrap();
        let metrics = String::from_utf8(api.get("/metrics").await.body.to_vec()).unwrap();
        let delivers = metrics.lines().any(|line| line == "crunch_webhooks_up 1");
        (worker.status() == 200 && delivers).then_some(())
    };
    eventually("they are healthy", are_healthy).await;
    cluster.nodes[OWNER].freeze();
    worker.wait_for_log("cannot reach Redis").await;
    eventually("they are healthy without the node", are_healthy).await;
    cluster.nodes[OWNER].thaw();
}

#[tokio::test]
async fn an_outage_of_all_nodes_is_reported_as_one_each_time() {
    let mut cluster = RedisCluster::start(1, 0).await;
    let broker = broker(&cluster.url());
    cluster.nodes[0].stop();
    for _ in 0..5 {
        let error = broker.open().await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_address_of_another_kind_is_refused_and_the_right_one_named() {
    let cluster = RedisCluster::start(1, 0).await;
    let port = cluster.nodes[0].port();
    let alone = RedisServer::single();
    for (url, reason) in [
        (format!("redis://127.0.0.1:{port}/"), "set CRUNCH_REDIS_URL to redis+cluster://"),
        (format!("redis+cluster://127.0.0.1:{}/", alone.port()), "does not belong to a cluster"),
    ] {
        let error = broker(&url).open().await.unwrap_err().to_string();
        assert!(error.contains("cannot be used") && error.contains(reason), "{error}");
    }
}
