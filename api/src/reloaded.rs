//! A value that is read from files, and read again when they change.
//!
//! Files that cannot be read change nothing: the previous value stays in use.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

/// The files of a value.
pub(crate) trait Source {
    type Value;
    type Error;
    /// Identifies a version of the files.
    type Stamp: PartialEq;

    /// Returns the current version, from the metadata of the files.
    fn stamp(&self) -> Self::Stamp;

    /// Reads the value.
    fn read(&self) -> Result<Self::Value, Self::Error>;
}

/// The last value that could be read.
pub(crate) struct Reloaded<S: Source> {
    source: S,
    current: RwLock<Arc<S::Value>>,
    /// The version that was last read, successfully or not.
    seen: Mutex<S::Stamp>,
}

impl<S: Source> Reloaded<S> {
    /// A change takes effect within this time. Checking files for changes costs almost nothing.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

    /// Reads the value for the first time.
    pub(crate) fn open(source: S) -> Result<Self, S::Error> {
        // Before the files: a change in between has another stamp, and is read next time.
        let seen = source.stamp();
        let current = Arc::new(source.read()?);
        Ok(Self { source, current: RwLock::new(current), seen: Mutex::new(seen) })
    }

    /// Returns the current value.
    pub(crate) fn get(&self) -> Arc<S::Value> {
        self.current.read().clone()
    }

    /// Reads the value again if the files have changed. Returns what was read; `None` if nothing was.
    pub(crate) fn tick(&self) -> Option<Result<Arc<S::Value>, S::Error>> {
        let stamp = self.source.stamp();
        let mut seen = self.seen.lock();
        if *seen == stamp {
            return None;
        }
        *seen = stamp;
        let read = self.source.read().map(Arc::new);
        if let Ok(value) = &read {
            *self.current.write() = value.clone();
        }
        Some(read)
    }
}

impl<S: Source + fmt::Debug> fmt::Debug for Reloaded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("source", &self.source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Its stamp, and what is read.
    struct Fake(Cell<(u8, Result<char, ()>)>);

    impl Source for Fake {
        type Value = char;
        type Error = ();
        type Stamp = u8;

        fn stamp(&self) -> u8 {
            self.0.get().0
        }

        fn read(&self) -> Result<char, ()> {
            self.0.get().1
        }
    }

    #[test]
    fn a_change_is_read_once_and_one_that_cannot_be_read_keeps_the_value() {
        let reloaded = Reloaded::open(Fake(Cell::new((1, Ok('a'))))).unwrap();
        assert!(reloaded.tick().is_none() && *reloaded.get() == 'a');
        reloaded.source.0.set((2, Err(())));
        assert_eq!(reloaded.tick(), Some(Err(())));
        assert!(reloaded.tick().is_none() && *reloaded.get() == 'a');
        reloaded.source.0.set((3, Ok('b')));
        assert_eq!(reloaded.tick(), Some(Ok(Arc::new('b'))));
        assert!(reloaded.tick().is_none() && *reloaded.get() == 'b');
    }
}
