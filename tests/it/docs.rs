//! The documentation against the code: a sentence that is not true any more is a bug, and fails here.

mod numbers;
mod shell;

/// A file of this repository.
fn file(path: &str) -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_handler_in_the_readme_is_the_example() {
    let readme = file("README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = file("worker/examples/primes.rs");
    let (_, program) = example.split_once("\n\n").unwrap();
    assert_eq!(shown, Some(program));
}
