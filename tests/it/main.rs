//! One test binary, folders by concern.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod broker;
mod http;
mod life;
