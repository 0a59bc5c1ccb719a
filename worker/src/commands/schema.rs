//! A schema in a file of its own, named by `payload_schema` or `result_schema`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crunch_common::schema::Schema;

use super::problem::Mistake;
use super::setting::Setting;
use super::table::{self, Value, mistake};

/// Reads the file that a value names; its path starts at the folder of the file of tasks.
pub(super) fn read(value: &Value<'_>, setting: &Setting) -> Result<Schema, Mistake> {
    let path = setting.folder.join(table::text(value)?);
    let wrong = |what: String| mistake(value, format!("{}: {what}", path.display()));
    let text = text_of(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    text.parse().map_err(|error| wrong(format!("{error}")))
}

/// The file's text; of one that is too large no more than shows it.
fn text_of(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(Schema::MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
