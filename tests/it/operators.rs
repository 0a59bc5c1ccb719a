//! Operators' requests use connections of their own: they are repeated while Redis rejects them for a moment, too.

use crunch_common::Broker;
use crunch_common::broker::{BrokerConfig, Library, NewJob};
use crunch_common::job::{JobId, Partition};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskDescriptor;
use crunch_tests::{Proxy, RedisCluster, RedisServer, eventually};

fn queue() -> QueueName {
    "square".parse().unwrap()
}

async fn submit(broker: &Broker) -> JobId {
    let task = TaskDescriptor::new("square".parse().unwrap());
    let id = JobId::generate(Partition::default());
    broker.enqueue(&[NewJob::of(&task, id, "1")]).await.remove(0).unwrap();
    id
}

async fn execute<T: redis::FromRedisValue>(redis: &RedisServer, words: &[&str]) -> T {
    let mut connection = redis.connect().await;
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn operators_requests_load_functions_that_are_missing() {
    let redis = RedisServer::start();
    let broker = redis.broker("test", Library::shipped());
    broker.open().await.unwrap();
    let id = submit(&broker).await;
    for verb in ["pause", "resume", "cancel", "retry", "redrive", "purge", "delete"] {
        execute::<()>(&redis, &["FUNCTION", "FLUSH"]).await;
        match verb {
            "pause" => drop(broker.pause(&queue(), false).await.unwrap()),
            "resume" => drop(broker.resume(&queue()).await.unwrap()),
            "cancel" => drop(broker.cancel(id).await.unwrap()),
            "retry" => drop(broker.retry(id).await.unwrap()),
            "redrive" => drop(broker.redrive(&queue(), None, 1).await.unwrap()),
            "purge" => drop(broker.purge(&queue()).await.unwrap()),
            _ => drop(broker.delete(id).await.unwrap()),
        }
    }
}

#[tokio::test]
async fn operators_requests_wait_until_a_partition_has_moved() {
    let cluster = RedisCluster::start(2, 0).await;
    let redis_url = cluster.url().parse().unwrap();
    let broker =
        Broker::new(&BrokerConfig { redis_url, partitions: 1, ..BrokerConfig::default() }).unwrap();
    let id = submit(&broker).await;
    let slot = broker.slot(Partition::default()).to_string();
    // The second of two masters has it.
    let ids = [cluster.id(0).await, cluster.id(1).await];
    let set = async |node: usize, state: &[&str]| {
        let words = [&["CLUSTER", "SETSLOT", &slot], state].concat();
        cluster.execute::<()>(node, &words).await;
    };
    set(0, &["IMPORTING", &ids[1]]).await;
    set(1, &["MIGRATING", &ids[0]]).await;
    let before = cluster.calls(1).await;
    let canceling = tokio::spawn(async move { broker.cancel(id).await });
    eventually("a call is rejected", async || (cluster.calls(1).await > before).then_some(()))
        .await;
    set(1, &["STABLE"]).await;
    set(0, &["STABLE"]).await;
    canceling.await.unwrap().unwrap();
}

#[tokio::test]
async fn operators_requests_reach_a_new_master_while_the_old_one_still_answers() {
    let old = RedisServer::start();
    let new = old.start_replica();
    let name = Proxy::to(old.port());
    let redis_url = name.url().parse().unwrap();
    let broker =
        Broker::new(&BrokerConfig { redis_url, partitions: 1, ..BrokerConfig::default() }).unwrap();
    submit(&broker).await;
    // Now a connection for such requests is open.
    broker.pause(&queue(), false).await.unwrap();
    eventually("the replica has everything", async || new.is_synchronized().await.then_some(()))
        .await;
    execute::<()>(&new, &["REPLICAOF", "NO", "ONE"]).await;
    name.redirect_to(new.port());
    execute::<()>(&old, &["REPLICAOF", "127.0.0.1", &new.port().to_string()]).await;
    broker.resume(&queue()).await.unwrap();
}
