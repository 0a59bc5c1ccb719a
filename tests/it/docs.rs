//! The documentation against the code: a sentence that is not true any more is a bug, and fails here.

mod numbers;
mod shell;

/// A file of this repository.
pub(crate) fn file(path: &str) -> String {
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

/// Every file of this repository, without what is built.
fn files() -> Vec<String> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !["target", ".git", ".crunch"].contains(&&*name) {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    files
}

#[test]
fn source_files_that_pages_name_are_there() {
    let files = files();
    let pages = files
        .iter()
        .filter(|path| path.ends_with(".md") && (!path.contains('/') || path.starts_with("docs/")));
    let mut missing = Vec::new();
    for page in pages.filter(|page| *page != "CHANGELOG.md") {
        let text = file(page);
        for name in text.split('`').skip(1).step_by(2) {
            let is_source = name.ends_with(".rs") || name.ends_with(".lua");
            let there = |path: &String| path == name || path.ends_with(&format!("/{name}"));
            if is_source && !name.contains([' ', '*', '{', '<']) && !files.iter().any(there) {
                missing.push(format!("{page} names {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
