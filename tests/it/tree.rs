//! The files of this repository, for tests that read them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The text of a file.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The paths of all files in a folder, from the root of the repository; without build output.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    collect(root().join(folder), &mut files);
    files.iter().map(|path| path.strip_prefix(root()).unwrap().display().to_string()).collect()
}

/// Folders that are not part of the repository.
fn is_build_output(folder: &OsStr) -> bool {
    const NAMES: [&str; 5] = ["target", ".git", ".crunch", "node_modules", "__pycache__"];
    NAMES.iter().any(|name| folder == *name) || folder.as_encoded_bytes().starts_with(b".venv")
}

fn collect(folder: PathBuf, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let is_folder = entry.file_type().unwrap().is_dir();
        if !is_folder {
            files.push(entry.path());
        } else if !is_build_output(&entry.file_name()) {
            collect(entry.path(), files);
        }
    }
}
