//! Reads a schema from a separate file, which `payload_schema` or `result_schema` of a tasks file names.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crunch_common::schema::Schema;

use super::file_context::FileContext;
use super::problem::Mistake;
use super::table::{self, Value, mistake};

/// Reads the schema in the file that a value names; its path is relative to the directory of the tasks file.
pub(super) fn read(value: &Value<'_>, context: &FileContext) -> Result<Schema, Mistake> {
    let path = context.folder.join(table::text(value)?);
    let invalid = |why: String| mistake(value, format!("{}: {why}", path.display()));
    let text = read_text(&path).map_err(|error| invalid(format!("cannot be read: {error}")))?;
    text.parse().map_err(|error| invalid(format!("{error}")))
}

/// Reads a file's text, but at most one byte more than a schema may have: enough for `parse` to reject its size.
fn read_text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(Schema::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
