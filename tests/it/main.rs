//! One test binary, folders by concern.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod broker;
mod chaos;
mod commands;
mod configuration;
mod faults;
mod fleet;
mod life;
mod proxy;
mod redis_trouble;
mod shutdown;
