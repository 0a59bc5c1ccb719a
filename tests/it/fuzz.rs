//! The short form of the fuzz run; the long one is `crunch-fuzz`, described in `docs/reliability.md`.

use std::time::Duration;

use crunch_tests::fuzz::{Plan, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_strange_inputs_are_answered_as_documented() {
    let plan = Plan { inputs: 1000, time: Duration::from_secs(60), seed: 1, timed: false };
    let report = run(plan).await.unwrap();
    assert!(report.findings.is_empty(), "{report}");
    assert!(report.requests > 0 && report.schemas > 0 && report.tables > 0, "{report}");
}
