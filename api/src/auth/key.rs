//! One API key: its format, what is stored of it, and how it is verified.
//!
//! The secret has 256 random bits, so a plain SHA-256 is enough to store it: they cannot be guessed by trying. A slow
//! hash would protect passwords that humans choose, at the cost of CPU time that any unauthenticated client could use
//! up.

use std::fmt;
use std::str::FromStr;

use crunch_common::time::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use rand::distr::{Alphanumeric, SampleString};
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::rights::{Queues, Scopes};
use crate::rate::Rate;

/// The prefix of every key, by which scanners for leaked secrets find it.
pub(super) const PREFIX: &str = "crk_";
/// Long enough to be unique among any number of keys; the id is not secret.
const ID_LENGTH: usize = 10;
const ID_ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// 43 characters of an alphabet of 62 are 256 bits.
const SECRET_LENGTH: usize = 43;
/// Longer secrets are not needed, and every one is hashed before it is known whether its key exists.
const LONGEST_SECRET: usize = 128;

/// The id of the example key in the documentation. It is public, so it is never accepted.
const EXAMPLE_ID: &str = "examplekey";

/// The public part of a key: 10 characters of `[a-z0-9]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(Box<str>);

impl KeyId {
    pub(crate) fn generate() -> Self {
        let mut rng = rand::rng();
        let mut letter = || ID_ALPHABET.choose(&mut rng).map_or('a', |&byte| char::from(byte));
        Self((0..ID_LENGTH).map(|_| letter()).collect())
    }

    /// The id of no key: for tickets where callers need no key.
    pub(super) fn anonymous() -> Self {
        Self("-".repeat(ID_LENGTH).into())
    }

    pub(crate) fn is_the_example(&self) -> bool {
        &*self.0 == EXAMPLE_ID
    }
}

/// Text that is not the id of a key.
#[derive(Debug, thiserror::Error)]
#[error("expected the 10 letters and digits that follow crk_")]
pub struct InvalidKeyId;

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.len() == ID_LENGTH && text.bytes().all(|byte| ID_ALPHABET.contains(&byte));
        fits.then(|| Self(text.into())).ok_or(InvalidKeyId)
    }
}

impl TryFrom<String> for KeyId {
    type Error = InvalidKeyId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole key as its owner sends it: `crk_<id>_<secret>`. Only the command that creates it prints it.
pub(crate) struct Token {
    pub(crate) id: KeyId,
    secret: String,
}

impl Token {
    /// Creates a new one, from a cryptographic random number generator seeded by the system.
    pub(crate) fn generate() -> Self {
        let secret = Alphanumeric.sample_string(&mut rand::rng(), SECRET_LENGTH);
        Self { id: KeyId::generate(), secret }
    }

    /// Parses an `Authorization` header; the case of the scheme is ignored (RFC 9110, section 11.1).
    pub(crate) fn from_header(value: &str) -> Option<Self> {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' ').parse().ok())?
    }

    pub(crate) fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(&self.secret).into())
    }

    /// The text to give to its owner.
    pub(crate) fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, self.secret)
    }
}

impl FromStr for Token {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let (id, secret) = parts.ok_or(InvalidKeyId)?;
        let fits = (32..=LONGEST_SECRET).contains(&secret.len())
            && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !fits {
            return Err(InvalidKeyId);
        }
        Ok(Self { id: id.parse()?, secret: secret.to_owned() })
    }
}

/// The stored form of a secret: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of no known secret, for keys that do not exist.
    pub(crate) const NOTHING: Self = Self([0; 32]);

    /// Signs a text (HMAC-SHA-256, RFC 2104).
    pub(super) fn sign(&self, text: &[u8]) -> [u8; 32] {
        self.mac(text).finalize().into_bytes().into()
    }

    /// Verifies the signature of a text, in a time that does not depend on where they differ.
    pub(super) fn signed(&self, text: &[u8], signature: &[u8]) -> bool {
        self.mac(text).verify_slice(signature).is_ok()
    }

    fn mac(&self, text: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        mac.expect("a key of any length will do").chain_update(text)
    }

    /// Whether both are hashes of the same secret, in a time that does not depend on where they differ.
    pub(crate) fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash")
    }
}

impl TryFrom<String> for SecretHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = "expected sha256: and 64 hexadecimal digits";
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64).ok_or(wrong)?;
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong)?;
        }
        Ok(Self(hash))
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> Self {
        use fmt::Write as _;
        hash.0.iter().fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// An API key as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKey {
    pub(crate) id: KeyId,
    /// A human-readable name of its owner.
    pub(crate) name: String,
    pub(crate) hash: SecretHash,
    pub(crate) scopes: Scopes,
    /// `None`: all queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) queues: Option<Queues>,
    /// `None`: the rate of the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Rate>,
    pub(crate) created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_read_back_from_its_header_and_matches_its_hash() {
        let token = Token::generate();
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let read = Token::from_header(&format!("{scheme} {}", token.reveal())).unwrap();
            assert_eq!(read.id, token.id);
            assert!(bool::from(read.hash().matches(&token.hash())));
        }
        let other = Token { id: token.id.clone(), secret: Token::generate().secret };
        assert!(!bool::from(other.hash().matches(&token.hash())));
    }

    #[test]
    fn other_text_is_no_token() {
        let (secret, long) = ("a".repeat(43), "a".repeat(129));
        for bad in [
            String::new(),
            "Bearer".to_owned(),
            format!("Basic crk_abcdefghij_{secret}"),
            format!("Bearer crk_abcdefghi_{secret}"),
            format!("Bearer crk_ABCDEFGHIJ_{secret}"),
            format!("Bearer xyz_abcdefghij_{secret}"),
            "Bearer crk_abcdefghij_short".to_owned(),
            format!("Bearer crk_abcdefghij_{long}"),
            format!("Bearer crk_abcdefghij_{secret} more"),
        ] {
            assert!(Token::from_header(&bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_hash_reads_back_as_it_was_written_and_is_never_shown() {
        let hash = Token::generate().hash();
        let text = String::from(hash.clone());
        let read = SecretHash::try_from(text.clone()).unwrap();
        assert!(bool::from(read.matches(&hash)));
        assert_eq!(format!("{hash:?}"), "SecretHash");
        for bad in [&text[1..], &text[..70], "", "sha256:\u{e4}", &text.replace("sha256", "md5")] {
            assert!(SecretHash::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
