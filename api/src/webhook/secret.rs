//! Secrets that sign webhooks, and their signatures (Standard Webhooks 1.0, symmetric signatures).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// How many bytes a secret may have.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How many bytes a new one has: the output size of the hash.
const FRESH_BYTES: usize = 32;

/// A secret that API and receivers share. Only [`Secret::text`] reveals it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

/// Text that is not a secret; the error does not contain the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected whsec_ and 24 to 64 bytes in base64; crunch-api webhook-secret makes one")]
pub(crate) struct InvalidSecret;

impl FromStr for Secret {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        bytes.filter(|bytes| BYTES.contains(&bytes.len())).map(Self).ok_or(InvalidSecret)
    }
}

impl Secret {
    /// Creates a new random secret.
    pub(crate) fn fresh() -> Self {
        Self(rand::random::<[u8; FRESH_BYTES]>().to_vec())
    }

    /// The text to give to receivers.
    pub(crate) fn text(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// Signs `id.seconds.body`.
    fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length will do");
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// All secrets that sign: several while receivers change from one to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Secrets(Vec<Secret>);

impl Secrets {
    /// How many may sign at once: an old one, a new one, and spare room for a mistake.
    const MAX: usize = 4;

    /// Parses secrets separated by commas, spaces, tabs or line breaks; lines that begin with `#` are skipped.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = lines.flat_map(|line| line.split([',', ' ', '\t', '\r']));
        let secrets: Result<Vec<_>, _> =
            words.filter(|word| !word.is_empty()).map(str::parse).collect();
        match secrets.map_err(|error: InvalidSecret| error.to_string())? {
            secrets if secrets.len() > Self::MAX => {
                Err(format!("expected at most {} secrets", Self::MAX))
            }
            secrets => Ok(Self(secrets)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value of `webhook-signature`: one signature per secret.
    pub(crate) fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let signatures = self.0.iter().map(|secret| secret.sign(id, seconds, body));
        signatures.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_as_there() {
        let secrets = Secrets::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_fresh_secret_reads_back_and_is_never_the_same() {
        let secret = Secret::fresh();
        assert_eq!(secret.text().parse(), Ok(secret.clone()));
        assert!(secret != Secret::fresh() && !format!("{secret:?}").contains("whsec"));
    }

    #[test]
    fn every_secret_signs() {
        let [one, other] = [Secret::fresh(), Secret::fresh()].map(|secret| secret.text());
        let both = Secrets::read(&format!("# new\n{one}\r\n\n# old\n {other} \n")).unwrap();
        let alone = |text: &str| Secrets::read(text).unwrap().sign("a", 1, b"b");
        assert_eq!(both.sign("a", 1, b"b"), format!("{} {}", alone(&one), alone(&other)));
        assert!(Secrets::read("").unwrap().is_empty());
    }

    #[test]
    fn other_text_is_refused_and_not_repeated() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for bad in ["hunter2", "whsec_", "whsec_!!!!", &short, &long] {
            let error = Secrets::read(bad).unwrap_err();
            assert!(error.starts_with("expected whsec_ and 24"), "{error}");
        }
        let five = vec![Secret::fresh().text(); 5].join(",");
        assert!(Secrets::read(&five).is_err());
    }
}
