//! A schema in a separate file, named by `payload_schema` or `result_schema`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crunch_common::schema::Schema;

use super::problem::Mistake;
use super::setting::Setting;
use super::table::{self, Value, mistake};

/// Reads the file that a value names; its path is relative to the directory of the tasks file.
pub(super) fn read(value: &Value<'_>, setting: &Setting) -> Result<Schema, Mistake> {
    let path = setting.folder.join(table::text(value)?);
    let invalid = |what: String| mistake(value, format!("{}: {what}", path.display()));
    let text = text_of(&path).map_err(|error| invalid(format!("cannot be read: {error}")))?;
    text.parse().map_err(|error| invalid(format!("{error}")))
}

/// Reads the file's text; of a file that is too large, one byte more than allowed.
fn text_of(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(Schema::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
