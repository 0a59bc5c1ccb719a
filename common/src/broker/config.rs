//! Which Redis the broker uses, under which key prefix, and within which limits.

use clap::Args;

use super::endpoint::SentinelLogin;
use super::keys::KeyPrefix;
use super::redis_tls::RedisTls;
use super::redis_url::RedisUrl;
use crate::config::whole_number;
use crate::job::PARTITIONS_MAX;

/// Address, key prefix, partitions and limits of the Redis with the jobs.
#[derive(Debug, Clone, Args)]
pub struct BrokerConfig {
    /// Address of Redis: redis://user:password@host:port/database, rediss:// with TLS, redis+unix:///path/of/socket, or
    /// redis+sentinel://user:password@sentinel1,sentinel2/master. Special characters of user and password are
    /// percent-encoded.
    #[arg(
        long,
        env = "CRUNCH_REDIS_URL",
        value_name = "URL",
        default_value = "redis://127.0.0.1:6379/",
        hide_env_values = true
    )]
    pub redis_url: RedisUrl,

    /// Certificates, if the address requests TLS.
    #[command(flatten)]
    pub redis_tls: RedisTls,

    /// User and password of Sentinels, if the address is theirs.
    #[command(flatten)]
    pub sentinel_login: SentinelLogin,

    /// Prefix of every key and channel in Redis: 1 to 32 characters of a-z, 0-9, '_', '.' and '-'.
    #[arg(long, env = "CRUNCH_KEY_PREFIX", value_name = "NAME", default_value = "crunch")]
    pub key_prefix: KeyPrefix,

    /// Number of partitions of the key space, 1 to 1024. Fixed once the key space is used.
    #[arg(long, env = "CRUNCH_PARTITIONS", value_name = "N", default_value = "1", value_parser = whole_number::<u16>(1..=PARTITIONS_MAX as u64))]
    pub partitions: u16,

    /// Percent of Redis' maxmemory from which no new jobs are accepted and ended ones are deleted early, 1 to 100.
    /// Without a maxmemory it has no effect.
    #[arg(long, env = "CRUNCH_MEMORY_WATERMARK", value_name = "PERCENT", default_value = "70", value_parser = whole_number::<u8>(1..=100))]
    pub memory_watermark: u8,

    /// How many jobs may wait in one queue, 1 to 1 000 000 000. More are rejected until some were claimed.
    #[arg(long, env = "CRUNCH_MAX_QUEUE_DEPTH", value_name = "JOBS", default_value = "10000000", value_parser = whole_number::<u64>(1..=1_000_000_000))]
    pub max_queue_depth: u64,

    /// How many queues may exist in a partition, 1 to 1 000 000. Jobs for a further queue are rejected; queues that
    /// workers serve are always accepted.
    #[arg(long, env = "CRUNCH_MAX_QUEUES", value_name = "QUEUES", default_value = "50000", value_parser = whole_number::<u32>(1..=1_000_000))]
    pub max_queues: u32,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            redis_url: RedisUrl::default(),
            redis_tls: RedisTls::default(),
            sentinel_login: SentinelLogin::default(),
            key_prefix: "crunch".parse().expect("the default prefix is a valid name"),
            partitions: 1,
            memory_watermark: 70,
            max_queue_depth: 10_000_000,
            max_queues: 50_000,
        }
    }
}
