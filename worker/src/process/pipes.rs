//! The pipes between a worker and its command.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The ends of a command's pipes on one side.
#[derive(Debug)]
pub(super) struct Pipes<Input, Output = Input> {
    pub(super) stdin: Input,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) events: Output,
}

impl<T> Pipes<T> {
    /// The number of pipes.
    pub(super) const COUNT: usize = 4;

    /// Returns `None` unless there are exactly [`Self::COUNT`] ends. They are in the order of the fields.
    pub(super) fn from_iter(ends: impl IntoIterator<Item = T>) -> Option<Self> {
        let ends: Vec<T> = ends.into_iter().collect();
        let [stdin, stdout, stderr, events] = <[T; 4]>::try_from(ends).ok()?;
        Some(Self { stdin, stdout, stderr, events })
    }
}

impl Pipes<OwnedFd> {
    pub(super) fn as_array(&self) -> [BorrowedFd<'_>; 4] {
        [&self.stdin, &self.stdout, &self.stderr, &self.events].map(AsFd::as_fd)
    }
}
