//! Rows and columns.

use std::io::{self, Write};

use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::style::{Style, printable};
use crate::format::relative;

/// Between two columns.
const GAP: usize = 2;
/// No column is made narrower than this.
const NARROWEST: usize = 10;

/// A value, for a person and for a program.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    shown: String,
    exact: String,
    style: Style,
    is_number: bool,
}

impl Cell {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { shown: text.clone(), exact: text, style: Style::Plain, is_number: false }
    }

    pub(crate) fn optional(text: Option<impl Into<String>>) -> Self {
        text.map_or_else(|| Self::text(""), Self::text)
    }

    /// A value that is shown in another form than it is piped.
    pub(crate) fn shown_as(shown: impl Into<String>, exact: String) -> Self {
        Self { shown: shown.into(), ..Self::text(exact) }
    }

    pub(crate) fn number(number: impl Into<u64>) -> Self {
        Self { is_number: true, ..Self::text(number.into().to_string()) }
    }

    /// A point in time: relative on a terminal, else RFC 3339.
    pub(crate) fn time(time: Option<Timestamp>) -> Self {
        match time {
            Some(time) => Self::shown_as(relative(time), time.to_string()),
            None => Self::text(""),
        }
    }

    pub(crate) fn status(status: &str) -> Self {
        Self::text(status).styled(Style::of_status(status))
    }

    pub(crate) fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }

    /// In this style if the condition holds.
    pub(crate) fn styled_if(self, condition: bool, style: Style) -> Self {
        if condition { self.styled(style) } else { self }
    }
}

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Creates a table; without a header if that is empty.
    pub(crate) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One line for each row: cells separated by tabs, in which tabs and line breaks are spaces.
    pub(super) fn write_separated(&self, to: &mut dyn Write) -> io::Result<()> {
        for row in &self.rows {
            let cells = row.iter().map(|cell| cell.exact.replace(['\t', '\n', '\r'], " "));
            writeln!(to, "{}", cells.collect::<Vec<_>>().join("\t"))?;
        }
        Ok(())
    }

    /// Columns in the width of a terminal: the last one is cut if they do not fit.
    pub(super) fn write_aligned(
        &self,
        to: &mut dyn Write,
        width: usize,
        has_colour: bool,
    ) -> io::Result<()> {
        let widths = self.widths(width);
        let is_number = |column: usize| {
            self.rows.iter().all(|row| row.get(column).is_some_and(|cell| cell.is_number))
        };
        let header = self.header.iter().enumerate().map(|(at, name)| Cell {
            is_number: !self.rows.is_empty() && is_number(at),
            ..Cell::text(*name).styled(Style::Bold)
        });
        if !self.header.is_empty() {
            write_row(to, &header.collect::<Vec<_>>(), &widths, has_colour)?;
        }
        self.rows.iter().try_for_each(|row| write_row(to, row, &widths, has_colour))
    }

    fn widths(&self, available: usize) -> Vec<usize> {
        let mut widths: Vec<_> = self.header.iter().map(|name| name.width()).collect();
        widths.resize(self.rows.iter().map(Vec::len).chain([widths.len()]).max().unwrap_or(0), 0);
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(printable(&cell.shown).width());
            }
        }
        let total = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        if let Some(last) = widths.last_mut() {
            *last =
                (*last).min(last.saturating_sub(total.saturating_sub(available)).max(NARROWEST));
        }
        widths
    }
}

fn write_row(
    to: &mut dyn Write,
    row: &[Cell],
    widths: &[usize],
    has_colour: bool,
) -> io::Result<()> {
    let mut line = String::new();
    for (at, (cell, &width)) in row.iter().zip(widths).enumerate() {
        let text = cut(&printable(&cell.shown), width);
        let padding = " ".repeat(width.saturating_sub(text.width()));
        let painted = cell.style.paint(&text, has_colour);
        if at > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        match (cell.is_number, at + 1 == row.len()) {
            (true, _) => line = line + &padding + &painted,
            (false, false) => line = line + &painted + &padding,
            (false, true) => line += &painted,
        }
    }
    writeln!(to, "{}", line.trim_end())
}

/// The beginning of a text in this many columns.
pub(super) fn cut(text: &str, width: usize) -> String {
    let text = text.replace('\t', " ");
    if text.width() <= width {
        return text;
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let start: String = text.chars().take_while(fits).collect();
    start + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "JOBS", "MESSAGE"]);
        table.row([Cell::text("text"), Cell::number(7_u32), Cell::text("a\tb\x1b[31m")]);
        let long = Cell::text("a long message that does not fit into the terminal");
        table.row([Cell::text("größer"), Cell::number(1234_u32), long]);
        table
    }

    fn aligned(width: usize, has_colour: bool) -> String {
        let mut text = Vec::new();
        table().write_aligned(&mut text, width, has_colour).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_terminal_gets_aligned_columns_that_fit() {
        insta::assert_snapshot!(aligned(40, false), @r"
        NAME    JOBS  MESSAGE
        text       7  a b�[31m
        größer  1234  a long message that does …
        ");
        assert!(aligned(40, true).starts_with("\x1b[1mNAME\x1b[0m "));
    }

    #[test]
    fn a_pipe_gets_one_line_for_each_row_without_header() {
        let mut text = Vec::new();
        table().write_separated(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().next(), Some("text\t7\ta b\x1b[31m"));
        assert_eq!(text.lines().count(), 2);
    }
}
