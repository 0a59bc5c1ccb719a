//! Named APIs in `contexts.toml`, a file that only its owner may read.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Key, folder, read_key, require_private};
use crate::error::Error;

/// An API under a name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) url: String,
    /// The key itself, unless it is in a file of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Key>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl Context {
    pub(crate) fn key(&self) -> Result<Option<Key>, Error> {
        match (&self.key, &self.key_file) {
            (Some(key), _) => Ok(Some(key.clone())),
            (None, Some(file)) => read_key(file).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// The whole file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The context that is used if none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default, rename = "context")]
    pub(crate) all: BTreeMap<String, Context>,
}

pub(crate) fn path() -> Result<PathBuf, Error> {
    Ok(folder()?.join("contexts.toml"))
}

impl Contexts {
    /// Reads the file; an absent one has no contexts.
    pub(crate) fn read() -> Result<Self, Error> {
        let Ok(path) = path() else { return Ok(Self::default()) };
        if !path.exists() {
            return Ok(Self::default());
        }
        require_private(&path)?;
        let text =
            std::fs::read_to_string(&path).map_err(|cause| Error::file("read", &path, cause))?;
        toml::from_str(&text).map_err(|error| {
            let message = error.message().lines().next().unwrap_or_default().to_owned();
            Error::usage(
                format!("{} is not a file of contexts: {message}", path.display()),
                "correct it, or delete it and run: crunch context add",
            )
        })
    }

    /// Replaces the file atomically: another command reads the old one or the new one.
    pub(crate) fn write(&self) -> Result<(), Error> {
        let path = path()?;
        let folder = folder()?;
        let failed = |cause| Error::file("write", &path, cause);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let text = toml::to_string(self).map_err(|error| failed(std::io::Error::other(error)))?;
        // It is created with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Context, Error> {
        self.all.get(name).ok_or_else(|| {
            let names: Vec<_> = self.all.keys().map(String::as_str).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Error::usage(
                format!("there is no context {name}"),
                format!("known: {known}; add it: crunch context add {name} --url URL"),
            )
        })
    }
}

pub(super) fn named(name: &str) -> Result<Context, Error> {
    Contexts::read()?.get(name).cloned()
}

pub(super) fn current() -> Result<Option<(String, Context)>, Error> {
    let contexts = Contexts::read()?;
    let Some(name) = &contexts.current else { return Ok(None) };
    Ok(Some((name.clone(), contexts.get(name)?.clone())))
}

/// The names, for completions.
pub(crate) fn names() -> Vec<clap_complete::CompletionCandidate> {
    let contexts = Contexts::read().unwrap_or_default();
    contexts.all.into_keys().map(clap_complete::CompletionCandidate::new).collect()
}
