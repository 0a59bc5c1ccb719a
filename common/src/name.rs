//! The grammar of queue and task names: 1–64 characters of `[a-z0-9_.-]`, starting with a letter or digit.
//!
//! Names become parts of Redis keys, so characters that could end a key segment (`:`), open a hash tag (`{`) or act as
//! a pattern (`*`) are rejected.

/// The task that delivers webhooks, and its queue. `broker/lua/lifecycle.lua` creates its jobs; the API runs them.
pub(crate) const WEBHOOKS: &str = "crunch.webhooks";

/// A name that does not match `[a-z0-9][a-z0-9_.-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be 1 to 64 characters of a-z, 0-9, '_', '.' and '-', starting with a letter or a digit"
)]
pub struct InvalidName;

/// Checks `text` against the grammar of names.
pub(crate) fn check(text: &str) -> Result<(), InvalidName> {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let fits = (1..=64).contains(&bytes.len())
        && first(bytes[0])
        && bytes.iter().all(|&byte| first(byte) || matches!(byte, b'_' | b'.' | b'-'));
    fits.then_some(()).ok_or(InvalidName)
}

/// Declares a newtype over a checked name: parsing is the only way to construct it.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::name::check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().into()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use checked_name;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_their_key_are_refused() {
        for bad in
            ["", "A", "a:b", "a{b", "a}b", "a*", "-a", ".a", "a b", "ä", "a\n", &"a".repeat(65)]
        {
            assert_eq!(check(bad), Err(InvalidName), "{bad:?}");
        }
    }

    #[test]
    fn ordinary_names_pass() {
        for good in ["a", "0", "image.thumbnail", "word_count", "a-b", &"a".repeat(64)] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
    }
}
