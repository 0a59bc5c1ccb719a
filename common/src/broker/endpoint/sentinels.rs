//! Sentinels: the processes that watch a master and its replicas, and know which of them is the master now.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::{AsyncConnectionConfig, ConnectionAddr, RedisConnectionInfo, Value};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use super::ask::together;
use super::dialer::Dialer;
use crate::broker::error::{Error, Remedy, classify};
use crate::broker::reply;

/// Once one has answered, how long the answers of the others are awaited.
const OTHERS_WITHIN: Duration = Duration::from_millis(200);
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
    /// How often they were asked.
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

    /// Returns where the master is.
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
        let address = self.ask_all(dialer).await?;
        *answer = Some((Instant::now(), address.clone()));
        Ok(address)
    }

    /// Asks all of them. The answer that belongs to the newest configuration counts: a Sentinel that was cut off from the
    /// others does not know of the last failover, and the master that it names may be one that lost its data. Of several
    /// it is another one each time, in case none knows of it yet.
    async fn ask_all(&self, dialer: &Dialer) -> Result<ConnectionAddr, (Remedy, Error)> {
        let ask = async |sentinel| {
            let answer = self.ask(sentinel, dialer).await;
            answer.map_err(|error| (sentinel, error))
        };
        let mut asks: FuturesUnordered<_> = self.addresses.iter().map(ask).collect();
        let (mut answers, mut failures, mut until) = (Vec::new(), Vec::new(), None);
        loop {
            let answer = match until {
                Some(until) => timeout_at(until, asks.next()).await.unwrap_or_default(),
                None => asks.next().await,
            };
            match answer {
                Some(Ok(answer)) => {
                    until.get_or_insert_with(|| tokio::time::Instant::now() + OTHERS_WITHIN);
                    answers.push(answer);
                }
                Some(Err(failure)) => failures.push(failure),
                None => break,
            }
        }
        let newest = answers.iter().map(|&(epoch, _)| epoch).max();
        answers.retain(|&(epoch, _)| Some(epoch) == newest);
        if answers.is_empty() {
            return Err((Remedy::Reconnect, together("Sentinel", failures)));
        }
        let number = self.asked.fetch_add(1, Ordering::Relaxed) % answers.len();
        Ok(answers.swap_remove(number).1)
    }

    /// Returns where one of them says that the master is, and the epoch of its configuration.
    async fn ask(
        &self,
        sentinel: &ConnectionAddr,
        dialer: &Dialer,
    ) -> Result<(u64, ConnectionAddr), Error> {
        let config = AsyncConnectionConfig::new();
        let connected = dialer.log_in(sentinel, None, &self.settings, config).await;
        let mut connection = connected.map_err(|(_, error)| error)?;
        let mut ask = async |what: &str| {
            let mut command = redis::cmd("SENTINEL");
            command.arg(what).arg(&self.master);
            let answer = command.query_async::<Value>(&mut connection.commands).await;
            answer.map_err(|error| classify(&error.into()).1)
        };
        let Value::Array(address) = ask("get-master-addr-by-name").await? else {
            let reason = format!("it knows no master {}", self.master);
            return Err(Error::Refused { reason });
        };
        let [host, port] = reply::fields(Value::Array(address))?;
        let address = ConnectionAddr::Tcp(reply::text(host)?, reply::parsed(port)?);
        let known = reply::array(ask("MASTER").await?).unwrap_or_default();
        let name = Value::BulkString(b"config-epoch".to_vec());
        let epoch = known.chunks_exact(2).find(|pair| pair[0] == name);
        Ok((epoch.map_or(Ok(0), |pair| reply::unsigned(&pair[1]))?, address))
    }
}
