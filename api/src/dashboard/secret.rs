//! The secret of a session: what its cookie contains, and what is derived from it. It is stored nowhere.

use crunch_common::broker::SessionDigest;
use hmac::{Hmac, KeyInit, Mac};
use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};

/// 43 characters of an alphabet of 62 are 256 bits.
const LENGTH: usize = 43;
/// What a form token is a signature of. A constant: the token is bound to the session, whose secret is the key.
const PURPOSE: &[u8] = b"crunch dashboard form";

/// 256 random bits, as text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Creates one, from a cryptographic random number generator seeded by the system.
    pub(super) fn generate() -> Self {
        Self(Alphanumeric.sample_string(&mut rand::rng(), LENGTH))
    }

    /// Reads the value of a cookie.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| Self(text.to_owned()))
    }

    /// The value of the cookie.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// The name under which Redis has the session.
    pub(super) fn digest(&self) -> SessionDigest {
        <[u8; 32]>::from(Sha256::digest(&self.0)).into()
    }

    /// What every form of the session contains: a page of another site cannot know it.
    pub(super) fn form_token(&self) -> String {
        let token = self.mac().finalize().into_bytes();
        token.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// Whether a form was made for this session, in a time that does not depend on where the tokens differ.
    pub(super) fn made(&self, form_token: &str) -> bool {
        let bytes = form_token.as_bytes().chunks(2).map(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        let token: Option<Vec<u8>> = bytes.collect();
        token.is_some_and(|token| self.mac().verify_slice(&token).is_ok())
    }

    fn mac(&self) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes());
        mac.expect("a key of any length will do").chain_update(PURPOSE)
    }
}

/// The cookie of a session. With TLS no other host of the domain and no plain connection can set it (`__Host-`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Cookie {
    pub(super) secure: bool,
}

impl Cookie {
    /// How long a browser keeps it, and Redis the session, in seconds: a working day.
    pub(super) const LIFETIME_S: u64 = 8 * 3600;

    const fn name(self) -> &'static str {
        if self.secure { "__Host-crunch" } else { "crunch" }
    }

    /// Returns the secret in the `Cookie` headers of a request, if there is exactly one.
    pub(super) fn read<'a>(self, headers: impl Iterator<Item = &'a str>) -> Option<Secret> {
        let pairs = headers.flat_map(|header| header.split(';'));
        let pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(name, _)| *name == self.name()).map(|(_, value)| value);
        let value = values.next().filter(|_| values.next().is_none())?;
        Secret::parse(value)
    }

    /// The value of `Set-Cookie` that opens a session.
    pub(super) fn set(self, secret: &Secret) -> String {
        self.header(secret.reveal(), Self::LIFETIME_S)
    }

    /// The value of `Set-Cookie` that ends it.
    pub(super) fn remove(self) -> String {
        self.header("", 0)
    }

    fn header(self, value: &str, seconds: u64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        let name = self.name();
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_token_fits_its_session_only() {
        let (secret, other) = (Secret::generate(), Secret::generate());
        let token = secret.form_token();
        assert!(secret.made(&token) && !other.made(&token));
        for wrong in ["", "0", "zz", &token[2..], &format!("{token}00"), secret.reveal()] {
            assert!(!secret.made(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_cookie_is_read_back_and_two_are_none() {
        let secret = Secret::generate();
        for cookie in [Cookie { secure: true }, Cookie { secure: false }] {
            let set = cookie.set(&secret);
            let pair = set.split(';').next().unwrap();
            assert_eq!(cookie.read([pair].into_iter()), Some(secret.clone()));
            let among = format!("a=b; {pair}; c");
            assert_eq!(cookie.read([among.as_str()].into_iter()), Some(secret.clone()));
            assert_eq!(cookie.read([pair, pair].into_iter()), None);
            assert_eq!(cookie.read(["crunch=short"].into_iter()), None);
        }
        assert!(Cookie { secure: true }.set(&secret).starts_with("__Host-crunch="));
        assert!(Cookie { secure: true }.set(&secret).ends_with("; Secure"));
    }
}
