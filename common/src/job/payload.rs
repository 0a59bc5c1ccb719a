//! Payload and result of a job: bytes with a content type.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;

/// Results of at most this many bytes of JSON are included in the job document; others are fetched separately.
/// 64 KiB: the response to a status poll stays small, and most JSON results fit.
pub const INLINE_RESULT_MAX_BYTES: usize = 64 * 1024;

/// A media type (RFC 9110, section 8.3.1) without parameters, in lower case: `application/json`, `image/png`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContentType(Arc<str>);

impl ContentType {
    const JSON: &'static str = "application/json";

    /// `application/json`.
    #[must_use]
    pub fn json() -> Self {
        Self(Self::JSON.into())
    }

    /// Whether it is `application/json`.
    #[must_use]
    pub fn is_json(&self) -> bool {
        &*self.0 == Self::JSON
    }

    /// The media type as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ContentType {
    fn default() -> Self {
        Self::json()
    }
}

/// Text that is not a media type of at most 127 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a media type such as image/png, of at most 127 characters")]
pub struct InvalidContentType;

impl FromStr for ContentType {
    type Err = InvalidContentType;

    /// Drops parameters and converts to lower case. `application/*+json` becomes `application/json`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let (top, sub) = essence.split_once('/').ok_or(InvalidContentType)?;
        if essence.len() > 127 || !is_token(top) || !is_token(sub) {
            return Err(InvalidContentType);
        }
        if top == "application" && sub.ends_with("+json") {
            return Ok(Self::json());
        }
        Ok(Self(essence.into()))
    }
}

/// Whether `text` is a `token` of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for ContentType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ContentType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Bytes and their content type: a job's payload or its result. No component between client and handler changes them.
///
/// ```
/// use crunch_common::job::Payload;
///
/// let text = Payload { bytes: "to be".into(), content_type: "text/plain".parse().unwrap() };
/// assert!(!text.content_type.is_json());
/// assert!(Payload::json("[1, 2]").content_type.is_json());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    /// The bytes as received.
    pub bytes: Bytes,
    /// The type of the bytes.
    pub content_type: ContentType,
}

impl Payload {
    /// Bytes that are JSON.
    #[must_use]
    pub fn json(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), content_type: ContentType::json() }
    }
}

/// Writes size and type, never the bytes: payloads do not belong in logs.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes of {})", self.bytes.len(), self.content_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_normalized() {
        let cases = [
            ("application/json", "application/json"),
            ("Application/JSON; charset=utf-8", "application/json"),
            ("application/ld+json", "application/json"),
            ("image/svg+xml", "image/svg+xml"),
            (" text/plain ;format=flowed", "text/plain"),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<ContentType>().unwrap().as_str(), expected);
        }
        for bad in ["", "json", "a/b/c", "a/", "/b", "a b/c", "image/*\u{e9}"] {
            assert_eq!(bad.parse::<ContentType>(), Err(InvalidContentType), "{bad}");
        }
    }
}
