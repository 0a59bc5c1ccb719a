//! Nodes of a cluster that have no functions: they are loaded by the first call that needs them.

use super::*;

/// Returns how many libraries of functions a node has.
async fn libraries(cluster: &RedisCluster, node: usize) -> usize {
    cluster.execute::<Vec<redis::Value>>(node, &["FUNCTION", "LIST"]).await.len()
}

/// Asserts that all these jobs ran once.
async fn assert_each_ran_once(setup: &mut Setup, ids: &[String]) {
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(setup.assert_all_succeed(ids).await, ids.len() as u64);
    assert_eq!(setup.stack.ledger().len(), 2 * unique.len(), "each job ran once");
}

#[tokio::test]
async fn a_node_that_lost_its_functions_gets_them_again_and_no_request_fails() {
    let mut setup = Setup::start(0, &[]).await;
    let mut ids = Vec::new();
    for round in 0..4 {
        for node in 0..3 {
            setup.cluster.execute::<()>(node, &["FUNCTION", "FLUSH"]).await;
            for n in 0..20 {
                let answer = submit(&setup.api, &format!("{round}-{node}-{n}")).await;
                assert_eq!(answer.status.as_u16(), 202, "{}", answer.json());
                ids.push(answer.id());
            }
        }
    }
    for node in 0..3 {
        assert_eq!(libraries(&setup.cluster, node).await, 1);
    }
    assert_each_ran_once(&mut setup, &ids).await;
}

#[tokio::test]
async fn a_replica_that_takes_over_without_functions_gets_them() {
    let mut setup = Setup::start(1, &[]).await;
    let (new, cluster) = (3 + OWNER, &setup.cluster);
    // Only what is written by hand differs from the master.
    cluster.execute::<()>(new, &["CONFIG", "SET", "replica-read-only", "no"]).await;
    cluster.execute::<()>(new, &["FUNCTION", "FLUSH"]).await;
    cluster.execute::<()>(new, &["CONFIG", "SET", "replica-read-only", "yes"]).await;
    assert_eq!(libraries(cluster, new).await, 0);
    let meanwhile = setup.submit_meanwhile();
    let mut ids = setup.submit_everywhere("before").await;
    setup.cluster.execute::<()>(new, &["CLUSTER", "FAILOVER"]).await;
    eventually("the replica is the master", async || {
        setup.cluster.is_master(new).await.then_some(())
    })
    .await;
    ids.extend(setup.submit_everywhere("after").await);
    ids.extend(meanwhile.end().await);
    assert_each_ran_once(&mut setup, &ids).await;
    assert_eq!(libraries(&setup.cluster, new).await, 1);
}

#[tokio::test]
async fn a_node_that_is_added_takes_its_share_and_may_leave_again() {
    let mut setup = Setup::start(0, &[]).await;
    let meanwhile = setup.submit_meanwhile();
    let mut ids = setup.submit_everywhere("before").await;
    let new = setup.cluster.add_master().await;
    assert_eq!(libraries(&setup.cluster, new).await, 0);
    // A quarter of the slots of each, from the end: the partitions are at equal distances.
    let mut shares = Vec::new();
    for master in 0..3 {
        for (first, last) in setup.cluster.slots_of(master).await {
            shares.push((master, (last - (last - first) / 4, last)));
        }
    }
    for &(master, share) in &shares {
        setup.cluster.move_slots(share, master, new).await;
    }
    assert!(!setup.partitions_of(new).await.is_empty());
    ids.extend(setup.submit_everywhere("moved").await);
    assert_eq!(libraries(&setup.cluster, new).await, 1);
    for (master, share) in shares {
        setup.cluster.move_slots(share, new, master).await;
    }
    setup.cluster.remove_last(3, 0).await;
    ids.extend(setup.submit_everywhere("after").await);
    ids.extend(meanwhile.end().await);
    assert_each_ran_once(&mut setup, &ids).await;
}
