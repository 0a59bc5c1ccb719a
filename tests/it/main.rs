//! One test binary, folders by concern.

mod broker;
