//! Which API is used, with which key: from the command line, the environment, or a context.
//!
//! A key is never an argument, which every user of the machine can read; and the key of a context is never sent to
//! another address.

pub(crate) mod contexts;

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::format::parse_duration;

/// The address of `script/up`, and the default of the API.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// The variable with a key.
const KEY_VARIABLE: &str = "CRUNCH_API_KEY";

/// How to reach the API.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArguments {
    /// Address of the API. Default: that of the context, else http://127.0.0.1:8080
    #[arg(long, global = true, env = "CRUNCH_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) url: Option<String>,

    /// The context to use instead of the current one
    #[arg(long, global = true, env = "CRUNCH_CONTEXT", value_name = "NAME",
        add = clap_complete::ArgValueCandidates::new(contexts::names))]
    pub(crate) context: Option<String>,

    /// File with the API key, readable only by its owner
    #[arg(long, global = true, env = "CRUNCH_API_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// File with the certificates that the API's certificate must be signed by (PEM)
    #[arg(long, global = true, env = "CRUNCH_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// How long requests are repeated while the API does not answer
    #[arg(long, global = true, env = "CRUNCH_RETRY_FOR", value_name = "DURATION",
        default_value = "30s", value_parser = parse_duration)]
    pub(crate) retry_for: Duration,
}

/// An API key; never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Key(String);

impl Key {
    /// Takes the text of a key, with white space around it.
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let fits = text.starts_with("crk_") && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned())).ok_or_else(|| {
            Error::usage("this is not an API key", "a key is one line that begins with crk_")
        })
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(&text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// The API to use.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Without a slash at its end.
    pub(crate) url: String,
    pub(crate) key: Option<Key>,
    pub(crate) ca_file: Option<PathBuf>,
    /// The context that it comes from.
    pub(crate) context: Option<String>,
}

impl Target {
    pub(crate) fn of(arguments: &ConnectionArguments) -> Result<Self, Error> {
        let context = match (&arguments.url, &arguments.context) {
            (Some(_), Some(_)) => {
                return Err(Error::usage(
                    "an address and a context are given",
                    "use one of them: --url or CRUNCH_URL, --context or CRUNCH_CONTEXT",
                ));
            }
            (Some(_), None) => None,
            (None, Some(name)) => Some((name.clone(), contexts::named(name)?)),
            (None, None) => contexts::current()?,
        };
        let (name, context) = context.map_or((None, None), |(name, it)| (Some(name), Some(it)));
        let url = arguments.url.clone().or_else(|| context.as_ref().map(|it| it.url.clone()));
        let key = match own_key(arguments)? {
            Some(key) => Some(key),
            None => context.as_ref().map(contexts::Context::key).transpose()?.flatten(),
        };
        Ok(Self {
            url: parse_url(url.as_deref().unwrap_or(DEFAULT_URL))?,
            key,
            ca_file: arguments.ca_file.clone().or_else(|| context.and_then(|it| it.ca_file)),
            context: name,
        })
    }
}

/// The key of the environment, or of a file that is named on the command line.
fn own_key(arguments: &ConnectionArguments) -> Result<Option<Key>, Error> {
    if let Some(text) = variable(KEY_VARIABLE) {
        return Key::new(&text).map(Some);
    }
    arguments.key_file.as_deref().map(read_key).transpose()
}

/// Reads a file that contains a key and nothing else.
pub(crate) fn read_key(path: &Path) -> Result<Key, Error> {
    require_private(path)?;
    let text = std::fs::read_to_string(path).map_err(|cause| Error::file("read", path, cause))?;
    Key::new(&text)
}

/// Rejects a file with a secret that other users may read.
pub(crate) fn require_private(path: &Path) -> Result<(), Error> {
    let metadata = std::fs::metadata(path).map_err(|cause| Error::file("read", path, cause))?;
    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::usage(
        format!("other users may read {}, which contains an API key", path.display()),
        format!("run: chmod 600 {}", path.display()),
    ))
}

/// Checks an address, and removes the slash at its end.
pub(crate) fn parse_url(text: &str) -> Result<String, Error> {
    let url = text.trim().trim_end_matches('/');
    let uri: Option<ureq::http::Uri> = url.parse().ok();
    let is_http = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.query().is_none()
    });
    is_http.then(|| url.to_owned()).ok_or_else(|| {
        Error::usage(
            format!("{text} is not the address of an API"),
            "give one such as http://127.0.0.1:8080 or https://crunch.example.com",
        )
    })
}

/// The folder of this program's files.
pub(crate) fn folder() -> Result<PathBuf, Error> {
    let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    base.map(|base| base.join("crunch")).ok_or_else(|| {
        Error::usage("there is no folder for contexts", "set HOME or XDG_CONFIG_HOME")
    })
}

/// A variable of the environment; an empty one is not set.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.into_string().ok()?;
    Some(value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_http_without_credentials() {
        assert_eq!(parse_url("http://127.0.0.1:8080/").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(parse_url("https://a.example/base/").unwrap(), "https://a.example/base");
        for text in ["", "127.0.0.1:8080", "ftp://a", "http://", "http://u:p@a", "http://a?b=c"] {
            assert!(parse_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_one_word_and_never_shown() {
        let key = Key::new(" crk_abc_def\n").unwrap();
        assert_eq!((key.reveal(), format!("{key:?}").as_str()), ("crk_abc_def", "Key"));
        for text in ["", "abc", "crk_a b", "crk_a\r\nX-Other: 1"] {
            assert!(Key::new(text).is_err(), "{text}");
        }
    }
}
