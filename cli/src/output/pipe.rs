//! Standard output of a command that acts on jobs: its reader may go, as `head` does, and the command goes on, so that what
//! is done, and the exit code, do not depend on who reads.

use std::io::{self, Write};

/// A writer whose reader may go.
#[derive(Debug)]
pub(super) struct Detachable<W> {
    inner: W,
    /// Whether what is written after that is dropped, instead of being an error.
    goes_on: bool,
    is_detached: bool,
}

impl<W> Detachable<W> {
    pub(super) fn new(inner: W, goes_on: bool) -> Self {
        Self { inner, goes_on, is_detached: false }
    }

    fn or_detached<T>(&mut self, written: io::Result<T>, dropped: T) -> io::Result<T> {
        match written {
            Err(error) if self.goes_on && error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_detached = true;
                Ok(dropped)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Detachable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_detached {
            return Ok(bytes.len());
        }
        let written = self.inner.write(bytes);
        self.or_detached(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_detached {
            return Ok(());
        }
        let flushed = self.inner.flush();
        self.or_detached(flushed, ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe without a reader.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.write(b"").map(drop)
        }
    }

    #[test]
    fn only_a_command_that_acts_goes_on_without_a_reader() {
        let mut acts = Detachable::new(Broken, true);
        assert!(acts.write_all(b"a").is_ok() && acts.flush().is_ok());
        let mut prints = Detachable::new(Broken, false);
        assert!(prints.write_all(b"a").is_err() && prints.flush().is_err());
    }
}
