//! The address of Redis: parsed part by part, so that nothing in it is silently ignored.
//!
//! No message and no `Debug` or `Display` shows a user or a password. With a raw character in a password, any part of
//! the address may be a part of the password, so messages about an invalid address show no part of it at all.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use url::Url;

/// Schemes of a connection over TCP.
const TCP: [&str; 2] = ["redis", "valkey"];
/// Schemes of a connection over TCP with TLS.
const TLS: [&str; 2] = ["rediss", "valkeys"];
/// Schemes of a connection over a Unix socket.
const UNIX: [&str; 3] = ["unix", "redis+unix", "valkey+unix"];
/// After a scheme over TCP: the hosts are those of Sentinels, which know where Redis is.
const SENTINEL: &str = "+sentinel";
/// After a scheme over TCP: the hosts are nodes of a Redis Cluster, which know the others.
const CLUSTER: &str = "+cluster";
/// The ports of a Redis and of a Sentinel.
const PORTS: [u16; 2] = [6379, 26379];
/// Allowed query parameters of a socket's address.
const UNIX_QUERY: [&str; 3] = ["user", "pass", "db"];

/// Address of Redis, with user and password. Displays hosts and ports, or the path of a socket, and what is there, and
/// nothing else.
#[derive(Clone)]
pub struct RedisUrl {
    servers: Servers,
    settings: RedisConnectionInfo,
    tls: bool,
}

/// Where Redis is, or who knows it.
#[derive(Clone)]
pub(crate) enum Servers {
    /// There.
    One(ConnectionAddr),
    /// Where one of these Sentinels says that the master of this name is.
    Sentinels { addresses: Vec<ConnectionAddr>, master: String },
    /// On the nodes of the cluster to which these belong.
    Cluster(Vec<ConnectionAddr>),
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
    #[error(
        "the host is not a name or an IP address; an IPv6 address must be in brackets, and several hosts need redis+sentinel://host1,host2/name or redis+cluster://host1,host2/"
    )]
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
    /// Sentinels without the name of a master.
    #[error(
        "the name of the master is missing or invalid: expected redis+sentinel://host1,host2/name or …/name/0; a name has letters, digits, '.', '-' and '_'"
    )]
    Master,
    /// A database that a cluster does not have.
    #[error("a Redis Cluster has database 0 only")]
    ClusterDatabase,
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
    /// Returns where Redis is.
    pub(crate) const fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Returns user, password and database.
    pub(crate) const fn settings(&self) -> &RedisConnectionInfo {
        &self.settings
    }

    /// Whether connections are encrypted.
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
        match &self.servers {
            Servers::One(address) => write!(f, "{}", Address(address)),
            Servers::Sentinels { addresses, master } => {
                write!(f, "{master} of Sentinel {}", join(addresses))
            }
            Servers::Cluster(nodes) => write!(f, "cluster of {}", join(nodes)),
        }
    }
}

fn join(addresses: &[ConnectionAddr]) -> String {
    addresses.iter().map(|it| Address(it).to_string()).collect::<Vec<_>>().join(",")
}

/// Displays host and port as in an address.
pub(crate) struct Address<'a>(pub(crate) &'a ConnectionAddr);

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
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
        let several = [SENTINEL, CLUSTER].into_iter().find(|end| scheme.ends_with(end));
        let several = several.unwrap_or_default();
        let server = scheme.strip_suffix(several).unwrap_or(&scheme);
        let (tcp, tls) = (TCP.contains(&server), TLS.contains(&server));
        let unix = several.is_empty() && UNIX.contains(&server);
        // The URL parser would drop some of these, which would silently change a password.
        let blank = |c: char| c.is_whitespace() || c.is_control();
        if (tcp || tls || unix) && rest.contains(blank) {
            return Err(InvalidRedisUrl::Blank);
        }
        let (servers, settings) = if (tcp || tls) && several == SENTINEL {
            sentinels_and_settings(rest)?
        } else if (tcp || tls) && several == CLUSTER {
            nodes_and_settings(rest)?
        } else if tcp || tls {
            one(&tcp_info(rest, PORTS[0])?)
        } else if unix {
            one(&unix_info(text, rest)?)
        } else {
            return Err(InvalidRedisUrl::Shape);
        };
        Ok(Self { servers, settings, tls })
    }
}

fn one(info: &ConnectionInfo) -> (Servers, RedisConnectionInfo) {
    (Servers::One(info.addr().clone()), info.redis_settings().clone())
}

fn sentinels_and_settings(rest: &str) -> Result<(Servers, RedisConnectionInfo), InvalidRedisUrl> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains(['#', '?', '@']) {
        return Err(InvalidRedisUrl::RawCharacter);
    }
    let (master, database) = path.split_once('/').unwrap_or((path, ""));
    let (addresses, settings) = each_host(authority, database, PORTS[1])?;
    if master.is_empty() || !master.bytes().all(is_in_names) {
        return Err(InvalidRedisUrl::Master);
    }
    Ok((Servers::Sentinels { addresses, master: master.to_owned() }, settings))
}

fn nodes_and_settings(rest: &str) -> Result<(Servers, RedisConnectionInfo), InvalidRedisUrl> {
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (addresses, settings) = each_host(authority, database, PORTS[0])?;
    match settings.db() {
        0 => Ok((Servers::Cluster(addresses), settings)),
        _ => Err(InvalidRedisUrl::ClusterDatabase),
    }
}

/// Parses an authority with several hosts, each as if it were the only one.
fn each_host(
    authority: &str,
    database: &str,
    default_port: u16,
) -> Result<(Vec<ConnectionAddr>, RedisConnectionInfo), InvalidRedisUrl> {
    let (credentials, hosts) = match authority.rsplit_once('@') {
        Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
        None => (String::new(), authority),
    };
    let infos = hosts
        .split(',')
        .map(|host| tcp_info(&format!("{credentials}{host}/{database}"), default_port));
    let infos = infos.collect::<Result<Vec<_>, _>>()?;
    let addresses = infos.iter().map(|info| info.addr().clone()).collect();
    Ok((addresses, infos[0].redis_settings().clone()))
}

/// Whether Sentinel accepts this character in the name of a master.
const fn is_in_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

/// Parses what follows the scheme. Whether TLS is used is not in it: the client library, built without it, parses no such
/// scheme.
fn tcp_info(rest: &str, default_port: u16) -> Result<ConnectionInfo, InvalidRedisUrl> {
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
    if host_port.contains(',') {
        return Err(InvalidRedisUrl::Host);
    }
    let mut url = Url::parse(&format!("redis://{rest}")).map_err(|error| match error {
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
    if url.port().is_none() {
        url.set_port(Some(default_port)).map_err(|()| InvalidRedisUrl::NoHost)?;
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
            (
                "redis+sentinel://:secret@a,b:1,[::1]/main/2",
                "main of Sentinel a:26379,b:1,[::1]:26379",
            ),
            ("rediss+cluster://:secret@a,b:1/", "cluster of a:6379,b:1"),
            ("redis+cluster://a", "cluster of a:6379"),
            ("VALKEYS+sentinel://a/my.main_1-x", "my.main_1-x of Sentinel a:26379"),
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
        let redis = url.settings();
        assert_eq!((redis.username(), redis.password()), (Some("usér"), Some("p@#s/w?o%rd+x")));
        assert_eq!(redis.db(), 5);
        let url: RedisUrl = "redis+sentinel://u:p%2F@h,i/main/5".parse().unwrap();
        let redis = url.settings();
        assert_eq!((redis.username(), redis.password(), redis.db()), (Some("u"), Some("p/"), 5));
        let url: RedisUrl = "unix:///s?user=u&pass=a%2Bb%26&db=7".parse().unwrap();
        let redis = url.settings();
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
            assert_refused(text, wrong);
        }
    }

    #[test]
    fn what_cannot_be_used_of_several_hosts_is_refused_by_part_and_without_the_secret() {
        for (text, wrong) in [
            ("redis://:hunter2@a,b/", Host),
            ("redis+sentinel://:hunter2@host", Master),
            ("redis+sentinel://:hunter2@host/my%20main", Master),
            ("redis+sentinel://:hunter2@a,,b/main", NoHost),
            ("redis+sentinel://:hunter2@a,0.0.0.0/main", Wildcard),
            ("redis+sentinel://:hunter2@a,b:x/main", Port),
            ("redis+sentinel://:hunter2@a,b/main/x", Database),
            ("redis+sentinel://:hunter2/p@a,b/main", RawCharacter),
            ("redis+sentinel://a,b/main?hunter2", RawCharacter),
            ("redis+sentinel://hunter2@a,b/main", NoPassword),
            ("redis+cluster://:hunter2@a,b/1", ClusterDatabase),
            ("redis+cluster://:hunter2@a,b/main", Database),
            ("redis+cluster://:hunter2/p@a,b/", RawCharacter),
            ("redis+cluster://a,b/?hunter2", RawCharacter),
            ("redis+unix+cluster:///hunter2", Shape),
            ("redis+unix+sentinel:///hunter2", Shape),
        ] {
            assert_refused(text, wrong);
        }
    }

    fn assert_refused(text: &str, wrong: InvalidRedisUrl) {
        let error = text.parse::<RedisUrl>().unwrap_err();
        assert_eq!(error, wrong, "{text}");
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    }
}
