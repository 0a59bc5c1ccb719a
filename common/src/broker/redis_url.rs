//! The address of Redis: parsed part by part, so that nothing in it is silently ignored.
//!
//! No message and no `Debug` or `Display` shows a user or a password. With a raw character in a password, any part of
//! the address may be a part of the password, so messages about an invalid address show no part of it at all.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use url::Url;

/// Schemes of a connection over TCP.
const TCP: [&str; 2] = ["redis", "valkey"];
/// Schemes of a connection over TCP with TLS.
const TLS: [&str; 2] = ["rediss", "valkeys"];
/// Schemes of a connection over a Unix socket.
const UNIX: [&str; 3] = ["unix", "redis+unix", "valkey+unix"];
/// Allowed query parameters of a socket's address.
const UNIX_QUERY: [&str; 3] = ["user", "pass", "db"];

/// Address of Redis, with user and password. Displays host and port, or the path of a socket, and nothing else.
#[derive(Clone)]
pub struct RedisUrl {
    info: ConnectionInfo,
    tls: bool,
}

/// Why a text is not the address of a Redis, and how to write it. Contains no part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRedisUrl {
    /// Not an address at all.
    #[error(
        "expected an address such as redis://127.0.0.1:6379/ or redis://user:password@host:6379/0"
    )]
    Shape,
    /// A character that would end the password early.
    #[error(
        "a user or password with '#', '/', '?', '@' or '%' must be percent-encoded: # is %23, / is %2F, ? is %3F, @ is %40, % is %25; an address must have no query and no fragment"
    )]
    RawCharacter,
    /// A character that cannot be part of an address.
    #[error("whitespace and control characters in a user or password must be percent-encoded")]
    Blank,
    /// No host.
    #[error("the host is missing: expected redis://host:port/")]
    NoHost,
    /// A host that means every address.
    #[error("0.0.0.0 and [::] are not addresses to connect to: use the host of Redis")]
    Wildcard,
    /// An invalid host.
    #[error("the host is not a name or an IP address; an IPv6 address must be in brackets")]
    Host,
    /// An invalid port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// An invalid database.
    #[error("the database is not a number: expected redis://host:port/0")]
    Database,
    /// A user without a password, which would not log in.
    #[error(
        "there is a user without a password; a password without a user is written redis://:password@host/"
    )]
    NoPassword,
    /// User or password is not text.
    #[error("user and password must be UTF-8 once their percent-encoding is decoded")]
    NotText,
    /// A socket that has no absolute path.
    #[error("the path of the socket is not absolute: expected redis+unix:///run/redis.sock")]
    Path,
    /// Something unknown in the query of a socket's address.
    #[error(
        "the query of a socket's address may have user, pass and db, each once; & in a password must be written %26, and + must be written %2B"
    )]
    Query,
}

impl RedisUrl {
    /// Returns the address for the client library.
    pub(crate) fn connection_info(&self) -> ConnectionInfo {
        self.info.clone()
    }

    /// Whether the connection is encrypted.
    pub(crate) const fn uses_tls(&self) -> bool {
        self.tls
    }
}

impl Default for RedisUrl {
    fn default() -> Self {
        "redis://127.0.0.1:6379/".parse().expect("the default is an address")
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            address => write!(f, "{address}"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl FromStr for RedisUrl {
    type Err = InvalidRedisUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or(InvalidRedisUrl::Shape)?;
        let scheme = scheme.to_ascii_lowercase();
        // The URL parser would drop some of these, which would silently change a password.
        let blank = |c: char| c.is_whitespace() || c.is_control();
        let (tcp, tls) = (TCP.contains(&&*scheme), TLS.contains(&&*scheme));
        let unix = UNIX.contains(&&*scheme);
        if (tcp || tls || unix) && rest.contains(blank) {
            return Err(InvalidRedisUrl::Blank);
        }
        let info = if tcp || tls {
            // Whether TLS is used is in `tls`: the client library, built without it, parses no such scheme.
            tcp_info(&format!("redis://{rest}"), rest)?
        } else if unix {
            unix_info(text, rest)?
        } else {
            return Err(InvalidRedisUrl::Shape);
        };
        Ok(Self { info, tls })
    }
}

fn tcp_info(text: &str, rest: &str) -> Result<ConnectionInfo, InvalidRedisUrl> {
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, host_port) = authority.rsplit_once('@').unwrap_or(("", authority));
    let raw = rest.contains(['#', '?']) || database.contains('@') || credentials.contains('@');
    if raw || !is_percent_encoded(credentials) {
        return Err(InvalidRedisUrl::RawCharacter);
    }
    if host_port.is_empty() || host_port.starts_with(':') {
        return Err(InvalidRedisUrl::NoHost);
    }
    check_credentials(credentials.split_once(':').unwrap_or((credentials, "")))?;
    check_database(database.trim_end_matches('/'))?;
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::InvalidPort => InvalidRedisUrl::Port,
        url::ParseError::EmptyHost => InvalidRedisUrl::NoHost,
        _ => InvalidRedisUrl::Host,
    })?;
    if url.port() == Some(0) || host_port.ends_with(':') {
        return Err(InvalidRedisUrl::Port);
    }
    if matches!(url.host_str(), Some("0.0.0.0" | "[::]")) {
        return Err(InvalidRedisUrl::Wildcard);
    }
    url.into_connection_info().map_err(|_| InvalidRedisUrl::NotText)
}

fn unix_info(text: &str, rest: &str) -> Result<ConnectionInfo, InvalidRedisUrl> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if rest.contains('#') || !is_percent_encoded(rest) {
        return Err(InvalidRedisUrl::RawCharacter);
    }
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(InvalidRedisUrl::Path);
    }
    let mut values = [""; 3];
    for pair in query.split('&').filter(|_| !query.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(InvalidRedisUrl::Query)?;
        let at = UNIX_QUERY.iter().position(|known| *known == name);
        let target = at.map(|at| &mut values[at]).filter(|target| target.is_empty());
        // In a query a + would be decoded as a space.
        let target = target.filter(|_| !value.is_empty() && !value.contains('+'));
        *target.ok_or(InvalidRedisUrl::Query)? = value;
    }
    let [user, password, database] = values;
    check_credentials((user, password))?;
    check_database(database)?;
    text.into_connection_info().map_err(|_| InvalidRedisUrl::Path)
}

/// A user without a password is not sent to Redis: it was mostly meant to be the password.
fn check_credentials((user, password): (&str, &str)) -> Result<(), InvalidRedisUrl> {
    if password.is_empty() && !user.is_empty() {
        return Err(InvalidRedisUrl::NoPassword);
    }
    Ok(())
}

fn check_database(text: &str) -> Result<(), InvalidRedisUrl> {
    match text.is_empty() || text.parse::<u16>().is_ok() {
        true => Ok(()),
        false => Err(InvalidRedisUrl::Database),
    }
}

/// Whether each `%` begins two hex digits.
fn is_percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    })
}

#[cfg(test)]
mod tests {
    use super::InvalidRedisUrl::*;
    use super::*;

    #[test]
    fn an_address_is_shown_without_user_and_password() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379/", "127.0.0.1:6379"),
            ("valkey://redis", "redis:6379"),
            ("rediss://:secret@redis:6380/", "redis:6380"),
            ("REDIS://redis/3/", "redis:6379"),
            ("redis://user:s%40cret@example.com:7000/3\n", "example.com:7000"),
            ("redis://:p%40%23s%2Fw%3Fo%25rd:x+y@[::1]:7000", "[::1]:7000"),
            ("unix:///run/redis.sock?pass=secret%2B&db=2", "/run/redis.sock"),
            ("redis+unix:///run/redis.sock?user=u&pass=secret", "/run/redis.sock"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("RedisUrl({shown})"));
        }
    }

    #[test]
    fn user_password_and_database_are_those_of_the_address() {
        let url: RedisUrl = "redis://us%C3%A9r:p%40%23s%2Fw%3Fo%25rd+x@h:1/5".parse().unwrap();
        let info = url.connection_info();
        let redis = info.redis_settings();
        assert_eq!((redis.username(), redis.password()), (Some("usér"), Some("p@#s/w?o%rd+x")));
        assert_eq!(redis.db(), 5);
        let url: RedisUrl = "unix:///s?user=u&pass=a%2Bb%26&db=7".parse().unwrap();
        let info = url.connection_info();
        let redis = info.redis_settings();
        assert_eq!((redis.username(), redis.password()), (Some("u"), Some("a+b&")));
        assert_eq!(redis.db(), 7);
    }

    /// Each contains `hunter2` where a user might put it; no message may.
    #[test]
    fn what_cannot_be_used_is_refused_by_part_and_without_the_secret() {
        for (text, wrong) in [
            ("hunter2", Shape),
            ("redis:hunter2@host", Shape),
            ("http://:hunter2@host/", Shape),
            ("rediss://:hunter2@host:0/", Port),
            ("valkeys://:hunter2#@host:6380/", RawCharacter),
            ("redis://:hunter2#s/w?o%rd@127.0.0.1:7320/", RawCharacter),
            ("redis://:p#hunter2@host/", RawCharacter),
            ("redis://:p/hunter2@host/", RawCharacter),
            ("redis://:hunter2/p@host/", RawCharacter),
            ("redis://:p?hunter2@host/", RawCharacter),
            ("redis://:p@hunter2@host/", RawCharacter),
            ("redis://:hunter2%rd@host/", RawCharacter),
            ("redis://:hunter2%2@host/", RawCharacter),
            ("redis://host/?password=hunter2", RawCharacter),
            ("redis://host/?db=1", RawCharacter),
            ("redis://host/#insecure", RawCharacter),
            ("redis://:hunter 2@host/", Blank),
            ("redis://:hunter2\t@host/", Blank),
            ("redis://", NoHost),
            ("redis:///0", NoHost),
            ("redis://:hunter2@", NoHost),
            ("redis://:hunter2@/0", NoHost),
            ("redis://:hunter2@:6379/", NoHost),
            ("redis://:hunter2", NoHost),
            ("redis://:hunter2@0.0.0.0:6379/", Wildcard),
            ("redis://:hunter2@[::]/", Wildcard),
            ("redis://:hunter2@[host/", Host),
            ("redis://:hunter2@::1/", NoHost),
            ("redis://:hunter2@host:0/", Port),
            ("redis://:hunter2@host:65536/", Port),
            ("redis://:hunter2@host:/", Port),
            ("redis://:hunter2@host:port/", Port),
            ("redis://:hunter2@host/zero", Database),
            ("redis://:hunter2@host/-1", Database),
            ("redis://:hunter2@host/0/1", Database),
            ("redis://hunter2@host/", NoPassword),
            ("redis://hunter2:@host/", NoPassword),
            ("redis://:hunter2%FF@host/", NotText),
            ("unix://hunter2", Path),
            ("unix://run/redis.sock?pass=hunter2", Path),
            ("unix:///?pass=hunter2", Path),
            ("unix:///run/redis.sock?password=hunter2", Query),
            ("unix:///run/redis.sock?pass=hunter2&x", Query),
            ("unix:///run/redis.sock?pass=p&pass=hunter2", Query),
            ("unix:///run/redis.sock?pass=hunter+2", Query),
            ("unix:///run/redis.sock?user=hunter2", NoPassword),
            ("unix:///run/redis.sock?pass=hunter2&db=x", Database),
            ("unix:///run/redis.sock?pass=p#hunter2", RawCharacter),
            ("unix:///run/redis.sock?pass=hunter2%zz", RawCharacter),
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err();
            assert_eq!(error, wrong, "{text}");
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
    }
}
