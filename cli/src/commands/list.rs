//! Lists: printed as documents, or as a table.

use serde_json::value::RawValue;

use super::Session;
use crate::client::Request;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Table, log};

/// Reads a list: its documents are printed with `--json`, else given to `add`.
pub(super) fn list(
    session: &mut Session<'_>,
    path: &[&str],
    mut add: impl FnMut(&RawValue) -> Result<(), Error>,
) -> Result<(), Error> {
    for document in session.client.items(Request::get(path)) {
        let document = document?;
        if session.output.json {
            session.output.document(&document)?;
        } else {
            add(&document)?;
        }
    }
    Ok(())
}

/// Prints the table of a list; a person learns why it is empty.
pub(super) fn finish(
    session: &mut Session<'_>,
    table: &Table,
    why_empty: &str,
) -> Result<Exit, Error> {
    if table.is_empty() {
        if !session.output.json {
            log::hint(why_empty);
        }
    } else {
        session.output.table(table)?;
    }
    Ok(Exit::Done)
}
