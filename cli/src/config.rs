//! Which API is used, with which key: from the command line, the environment, or a context, in this order.
//!
//! A key is never an argument, which every user of the machine can read; and the key of a context is never sent to
//! another address.

pub(crate) mod address;
pub(crate) mod contexts;
mod key;
mod proxy;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

pub(crate) use self::address::parse_url;
pub(crate) use self::key::{Key, read_key, require_private};

use self::contexts::Context;
use crate::error::Error;
use crate::format::parse_duration;

/// The address of `script/up`, and the default of the API.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const DEFAULT_RETRY_FOR: Duration = Duration::from_secs(30);

// The variables. They are read here and not by the parser of arguments, which knows no unset ones that are empty, and
// does not say whether a value is the user's or the environment's.
const URL: &str = "CRUNCH_URL";
const CONTEXT: &str = "CRUNCH_CONTEXT";
const KEY: &str = "CRUNCH_API_KEY";
const KEY_FILE: &str = "CRUNCH_API_KEY_FILE";
const CA_FILE: &str = "CRUNCH_CA_FILE";
const RETRY_FOR: &str = "CRUNCH_RETRY_FOR";

/// How to reach the API, as given on the command line.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionArguments {
    /// Address of the API. Default: that of the context, else http://127.0.0.1:8080 [env: CRUNCH_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// The context to use instead of the current one [env: CRUNCH_CONTEXT]
    #[arg(long, global = true, value_name = "NAME",
        add = clap_complete::ArgValueCandidates::new(contexts::names))]
    pub(crate) context: Option<String>,

    /// File with the API key, readable only by its owner [env: CRUNCH_API_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// File with the certificates that the API's certificate must be signed by (PEM) [env: CRUNCH_CA_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,

    /// How long requests are repeated while the API does not answer [env: CRUNCH_RETRY_FOR] [default: 30s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    retry_for: Option<Duration>,
}

impl ConnectionArguments {
    /// How long requests are repeated.
    pub(crate) fn retry_for(&self) -> Result<Duration, Error> {
        match (self.retry_for, variable(RETRY_FOR)) {
            (Some(given), _) => Ok(given),
            (None, Some(text)) => parse_duration(&text)
                .map_err(|expected| Error::usage(format!("{RETRY_FOR} is {text}"), expected)),
            (None, None) => Ok(DEFAULT_RETRY_FOR),
        }
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
    pub(crate) proxy: Option<ureq::Proxy>,
}

/// What names an API.
enum Place {
    Url(String),
    Context(String, Context),
}

impl Place {
    fn named(url: Option<String>, context: Option<String>) -> Result<Option<Self>, Error> {
        match (url, context) {
            (Some(_), Some(_)) => Err(Error::usage(
                "an address and a context are given",
                "use one of them: --url or --context, CRUNCH_URL or CRUNCH_CONTEXT",
            )),
            (Some(url), None) => Ok(Some(Self::Url(url))),
            (None, Some(name)) => {
                let context = contexts::named(&name)?;
                Ok(Some(Self::Context(name, context)))
            }
            (None, None) => Ok(None),
        }
    }
}

/// For messages: without the key.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        self.context.iter().try_for_each(|name| write!(f, " (context {name})"))
    }
}

impl Target {
    pub(crate) fn of(arguments: &ConnectionArguments) -> Result<Self, Error> {
        let given = Place::named(arguments.url.clone(), arguments.context.clone())?;
        let is_given = given.is_some();
        let place = match given {
            Some(place) => Some(place),
            None => Place::named(variable(URL), variable(CONTEXT))?,
        };
        let (url, name, context) = match place {
            Some(Place::Url(url)) => (url, None, None),
            Some(Place::Context(name, context)) => (context.url.clone(), Some(name), Some(context)),
            None => match contexts::current()? {
                Some((name, context)) => (context.url.clone(), Some(name), Some(context)),
                None => (DEFAULT_URL.to_owned(), None, None),
            },
        };
        let url = parse_url(&url)?;
        let given = context.as_ref().filter(|_| is_given);
        let ca_file = arguments.ca_file.clone().or_else(|| given.and_then(|it| it.ca_file.clone()));
        let ca_file = ca_file.or_else(|| path_variable(CA_FILE));
        Ok(Self {
            key: key(arguments, given, context.as_ref())?,
            ca_file: ca_file.or_else(|| context.as_ref().and_then(|it| it.ca_file.clone())),
            context: name,
            proxy: proxy::for_url(&url)?,
            url,
        })
    }
}

/// The key of the command line, which may name a context; else that of the environment, else that of the context that
/// is used.
fn key(
    arguments: &ConnectionArguments,
    given: Option<&Context>,
    used: Option<&Context>,
) -> Result<Option<Key>, Error> {
    let of = |context: Option<&Context>| context.map_or(Ok(None), Context::key);
    if let Some(file) = &arguments.key_file {
        return read_key(file).map(Some);
    }
    if let Some(key) = of(given)? {
        return Ok(Some(key));
    }
    match (variable(KEY), path_variable(KEY_FILE)) {
        (Some(text), _) => Key::new(&text).map(Some),
        (None, Some(file)) => read_key(&file).map(Some),
        (None, None) => of(used),
    }
}

/// The folder of this program's files.
pub(crate) fn folder() -> Result<PathBuf, Error> {
    let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    base.map(|base| base.join("crunch")).ok_or_else(|| {
        Error::usage("there is no folder for contexts", "set HOME or XDG_CONFIG_HOME")
    })
}

/// A path in the environment, in whatever encoding.
fn path_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A variable of the environment; an empty one is not set.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?.into_string().ok()?;
    Some(value).filter(|value| !value.is_empty())
}
