//! Networks that are split: clients that cannot reach some nodes, and nodes that cannot reach each other.

use std::time::{Duration, Instant};

use super::*;

/// How soon a request about a partition that cannot be reached is answered: two seconds are promised, two are for a
/// machine with other load.
const REJECTED_WITHIN: Duration = Duration::from_secs(4);
/// How many jobs without a key in a row show that none is for a partition that cannot be reached.
const IN_A_ROW: usize = 20;

#[tokio::test]
async fn half_of_the_nodes_behind_reset_connections_cost_only_their_partitions() {
    half_of_the_nodes_cost_only_their_partitions(Cut::Reset).await;
}

#[tokio::test]
async fn half_of_the_nodes_behind_silent_connections_cost_only_their_partitions() {
    half_of_the_nodes_cost_only_their_partitions(Cut::Silence).await;
}

/// Clients cannot reach two of four nodes, which stay masters.
async fn half_of_the_nodes_cost_only_their_partitions(how: Cut) {
    let mut setup = Setup::on(RedisCluster::start_on_network(4, 0).await, &[]).await;
    // The last has partition 0, in which the declarations of tasks are.
    let lost = [3, 0];
    let mut lost_partitions = BTreeSet::new();
    for node in lost {
        lost_partitions.extend(setup.partitions_of(node).await);
    }
    assert!(lost_partitions.contains(&0) && lost_partitions.len() < usize::from(PARTITIONS));
    let mut ids = setup.submit_everywhere("before").await;
    // Some of them run, and others wait, when the links are cut.
    let body = json!({ "task": "square", "payload": { "n": 1, "busy_ms": 200 } });
    ids.extend(accepted(&setup.api.post("/jobs/batch", &json!({ "jobs": vec![body; 24] })).await));
    setup.cluster.network().split(&[Host::Clients], &lost.map(Host::Node), how);

    let keys: Vec<_> = (0..40).map(|n| format!("during-{n}")).collect();
    let (reached, rejected) = submit_at_once(&setup.api, &keys).await;
    assert!(reached.iter().all(|id| !lost_partitions.contains(&home(id))));
    ids.extend(reached);
    let (mut without_key, mut in_a_row) = (Vec::new(), 0);
    eventually("jobs without a key are for nodes that can be reached", async || {
        let body = json!({ "task": "square", "payload": { "n": 1 } });
        let answer = setup.api.post("/jobs", &body).await;
        match answer.status.as_u16() {
            202 => {
                without_key.push(answer.id());
                in_a_row += 1;
            }
            _ => in_a_row = 0,
        }
        (in_a_row == IN_A_ROW).then_some(())
    })
    .await;
    // Once that is known, the answers are the same.
    let (reached, rejected_again) = submit_at_once(&setup.api, &keys).await;
    assert_eq!(rejected_again, rejected);
    let (there, here): (Vec<_>, Vec<_>) =
        ids.iter().partition(|id| lost_partitions.contains(&home(id)));
    for id in here.into_iter().chain(&reached).chain(&without_key) {
        setup.api.wait_for_status(id, "succeeded").await;
    }
    let start = Instant::now();
    assert_eq!(setup.api.get(&format!("/jobs/{}", there[0])).await.status.as_u16(), 503);
    assert!(start.elapsed() < REJECTED_WITHIN, "{:?}", start.elapsed());

    setup.cluster.network().heal();
    for key in &rejected {
        let id = eventually("the job is accepted", async || {
            let answer = submit(&setup.api, key).await;
            (answer.status.as_u16() == 202).then(|| answer.id())
        });
        ids.push(id.await);
        assert!(lost_partitions.contains(&home(ids.last().unwrap())));
    }
    ids.extend(without_key);
    assert_eq!(setup.assert_all_succeed(&ids).await, ids.len() as u64);
    assert_eq!(runs_of(&setup, &ids), ids.len(), "each job ran once");
}

/// The ids of the jobs of a batch, which was accepted.
fn accepted(answer: &Answer) -> Vec<String> {
    let items = answer.json()["items"].as_array().unwrap().clone();
    items.iter().map(|item| item["job"]["id"].as_str().unwrap().to_owned()).collect()
}

/// Submits with all keys at once; returns the ids of the jobs that were accepted, and the keys of the others.
async fn submit_at_once(api: &Api, keys: &[String]) -> (Vec<String>, Vec<String>) {
    let answers = join_all(keys.iter().map(async |key| {
        let start = Instant::now();
        let answer = submit(api, key).await;
        assert!(start.elapsed() < REJECTED_WITHIN, "{:?}", start.elapsed());
        (key, answer)
    }));
    let (mut reached, mut rejected) = (Vec::new(), Vec::new());
    for (key, answer) in answers.await {
        match answer.status.as_u16() {
            202 => reached.push(answer.id()),
            status => {
                assert_eq!(status, 503, "{}", answer.json());
                rejected.push(key.clone());
            }
        }
    }
    assert!(reached.len() > 5 && rejected.len() > 5, "{} {}", reached.len(), rejected.len());
    (reached, rejected)
}

/// How many runs of these jobs the handlers of `square` recorded.
fn runs_of(setup: &Setup, ids: &[String]) -> usize {
    let entries = setup.stack.ledger();
    entries.iter().filter(|entry| ids.contains(&entry.id)).count() / 2
}

/// Clients and one master can reach each other, and none of the other nodes, which replace that master.
#[tokio::test]
async fn what_is_accepted_in_the_smaller_part_of_a_split_cluster_is_not_lost() {
    let cluster = RedisCluster::start_on_network(3, 1).await;
    let mut setup = Setup::on(cluster, &[("CRUNCH_DURABILITY", "replica")]).await;
    let mut ids = setup.submit_everywhere("before").await;
    let meanwhile = setup.submit_meanwhile();
    let here = [Host::Clients, Host::Node(OWNER)];
    let there: Vec<_> = (0..6).filter(|&node| node != OWNER).map(Host::Node).collect();
    setup.cluster.network().split(&here, &there, Cut::Silence);
    // The master accepts writes until it finds out that it is alone: none of them is durable.
    let keys: Vec<_> = (0..40).map(|n| format!("alone-{n}")).collect();
    for answer in join_all(keys.iter().map(|key| submit(&setup.api, key))).await {
        assert_eq!(answer.status.as_u16(), 503, "{}", answer.json());
    }
    eventually("the replica has taken over", async || {
        setup.cluster.is_master(3 + OWNER).await.then_some(())
    })
    .await;
    eventually("the old master stops", async || {
        let info: String = setup.cluster.execute(OWNER, &["CLUSTER", "INFO"]).await;
        info.contains("cluster_state:fail").then_some(())
    })
    .await;
    let start = Instant::now();
    assert_eq!(submit(&setup.api, "still-alone").await.status.as_u16(), 503);
    assert!(start.elapsed() < REJECTED_WITHIN, "{:?}", start.elapsed());

    setup.cluster.network().heal();
    ids.extend(setup.submit_everywhere("after").await);
    ids.extend(meanwhile.end().await);
    setup.assert_all_succeed(&ids).await;
    assert!(!setup.cluster.is_master(OWNER).await, "the old master follows the new one");
}
