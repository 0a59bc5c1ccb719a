//! `crunch-api keys`: makes, lists and revokes API keys. A running API notices within seconds.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use crunch_common::time::Timestamp;

use crate::auth::{FileError, Key, KeyFile, KeyId, Queues, Scopes, Token};
use crate::error::Error;
use crate::rate::Rate;

/// What to do with the keys, and where they are.
#[derive(Debug, Clone, clap::Args)]
pub struct KeysCommand {
    /// What to do.
    #[command(subcommand)]
    pub action: KeysAction,
}

/// What can be done with keys.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum KeysAction {
    /// Makes a key and prints it: this once, for only its hash is kept.
    Create(NewKey),
    /// Lists all keys, without their secrets: nobody has those but their owners.
    List(Place),
    /// Takes a key out of use.
    Revoke(Revocation),
}

/// Where the keys are.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// The file with the keys.
    #[arg(long = "file", env = "CRUNCH_API_KEYS", value_name = "PATH")]
    pub file: PathBuf,
}

/// What a new key is for.
#[derive(Debug, Clone, clap::Args)]
pub struct NewKey {
    /// Whose it is: 1 to 100 characters, for people.
    #[arg(long, value_name = "TEXT", value_parser = name)]
    pub name: String,

    /// What it lets its owner do: submit, read, cancel, admin, separated by commas. An admin may do everything.
    #[arg(long, value_name = "SCOPES")]
    pub scopes: Scopes,

    /// The only queues whose jobs it is for, separated by commas. Default: all queues.
    #[arg(long, value_name = "QUEUES")]
    pub queues: Option<Queues>,

    /// How many requests a second it is good for, 1 to 1 000 000. Default: as many as CRUNCH_API_RATE says.
    #[arg(long, value_name = "N")]
    pub rate: Option<Rate>,

    /// Where to keep it.
    #[command(flatten)]
    pub place: Place,
}

/// Which key to revoke.
#[derive(Debug, Clone, clap::Args)]
pub struct Revocation {
    /// The 10 characters that follow crk_.
    #[arg(value_name = "ID")]
    pub id: KeyId,

    /// Where it is kept.
    #[command(flatten)]
    pub place: Place,
}

fn name(text: &str) -> Result<String, &'static str> {
    let fits = (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or("expected 1 to 100 characters")
}

/// Does it, and prints what came of it.
pub(crate) fn run(command: &KeysCommand) -> Result<(), Error> {
    let said = match &command.action {
        KeysAction::Create(new) => create(new)?,
        KeysAction::List(place) => as_table(&KeyFile::new(&place.file).read()?),
        KeysAction::Revoke(revocation) => revoke(revocation)?,
    };
    std::io::stdout().write_all(said.as_bytes())?;
    Ok(())
}

fn create(new: &NewKey) -> Result<String, FileError> {
    let token = Token::generate();
    let key = Key {
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

fn as_table(keys: &[Key]) -> String {
    let mut text = format!(
        "{:<10}  {:<24}  {:<24}  {:<20}  {:>8}  name\n",
        "id", "created", "scopes", "queues", "rate"
    );
    for key in keys {
        let Key { id, name, scopes, created_at, .. } = key;
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
