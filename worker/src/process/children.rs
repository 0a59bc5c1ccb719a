//! The children of a process, as the kernel lists them.

use std::fmt::Display;
use std::fs;

/// Returns the children of a process, including adopted ones: of a number, or of `self`. None if it has ended.
pub(crate) fn children_of(process: impl Display) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let numbers = |list: String| list.split_whitespace().map(str::parse).collect::<Vec<_>>();
    lists.flat_map(numbers).flatten().collect()
}
