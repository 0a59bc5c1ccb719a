//! API keys, and the files that contain them.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An API key; never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Key(String);

impl Key {
    /// Takes the text of a key, with white space around it.
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let fits = text.starts_with("crk_") && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned())).ok_or_else(|| {
            Error::usage("this is not an API key", "a key is one line that begins with crk_")
        })
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(&text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Reads a file that contains a key and nothing else.
pub(crate) fn read_key(path: &Path) -> Result<Key, Error> {
    require_private(path)?;
    let text = std::fs::read_to_string(path).map_err(|cause| Error::file("read", path, cause))?;
    Key::new(&text)
}

/// Rejects a file with a secret that other users may read.
pub(crate) fn require_private(path: &Path) -> Result<(), Error> {
    let metadata = std::fs::metadata(path).map_err(|cause| Error::file("read", path, cause))?;
    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::usage(
        format!("other users may read {}, which contains an API key", path.display()),
        format!("run: chmod 600 {}", path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word_and_never_shown() {
        let key = Key::new(" crk_abc_def\n").unwrap();
        assert_eq!((key.reveal(), format!("{key:?}").as_str()), ("crk_abc_def", "Key"));
        for text in ["", "abc", "crk_a b", "crk_a\r\nX-Other: 1"] {
            assert!(Key::new(text).is_err(), "{text}");
        }
    }
}
