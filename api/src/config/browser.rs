//! Settings of requests from browsers.

use crate::browser::{HostNames, Origins};

/// Which pages and host names browsers may use.
#[derive(Debug, Clone, clap::Args)]
pub struct BrowserConfig {
    /// Origins whose pages may use this API from a browser, separated by commas, such as
    /// `https://app.example.com`. Default: none but the API's own.
    #[arg(long, env = "CRUNCH_API_CORS_ORIGINS", value_name = "ORIGINS")]
    pub cors_origins: Option<Origins>,

    /// Names under which clients reach an API without keys, separated by commas, besides localhost, addresses
    /// and the host of CRUNCH_PUBLIC_URL. Requests for other names are answered with 421. Default: none.
    #[arg(long, env = "CRUNCH_API_HOSTS", value_name = "NAMES")]
    pub hosts: Option<HostNames>,
}
