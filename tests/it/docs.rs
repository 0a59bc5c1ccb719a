//! The documentation compared with the code: a sentence that is no longer true is a bug, and fails a test here.

mod numbers;
mod shell;

use crate::tree;

#[test]
fn the_handler_in_the_readme_is_the_example() {
    let readme = tree::read("README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let example = tree::read("worker/examples/primes.rs");
    let (_, program) = example.split_once("\n\n").unwrap();
    assert_eq!(shown, Some(program));
}

#[test]
fn source_files_that_pages_name_exist() {
    let files = tree::files("");
    let pages = files
        .iter()
        .filter(|path| path.ends_with(".md") && (!path.contains('/') || path.starts_with("docs/")));
    let mut missing = Vec::new();

    for page in pages.filter(|page| *page != "CHANGELOG.md") {
        let text = tree::read(page);
        for name in text.split('`').skip(1).step_by(2) {
            let is_source = name.ends_with(".rs") || name.ends_with(".lua");
            let has_name = |path: &String| path == name || path.ends_with(&format!("/{name}"));
            if is_source && !name.contains([' ', '*', '{', '<']) && !files.iter().any(has_name) {
                missing.push(format!("{page} names {name}"));
            }
        }
    }

    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
