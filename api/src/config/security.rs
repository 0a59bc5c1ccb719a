//! Who may use the API, and how much of it.

use std::path::PathBuf;

use crate::rate::Rate;

/// Who may use the API, and how much of it.
#[derive(Debug, Clone, clap::Args)]
pub struct SecurityConfig {
    /// File of API keys: whoever wants to use this API must show one. `crunch-api keys` writes it. Default: none.
    #[arg(long, env = "CRUNCH_API_KEYS", value_name = "PATH")]
    pub keys: Option<PathBuf>,

    /// How many requests a second one caller may send: a key, or a client's address where there are no keys. 1 to
    /// 1 000 000. A key may have a rate of its own. Default: any number.
    #[arg(long, env = "CRUNCH_API_RATE", value_name = "N")]
    pub rate: Option<Rate>,

    /// How many of them may come at once, 1 to 1 000 000. Default: as many as in a second.
    #[arg(long = "rate-burst", env = "CRUNCH_API_RATE_BURST", value_name = "N", requires = "rate")]
    pub rate_burst: Option<Rate>,
}
