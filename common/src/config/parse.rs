//! Parsers for values of variables and flags.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;

/// Parses a whole number within a range.
pub fn whole_number<T: TryFrom<u64> + Clone + Send + Sync + 'static>(
    range: std::ops::RangeInclusive<u64>,
) -> impl TypedValueParser<Value = T> {
    move |text: &str| -> Result<T, String> {
        let expected =
            || format!("expected a whole number from {} to {}", range.start(), range.end());
        let number =
            text.parse().ok().filter(|number| range.contains(number)).ok_or_else(expected)?;
        T::try_from(number).map_err(|_| expected())
    }
}

/// Parses a duration given as whole milliseconds within a range.
pub fn milliseconds(
    range: std::ops::RangeInclusive<u64>,
) -> impl TypedValueParser<Value = Duration> {
    move |text: &str| -> Result<Duration, String> {
        let expected =
            || format!("expected whole milliseconds from {} to {}", range.start(), range.end());
        let number =
            text.parse().ok().filter(|number| range.contains(number)).ok_or_else(expected)?;
        Ok(Duration::from_millis(number))
    }
}

/// Parses an address to listen on.
///
/// # Errors
/// If the text is not an IP address and a port.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080".to_owned())
}

/// Parses a comma-separated list; spaces around an item are dropped.
///
/// # Errors
/// If an item cannot be parsed.
pub fn comma_separated<T>(text: &str) -> Result<Vec<T>, String>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let read =
        |item: &str| item.trim().parse().map_err(|error| format!("{:?} {error}", item.trim()));
    text.split(',').map(read).collect()
}
