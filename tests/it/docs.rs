//! The documentation compared with the code: a sentence that is no longer true is a bug, and fails a test here.

mod lists;
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

/// The pages in the root of the repository and in `docs`.
fn pages(files: &[String]) -> impl Iterator<Item = &String> {
    let is_page = |path: &str| !path.contains('/') || path.starts_with("docs/");
    files.iter().filter(move |path| path.ends_with(".md") && is_page(path))
}

#[test]
fn source_files_that_pages_name_exist() {
    let files = tree::files("");
    let mut missing = Vec::new();
    for page in pages(&files).filter(|page| *page != "CHANGELOG.md") {
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

/// How wide prose is; a table's row and a line of code cannot be wrapped.
const WIDTH: usize = 120;

/// The numbers of the lines that are too wide, from 1.
fn wide_lines(page: &str) -> Vec<usize> {
    let mut is_code = false;
    let mut wide = Vec::new();
    for (at, line) in page.lines().enumerate() {
        let text = line.trim_start();
        is_code ^= text.starts_with("```");
        // One word, such as a link, has no place to break; the marker of a list is not one.
        let words = text.trim_start_matches(['-', '*', ' ']).split(' ').count();
        let is_definition = text.starts_with('[') && text.contains("]: ");
        let is_wrapped = !is_code && !text.starts_with('|') && words > 1 && !is_definition;
        if is_wrapped && line.chars().count() > WIDTH {
            wide.push(at + 1);
        }
    }
    wide
}

#[test]
fn prose_is_wrapped() {
    let files = tree::files("");
    let mut wide = Vec::new();
    for page in pages(&files) {
        wide.extend(wide_lines(&tree::read(page)).iter().map(|line| format!("{page}:{line}")));
    }
    assert!(wide.is_empty(), "wider than {WIDTH} columns:\n{}", wide.join("\n"));
}

#[test]
fn only_prose_is_too_wide() {
    let (words, link) = ("word ".repeat(30), "x".repeat(130));
    assert_eq!(wide_lines(&format!("short\n{words}\n- {words}")), [2, 3]);
    assert_eq!(wide_lines(&format!("```\n{words}\n```\n| {words} |\n- [{link}](y)")), [0; 0]);
    assert_eq!(wide_lines(&format!("[y]: {link}\n```sh\n{words}\n```\n{words}")), [5]);
}
