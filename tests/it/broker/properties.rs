//! Random histories: thousands of steps, each compared with the model and with the invariants.

use crunch_tests::RedisServer;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::driver::{Driver, library};
use super::operation::operation;
use crunch_common::time::Timestamp;

/// One history has fewer steps than this.
pub(crate) const STEPS: usize = 60;

/// Only every eighth history ends with an audit, because an audit scans the keys of all earlier histories as well.
const AUDITED_EVERY: u32 = 8;

/// Runs `cases` random histories of the given library; the first failure, shrunk, is the error.
pub(crate) fn run(
    redis: &RedisServer,
    prefix: &str,
    cases: u32,
    shrink: u32,
    edit: impl Fn(String) -> String,
) -> Result<(), String> {
    let config =
        Config { cases, max_shrink_iters: shrink, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases_run = std::cell::Cell::new(0_u32);
    let history = proptest::collection::vec(operation(), 1..STEPS);
    let library = library(edit);

    TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(Default::default()),
    )
    .run(&history, |operations| {
        cases_run.set(cases_run.get() + 1);
        runtime.block_on(async {
            let prefix = format!("{prefix}-case-{}", cases_run.get());
            let now = Timestamp::now().unix_ms();
            let mut driver = Driver::new(redis, prefix, library.clone(), now).await;
            for operation in &operations {
                driver.step(operation).await.map_err(TestCaseError::fail)?;
            }
            if cases_run.get().is_multiple_of(AUDITED_EVERY) {
                driver.audit().await.map_err(TestCaseError::fail)?;
            }
            Ok(())
        })
    })
    .map_err(|failure| failure.to_string())
}

#[test]
fn random_histories_keep_every_invariant_and_match_the_model() {
    let redis = RedisServer::start().with_partitions(1);
    if let Err(failure) = run(&redis, "random", 200, 500, |text| text) {
        panic!("{failure}");
    }
}
