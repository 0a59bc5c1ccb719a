//! Where Redis is, and how to connect to it. The only place that opens a connection. One that is to be encrypted is
//! never opened without TLS, nor to a Redis whose certificate is not valid for the host of its address.
//!
//! Redis is at one address, or where Sentinels say that its master is. They are asked for each new connection; and since
//! they may know less than Redis itself, it is used only if Redis says that it is a master.

mod dialer;
mod sentinels;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ProtocolVersion, PushInfo, RedisConnectionInfo,
    RedisError, Value,
};
use tokio::sync::mpsc::UnboundedSender;

pub(crate) use dialer::Connection;
pub use sentinels::SentinelLogin;

use super::error::{Error, Remedy, classify};
use super::flow::Flow;
use super::redis_tls::RedisTls;
use super::redis_url::{Address, RedisUrl, Servers};
use super::reply;
use dialer::Dialer;
use sentinels::Sentinels;

/// Longer than it takes on a working network to find the address, connect, agree on TLS and log in; shorter than the
/// 2 s in which a client gets its 503.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where Redis is, and how to connect to it.
#[derive(Clone)]
pub(crate) struct Endpoint(Arc<Inner>);

struct Inner {
    dialer: Dialer,
    place: Place,
    /// User, password and database.
    settings: RedisConnectionInfo,
}

/// Where Redis is.
enum Place {
    Fixed(ConnectionAddr),
    /// Where they say.
    Known(Sentinels),
}

impl Endpoint {
    /// # Errors
    /// [`Error::Refused`] if the files for TLS cannot be used, or settings do not belong to this kind of address.
    pub(crate) fn new(
        url: &RedisUrl,
        tls: &RedisTls,
        login: &SentinelLogin,
    ) -> Result<Self, Error> {
        let refuse = |reason: &str| Err(Error::Refused { reason: reason.to_owned() });
        if tls.is_set() && !url.uses_tls() {
            return refuse(
                "there are files for TLS to Redis, but CRUNCH_REDIS_URL begins neither with rediss:// nor with rediss+sentinel://",
            );
        }
        let place = match url.servers() {
            Servers::One(_) if login.is_set() => {
                return refuse(
                    "there is a password of Sentinel, but CRUNCH_REDIS_URL begins neither with redis+sentinel:// nor with rediss+sentinel://",
                );
            }
            Servers::One(address) => Place::Fixed(address.clone()),
            Servers::Sentinels { addresses, master } => {
                Place::Known(Sentinels::new(addresses.clone(), master.clone(), login))
            }
        };
        let dialer = Dialer::new(url.uses_tls().then(|| tls.clone()))?;
        Ok(Self(Arc::new(Inner { dialer, place, settings: url.settings().clone() })))
    }

    /// Connects and logs in; counts the bytes if there is a flow.
    pub(crate) async fn connect(&self, flow: Option<&Flow>) -> Result<Connection, (Remedy, Error)> {
        self.within(flow, &self.0.settings, AsyncConnectionConfig::new()).await
    }

    /// Connects and logs in, with the version of the protocol that has pushes beside replies; they are sent there.
    pub(crate) async fn connect_for_pushes(
        &self,
        pushes: UnboundedSender<PushInfo>,
    ) -> Result<Connection, (Remedy, Error)> {
        let settings = self.0.settings.clone().set_protocol(ProtocolVersion::RESP3);
        self.within(None, &settings, AsyncConnectionConfig::new().set_push_sender(pushes)).await
    }

    async fn within(
        &self,
        flow: Option<&Flow>,
        settings: &RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<Connection, (Remedy, Error)> {
        let connect = self.0.connect(flow, settings, config);
        let timed_out = |_| {
            let error = RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
            classify(&Arc::new(error))
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(timed_out)?
    }
}

impl Inner {
    async fn connect(
        &self,
        flow: Option<&Flow>,
        settings: &RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<Connection, (Remedy, Error)> {
        let sentinels = match &self.place {
            Place::Fixed(address) => {
                return self.dialer.log_in(address, flow, settings, config).await;
            }
            Place::Known(sentinels) => sentinels,
        };
        let address = sentinels.master(&self.dialer).await?;
        let mut connection = self.dialer.log_in(&address, flow, settings, config).await?;
        match role(&mut connection).await {
            Ok(role) if role == "master" => Ok(connection),
            Ok(role) => {
                let reason = format!(
                    "Sentinel says that the master is {}, which is a {role}: a failover may not be complete",
                    Address(&address)
                );
                Err((Remedy::Reconnect, Error::Rejected { reason }))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Returns what Redis is: `master`, or `slave` for a replica.
async fn role(connection: &mut Connection) -> Result<String, (Remedy, Error)> {
    let role = redis::cmd("ROLE").query_async(&mut connection.commands).await;
    let role: Vec<Value> = role.map_err(|error| classify(&Arc::new(error)))?;
    let role = role.into_iter().next().unwrap_or_default();
    reply::text(role).map_err(|error| (Remedy::Reconnect, error))
}

impl Manager for Endpoint {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        self.connect(None).await.map_err(|(_, error)| error)
    }

    /// A connection that was idle may be dead, or to a master that became a replica.
    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<Error> {
        let failed = |(_, error)| RecycleError::Backend(error);
        match &self.0.place {
            Place::Fixed(_) => {
                let answer = redis::cmd("PING").exec_async(&mut connection.commands).await;
                answer.map_err(|error| failed(classify(&Arc::new(error))))
            }
            Place::Known(_) => match role(connection).await.map_err(failed)?.as_str() {
                "master" => Ok(()),
                _ => Err(RecycleError::message("it became a replica")),
            },
        }
    }
}
