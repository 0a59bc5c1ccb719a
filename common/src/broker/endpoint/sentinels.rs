//! Sentinels: the processes that watch a master and its replicas, and know which of them is the master now.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::FutureExt;
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisConnectionInfo};
use tokio::sync::Mutex;

use super::ask::first_answer;
use super::dialer::Dialer;
use crate::broker::error::{Error, Remedy, classify};

/// An answer is used for connections that are opened this soon after it, so that a process with many connections does
/// not ask for each of them when a master is lost.
const FRESH: Duration = Duration::from_millis(100);

/// How this process logs in to Sentinels, which have users and passwords of their own.
#[derive(Clone, Default, Args)]
pub struct SentinelLogin {
    /// User at the Sentinels of CRUNCH_REDIS_URL, if it is not their default user.
    #[arg(
        long,
        env = "CRUNCH_REDIS_SENTINEL_USER",
        value_name = "NAME",
        requires = "redis_sentinel_password"
    )]
    pub redis_sentinel_user: Option<String>,

    /// Password at the Sentinels. That of Redis is in CRUNCH_REDIS_URL.
    #[arg(
        long,
        env = "CRUNCH_REDIS_SENTINEL_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    pub redis_sentinel_password: Option<String>,
}

impl SentinelLogin {
    /// Whether there is one.
    pub(super) const fn is_set(&self) -> bool {
        self.redis_sentinel_user.is_some() || self.redis_sentinel_password.is_some()
    }

    fn settings(&self) -> RedisConnectionInfo {
        let mut settings = RedisConnectionInfo::default();
        if let Some(user) = &self.redis_sentinel_user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.redis_sentinel_password {
            settings = settings.set_password(password);
        }
        settings
    }
}

impl fmt::Debug for SentinelLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelLogin")
            .field("user", &self.redis_sentinel_user)
            .finish_non_exhaustive()
    }
}

/// The Sentinels of one master.
pub(super) struct Sentinels {
    addresses: Vec<ConnectionAddr>,
    master: String,
    settings: RedisConnectionInfo,
    /// How often they were asked: each time another one is the first, because one that is cut off from the others does
    /// not know of a failover.
    asked: AtomicUsize,
    /// The last answer. Locked while they are asked.
    answer: Mutex<Option<(Instant, ConnectionAddr)>>,
}

impl Sentinels {
    pub(super) fn new(
        addresses: Vec<ConnectionAddr>,
        master: String,
        login: &SentinelLogin,
    ) -> Self {
        let (settings, asked, answer) = (login.settings(), AtomicUsize::new(0), Mutex::new(None));
        Self { addresses, master, settings, asked, answer }
    }

    /// Returns where the master is: the first answer of one of them.
    ///
    /// # Errors
    /// If none has one, with the reason of each.
    pub(super) async fn master(&self, dialer: &Dialer) -> Result<ConnectionAddr, (Remedy, Error)> {
        let mut answer = self.answer.lock().await;
        if let Some((at, address)) = &*answer
            && at.elapsed() < FRESH
        {
            return Ok(address.clone());
        }
        let first = self.asked.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
        let mut addresses = self.addresses.clone();
        addresses.rotate_left(first);
        let ask = |sentinel| self.ask(sentinel, dialer).boxed();
        let address = first_answer("Sentinel", &addresses, ask).await?;
        *answer = Some((Instant::now(), address.clone()));
        Ok(address)
    }

    async fn ask(
        &self,
        sentinel: &ConnectionAddr,
        dialer: &Dialer,
    ) -> Result<ConnectionAddr, Error> {
        let config = AsyncConnectionConfig::new();
        let connected = dialer.log_in(sentinel, None, &self.settings, config).await;
        let mut connection = connected.map_err(|(_, error)| error)?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(&self.master);
        let answer = command.query_async(&mut connection.commands).await;
        let answer: Option<(String, u16)> = answer.map_err(|error| classify(&error.into()).1)?;
        let unknown = || Error::Refused { reason: format!("it knows no master {}", self.master) };
        answer.map(|(host, port)| ConnectionAddr::Tcp(host, port)).ok_or_else(unknown)
    }
}
