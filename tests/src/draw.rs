//! What a test draws at random: how many partitions its key spaces have. And which server it uses, of which kind.
//!
//! The same seed draws the same for the same test. `script/test` prints the seed it uses; a test alone prints its own, with
//! its output if it fails.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

/// The variable with the seed, any text.
const SEED_VARIABLE: &str = "CRUNCH_TEST_SEED";
/// The variable with a number of partitions for all tests that draw one.
const PARTITIONS_VARIABLE: &str = "CRUNCH_TEST_PARTITIONS";
/// The variable with the program of the Redis or Valkey that tests start; `redis-server` without it.
const SERVER_VARIABLE: &str = "CRUNCH_TEST_REDIS";
/// The variable with the kind of Redis that tests start: `single`, or `cluster` for nodes of a Redis Cluster.
const KIND_VARIABLE: &str = "CRUNCH_TEST_KIND";
/// What is drawn from.
const PARTITIONS: [u16; 4] = [1, 2, 4, 16];
/// The same with a cluster: enough for each of three nodes to have some.
const PARTITIONS_OF_CLUSTER: [u16; 2] = [4, 16];

#[expect(clippy::disallowed_methods, reason = "only tests and their tools read these variables")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the program of the Redis that tests start.
pub(crate) fn redis_program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| variable(SERVER_VARIABLE).unwrap_or_else(|| "redis-server".to_owned()))
}

/// Returns the name of the test that runs on this thread; nothing outside of tests.
fn test() -> Option<String> {
    // Tests run on threads that have their names.
    let thread = std::thread::current();
    thread.name().filter(|name| name.contains("::")).map(str::to_owned)
}

/// Whether the test that runs on this thread uses a Redis Cluster, unless it is about another kind; not outside of
/// tests.
///
/// # Panics
/// If the variable has another value.
pub fn is_cluster() -> bool {
    match variable(KIND_VARIABLE).as_deref() {
        None | Some("single") => false,
        Some("cluster") => test().is_some(),
        Some(other) => panic!("CRUNCH_TEST_KIND is single or cluster, not {other:?}"),
    }
}

/// Draws a number of partitions for the test that runs on this thread; 1 outside of tests.
///
/// # Panics
/// If the variable has no number.
#[expect(clippy::print_stderr, reason = "the output of a test")]
pub(crate) fn partitions() -> u16 {
    static SEED: OnceLock<String> = OnceLock::new();
    let Some(test) = test() else { return 1 };
    if let Some(number) = variable(PARTITIONS_VARIABLE) {
        return number.parse().expect("CRUNCH_TEST_PARTITIONS is a number");
    }
    let seed = SEED.get_or_init(|| {
        variable(SEED_VARIABLE).unwrap_or_else(|| rand::random::<u32>().to_string())
    });
    let mut hasher = DefaultHasher::new();
    (seed, test).hash(&mut hasher);
    let choices = if is_cluster() { &PARTITIONS_OF_CLUSTER[..] } else { &PARTITIONS };
    let drawn = choices[hasher.finish() as usize % choices.len()];
    eprintln!("{drawn} partitions, by {SEED_VARIABLE}={seed}");
    drawn
}
