//! `lua/fast_path.lua` writes exactly what the general functions write: random histories with and without it leave the
//! same keys.

use crunch_common::broker::Library;
use crunch_common::time::Timestamp;
use crunch_tests::RedisServer;
use proptest::prelude::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRng, TestRunner};

use super::driver::{Driver, library};
use super::operation::{Operation, Times, operation};
use super::properties::STEPS;

const SWITCH: &str = "local FAST_PATHS = true";

fn without_fast_paths() -> Library {
    library(|text| {
        assert_eq!(text.matches(SWITCH).count(), 1, "the library has one switch");
        text.replace(SWITCH, "local FAST_PATHS = false")
    })
}

/// Runs a history on two Redis servers, each with its own library, and compares all keys after each step.
async fn compare(
    servers: &[RedisServer; 2],
    libraries: [Library; 2],
    prefix: &str,
    history: &[Operation],
) -> Result<(), String> {
    let now = Timestamp::now().unix_ms();
    let [fast, general] = libraries;
    let mut fast = Driver::new(&servers[0], prefix.to_owned(), fast, now).await;
    let mut general = Driver::new(&servers[1], prefix.to_owned(), general, now).await;

    for operation in history {
        fast.step(operation).await?;
        general.step(operation).await?;
        let (fast, general) = (fast.dump().await, general.dump().await);
        let difference = fast.iter().find(|(key, entries)| general.get(*key) != Some(*entries));
        if let Some((key, entries)) = difference {
            let other = general.get(key);
            return Err(format!(
                "after {operation:?} {key} is {entries:?} with fast paths, {other:?} without"
            ));
        }
        if fast.len() != general.len() {
            return Err(format!("after {operation:?} there are more keys without fast paths"));
        }
    }
    Ok(())
}

fn compare_all(cases: u32, libraries: &[Library; 2]) -> Result<(), String> {
    let servers =
        [RedisServer::start().with_partitions(1), RedisServer::start().with_partitions(1)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(Default::default()));
    let case = std::cell::Cell::new(0_u32);
    let history = proptest::collection::vec(operation(), 1..STEPS).prop_map(|history| {
        // The second one is submitted alone to a queue that is known.
        let plain = Operation::Enqueue {
            queue: 0,
            task: 0,
            priority: 2,
            count: 1,
            times: Times::default(),
            labels: 0,
            group: None,
            unique: None,
        };
        [vec![plain.clone(), plain], history].concat()
    });
    let run = |history: Vec<Operation>| {
        case.set(case.get() + 1);
        let prefix = format!("case-{}", case.get());
        let result = compare(&servers, libraries.clone(), &prefix, &history);
        runtime.block_on(result).map_err(TestCaseError::fail)
    };
    runner.run(&history, run).map_err(|failure| failure.to_string())
}

#[test]
fn fast_paths_write_what_the_general_functions_write() {
    let libraries = [library(|text| text), without_fast_paths()];
    if let Err(failure) = compare_all(60, &libraries) {
        panic!("{failure}");
    }
}

#[test]
fn a_fast_path_that_writes_something_else_is_detected() {
    let wrong = library(|text| {
        let arguments = "'state', group[at + 1], 'spec', group[at + 2]";
        assert_eq!(text.matches(arguments).count(), 1);
        text.replace(
            arguments,
            "'state', group[at + 1], 'priority', 'normal', 'spec', group[at + 2]",
        )
    });
    assert!(compare_all(20, &[wrong, without_fast_paths()]).is_err());
    let wrong = library(|text| {
        let value = "'spec', created .. ' ' .. argv[8]";
        assert_eq!(text.matches(value).count(), 1);
        text.replace(value, "'spec', created .. '  ' .. argv[8]")
    });
    assert!(compare_all(1, &[wrong, without_fast_paths()]).is_err());
}
