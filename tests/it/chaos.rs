//! The short form of the chaos run; the long one is `crunch-chaos`, described in `docs/reliability.md`.

use std::time::Duration;

use crunch_tests::chaos::{Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_jobs_survive_all_injected_faults() {
    survive(1, 0, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_jobs_in_four_partitions_survive_all_injected_faults() {
    survive(4, 0, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_jobs_in_a_cluster_survive_all_injected_faults() {
    survive(4, 3, 4).await;
}

async fn survive(partitions: u16, nodes: usize, seed: u64) {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        jobs: 3000,
        faults: 30,
        seed,
        lease: Duration::from_secs(4),
        workers: 4,
        server_workers: 2,
        apis: 2,
        partitions,
        nodes,
        directory: directory.path().to_owned(),
    };
    let report = run(plan).await.unwrap();

    if !report.violations.is_empty() {
        panic!("{report}logs and ledgers are in {}", directory.keep().display());
    }

    assert!(
        report.acknowledged >= 3000
            && report.large > 0
            && report.in_servers > 0
            && report.faults == 30,
        "{report}"
    );
    assert_eq!((report.lost, report.unexplained()), (0, 0), "{report}");
}
