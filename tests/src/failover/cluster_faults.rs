//! The faults of a cluster.

use std::time::Duration;

use crunch_common::Broker;
use crunch_common::job::Partition;

use super::Fault;
use crate::wait::eventually;
use crate::{Cut, Host, RedisCluster};

pub(super) const MASTERS: usize = 3;
/// How long half of the nodes cannot be reached: longer than it takes to find that out, shorter than a lease.
const SPLIT: Duration = Duration::from_secs(5);

/// Injects the fault for the time with this number, and waits until others have taken over, or it is healed; returns
/// the partitions that it concerns.
pub(super) async fn inject(
    cluster: &mut RedisCluster,
    broker: &Broker,
    fault: Fault,
    number: usize,
) -> Vec<Partition> {
    let group = number % MASTERS;
    match fault {
        Fault::Move => move_one(cluster, broker, group).await,
        Fault::Split => split(cluster, broker, number).await,
        Fault::Add => add(cluster, broker).await,
        _ => fail_over(cluster, broker, fault, group).await,
    }
}

/// Has the replica of a group take over.
async fn fail_over(
    cluster: &mut RedisCluster,
    broker: &Broker,
    fault: Fault,
    group: usize,
) -> Vec<Partition> {
    let [old, new] = master_and_replica(cluster, group).await;
    let here = partitions_of(cluster, broker, old).await;
    match fault {
        Fault::Planned => cluster.execute::<()>(new, &["CLUSTER", "FAILOVER"]).await,
        Fault::Freeze => cluster.nodes[old].freeze(),
        Fault::Isolate => {
            let others = (0..cluster.nodes.len()).filter(|&it| it != old).map(Host::Node);
            let others: Vec<_> = others.collect();
            cluster.network().split(&[Host::Node(old)], &others, Cut::Silence);
        }
        _ => cluster.nodes[old].kill(),
    }
    eventually("the replica has taken over", async || cluster.is_master(new).await.then_some(()))
        .await;
    match fault {
        Fault::Kill => tokio::task::block_in_place(|| cluster.nodes[old].restart()),
        Fault::Freeze => cluster.nodes[old].thaw(),
        Fault::Isolate => cluster.network().heal(),
        _ => {}
    }
    here
}

/// Moves a partition of a group to the next one, and back, so that all have as many.
async fn move_one(cluster: &RedisCluster, broker: &Broker, group: usize) -> Vec<Partition> {
    let [from, _] = master_and_replica(cluster, group).await;
    let [to, _] = master_and_replica(cluster, (group + 1) % MASTERS).await;
    let moved = partitions_of(cluster, broker, from).await[0];
    cluster.move_slot(broker.slot(moved), from, to).await;
    cluster.move_slot(broker.slot(moved), to, from).await;
    vec![moved]
}

/// Cuts clients off from half of the nodes for a while: one master and two replicas, or two masters and one replica.
async fn split(cluster: &RedisCluster, broker: &Broker, number: usize) -> Vec<Partition> {
    let (mut cut_off, mut concerned) = (Vec::new(), Vec::new());
    let masters = 1 + number / 2 % 2;
    for group in 0..MASTERS {
        let [master, replica] = master_and_replica(cluster, group).await;
        let is_lost = (group + number) % MASTERS < masters;
        cut_off.push(Host::Node(if is_lost { master } else { replica }));
        if is_lost {
            concerned.extend(partitions_of(cluster, broker, master).await);
        }
    }
    let how = if number.is_multiple_of(2) { Cut::Reset } else { Cut::Silence };
    cluster.network().split(&[Host::Clients], &cut_off, how);
    tokio::time::sleep(SPLIT).await;
    cluster.network().heal();
    concerned
}

/// Adds a master with a replica, moves to it what is its share of the slots of the others, and back, and removes it.
async fn add(cluster: &mut RedisCluster, broker: &Broker) -> Vec<Partition> {
    let (nodes, replicas) = (cluster.nodes.len(), MASTERS);
    let new = cluster.add_master().await;
    cluster.add_replica(new).await;
    let mut shares = Vec::new();
    for master in 0..MASTERS {
        for (first, last) in cluster.slots_of(master).await {
            shares.push((master, (last - (last - first) / (MASTERS as u16 + 1), last)));
        }
    }
    for &(master, share) in &shares {
        cluster.move_slots(share, master, new).await;
    }
    let moved = partitions_of(cluster, broker, new).await;
    eventually("the new node has the functions", async || {
        let functions: Vec<redis::Value> = cluster.execute(new, &["FUNCTION", "LIST"]).await;
        (!functions.is_empty()).then_some(())
    })
    .await;
    for (master, share) in shares {
        cluster.move_slots(share, new, master).await;
    }
    cluster.remove_last(nodes, replicas).await;
    moved
}

/// Returns the master of a group, which is one of two nodes, and its replica.
async fn master_and_replica(cluster: &RedisCluster, group: usize) -> [usize; 2] {
    match cluster.is_master(group).await {
        true => [group, group + MASTERS],
        false => [group + MASTERS, group],
    }
}

async fn partitions_of(cluster: &RedisCluster, broker: &Broker, node: usize) -> Vec<Partition> {
    let ranges = cluster.slots_of(node).await;
    let is_here = |partition: &Partition| {
        let slot = broker.slot(*partition);
        ranges.iter().any(|&(first, last)| (first..=last).contains(&slot))
    };
    broker.partitions().filter(is_here).collect()
}
