//! The rate of requests that a caller may send.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Requests a second: 1 to 1 000 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Rate(u32);

impl Rate {
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Rate {
    type Error = &'static str;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        let fits = (1..=1_000_000).contains(&number);
        fits.then_some(Self(number)).ok_or("expected a whole number from 1 to 1000000")
    }
}

impl From<Rate> for u32 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Text that is not a number is rejected like 0.
        Self::try_from(text.parse().unwrap_or(0))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
