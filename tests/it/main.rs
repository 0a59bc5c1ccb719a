//! One test binary, folders by concern.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue fails at that place")]

mod audit;
mod broker;
mod browser;
mod chaos;
mod cli;
mod clients;
mod cluster;
mod commands;
mod configuration;
mod dashboard;
mod direction;
mod docs;
mod durability;
mod faults;
mod first_process;
mod fleet;
mod fuzz;
mod http;
mod large_fleet;
mod life;
mod lua;
mod machine_faults;
mod memory;
mod metrics;
mod monitoring;
mod operators;
mod partitions;
mod proxy;
mod redis_tls;
mod redis_trouble;
mod redis_users;
mod run_task;
mod script_up;
mod sentinel;
mod sequences;
mod servers;
mod settlements;
mod shutdown;
mod supervise;
mod torn_log;
mod tree;
mod webhooks;
mod words;
mod worker_health;
