//! One test binary, folders by concern.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod broker;
mod commands;
mod configuration;
mod fleet;
mod life;
mod redis_trouble;
mod shutdown;
mod supervise;
mod worker_health;
