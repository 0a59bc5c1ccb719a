//! `crunch-api keys`: creates, lists and revokes API keys. A running API notices within seconds.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use crunch_common::time::Timestamp;

use crate::auth::{ApiKey, FileError, KeyFile, KeyId, Queues, Scopes, Token};
use crate::error::Error;
use crate::rate::Rate;

/// Options of `keys`.
#[derive(Debug, Clone, clap::Args)]
pub struct KeysCommand {
    /// The action.
    #[command(subcommand)]
    pub action: KeysAction,
}

/// Actions on keys.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum KeysAction {
    /// Creates a key and prints it: only once, because only its hash is kept.
    Create(NewKey),
    /// Lists all keys, without their secrets: only their owners have those.
    List(Place),
    /// Revokes a key.
    Revoke(Revocation),
}

/// Where the keys are stored.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The file with the keys.
    #[arg(long = "file", env = "CRUNCH_API_KEYS", value_name = "PATH")]
    pub file: PathBuf,
}

/// Options of `keys create`.
#[derive(Debug, Clone, clap::Args)]
pub struct NewKey {
    /// Human-readable name of the owner: 1 to 100 characters.
    #[arg(long, value_name = "TEXT", value_parser = name)]
    pub name: String,

    /// What its owner may do: submit, read, cancel, admin, separated by commas. An admin may do everything.
    #[arg(long, value_name = "SCOPES")]
    pub scopes: Scopes,

    /// The only queues it allows, separated by commas. Default: all queues.
    #[arg(long, value_name = "QUEUES")]
    pub queues: Option<Queues>,

    /// How many requests a second it allows, 1 to 1 000 000. Default: as set by CRUNCH_API_RATE.
    #[arg(long, value_name = "N")]
    pub rate: Option<Rate>,

    /// Where it is stored.
    #[command(flatten)]
    pub place: Place,
}

/// Options of `keys revoke`.
#[derive(Debug, Clone, clap::Args)]
pub struct Revocation {
    /// The 10 characters that follow crk_.
    #[arg(value_name = "ID")]
    pub id: KeyId,

    /// Where it is stored.
    #[command(flatten)]
    pub place: Place,
}

fn name(text: &str) -> Result<String, &'static str> {
    let fits = (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or("expected 1 to 100 characters")
}

/// Runs the action and prints its result.
pub(crate) fn run(command: &KeysCommand) -> Result<(), Error> {
    let output = match &command.action {
        KeysAction::Create(new) => create(new)?,
        KeysAction::List(place) => as_table(&KeyFile::new(&place.file).read()?),
        KeysAction::Revoke(revocation) => revoke(revocation)?,
    };
    std::io::stdout().write_all(output.as_bytes())?;
    Ok(())
}

fn create(new: &NewKey) -> Result<String, FileError> {
    let token = Token::generate();
    let key = ApiKey {
        id: token.id.clone(),
        name: new.name.clone(),
        hash: token.hash(),
        scopes: new.scopes.clone(),
        queues: new.queues.clone(),
        rate: new.rate,
        created_at: Timestamp::now(),
    };
    KeyFile::new(&new.place.file).change(|keys| {
        keys.push(key);
        Ok(())
    })?;
    Ok(format!("{}\n", token.reveal()))
}

fn revoke(Revocation { id, place }: &Revocation) -> Result<String, FileError> {
    let file = KeyFile::new(&place.file);
    file.change(|keys| {
        let before = keys.len();
        keys.retain(|key| key.id != *id);
        match keys.len() < before {
            true => Ok(format!("revoked {id}\n")),
            false => Err(file.broken(format!("there is no key {id}"))),
        }
    })
}

fn as_table(keys: &[ApiKey]) -> String {
    let mut text = format!(
        "{:<10}  {:<24}  {:<24}  {:<20}  {:>8}  name\n",
        "id", "created", "scopes", "queues", "rate"
    );
    for key in keys {
        let ApiKey { id, name, scopes, created_at, .. } = key;
        let queues = key.queues.as_ref().map_or_else(|| "all".to_owned(), Queues::to_string);
        let rate = key.rate.map_or_else(|| "-".to_owned(), |rate| rate.to_string());
        let (scopes, created) = (scopes.to_string(), created_at.to_string());
        let _ = writeln!(
            text,
            "{:<10}  {created:<24}  {scopes:<24}  {queues:<20}  {rate:>8}  {name}",
            id.to_string()
        );
    }
    text
}
