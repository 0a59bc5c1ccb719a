//! One test binary, folders by concern.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod broker;
mod commands;
mod configuration;
mod durability;
mod fleet;
mod http;
mod life;
mod redis_trouble;
mod shutdown;
