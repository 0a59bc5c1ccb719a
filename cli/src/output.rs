//! Standard output: tables for a person at a terminal, tab-separated lines for a pipe, and with `--json` the API's own
//! documents.

pub(crate) mod bar;
pub(crate) mod log;
mod pipe;
pub(crate) mod spark;
mod style;
mod table;

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;
use serde_json::value::RawValue;

pub(crate) use self::style::{Style, is_text, printable};
pub(crate) use self::table::{Cell, Table};

use self::pipe::Detachable;
use self::style::escaped;
use crate::config::variable;

/// Where a command's results go.
pub(crate) struct Output {
    writer: Box<dyn Write>,
    /// Documents instead of tables.
    pub(crate) json: bool,
    /// A person reads it.
    pub(crate) is_terminal: bool,
    has_colour: bool,
    /// Columns of the terminal.
    width: usize,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("json", &self.json).finish_non_exhaustive()
    }
}

/// The width of a terminal that does not say it.
const DEFAULT_WIDTH: usize = 80;

impl Output {
    /// The output of this process. A command that acts goes on if its reader has gone.
    pub(crate) fn of_process(json: bool, acts: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Self {
            writer: Box::new(BufWriter::new(Detachable::new(io::stdout(), acts))),
            json,
            is_terminal,
            has_colour: is_terminal && has_colour(),
            width: width.unwrap_or(DEFAULT_WIDTH),
        }
    }

    /// Writes a document of the API as one line: byte by byte, except for what would control a terminal.
    pub(crate) fn document(&mut self, document: &RawValue) -> io::Result<()> {
        // The API writes no line breaks; those of a proxy that does would end the document.
        let text = document.get();
        if text.contains('\n') {
            let value: serde_json::Value = serde_json::from_str(text)?;
            return self.json_line(&value.to_string());
        }
        self.json_line(text)
    }

    /// Writes a document of this program as one line.
    pub(crate) fn own_document(&mut self, document: &impl Serialize) -> io::Result<()> {
        self.json_line(&serde_json::to_string(document)?)
    }

    fn json_line(&mut self, text: &str) -> io::Result<()> {
        if self.is_terminal {
            writeln!(self.writer, "{}", escaped(text))
        } else {
            writeln!(self.writer, "{text}")
        }
    }

    /// Writes a table: aligned and with a header on a terminal, else tab-separated and without.
    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        if self.is_terminal {
            table.write_aligned(&mut self.writer, self.width, self.has_colour)
        } else {
            table.write_separated(&mut self.writer)
        }
    }

    /// Writes a table whose last column is not cut: a terminal wraps it.
    pub(crate) fn whole_table(&mut self, table: &Table) -> io::Result<()> {
        if self.is_terminal {
            table.write_aligned(&mut self.writer, usize::MAX, self.has_colour)
        } else {
            table.write_separated(&mut self.writer)
        }
    }

    /// Writes a line; on a terminal without characters that control it.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        if self.is_terminal {
            writeln!(self.writer, "{}", printable(text))
        } else {
            writeln!(self.writer, "{text}")
        }
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Whether colours are not turned off (no-color.org).
pub(crate) fn has_colour() -> bool {
    variable("NO_COLOR").is_none() && variable("TERM").as_deref() != Some("dumb")
}
