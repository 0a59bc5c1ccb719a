//! The test harness: real processes and a real Redis, started for one test and stopped with it.
//!
//! A test starts a [`Stack`], uses it like a client, and controls handlers through a [`Stage`]. Everything waits for
//! events, with a deadline; nothing here sleeps to let something happen.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails at that place")]

mod api;
pub mod chaos;
mod cluster;
pub mod collector;
mod draw;
mod events;
pub mod failover;
mod formation;
pub mod fuzz;
mod ledger;
pub mod monitoring;
mod network;
mod port;
mod process;
pub mod proxy;
mod raw;
mod receiver;
mod redis_server;
mod sentinels;
mod stack;
mod stage;
pub mod tasks;
mod wait;

pub use api::{Answer, Api};
pub use cluster::{NODE_TIMEOUT_MS, RedisCluster};
pub use draw::is_cluster;
pub use events::{EventStream, ServerEvent};
pub use ledger::{Entry, Ledger, Moment};
pub use network::{Cut, Host, Network};
pub use process::{Process, children_of};
pub use proxy::{Direction, DropMode, Filter, Proxy};
pub use raw::RawConnection;
pub use receiver::{Call, Receiver};
pub use redis_server::RedisServer;
pub use sentinels::{SentinelSettings, Sentinels};
pub use stack::{Stack, Worker, binary};
pub use stage::{Actor, Stage};
pub use wait::{TIME_LIMIT, eventually, in_time};
