//! Messages on standard error: what happened, and what to do.

use std::io::{self, IsTerminal, Write};

use super::style::{Style, printable};
use crate::error::Error;

fn paint(style: Style, text: &str) -> String {
    let has_colour = io::stderr().is_terminal() && super::has_colour();
    style.paint(text, has_colour).into_owned()
}

/// Standard error may be closed: then there is nobody to read the message.
fn print(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints an error: one line what, one line what to do.
pub(crate) fn error(error: &Error) {
    let what = error.to_string().replace('\n', " ");
    print(&format!("{} {}", paint(Style::Bad, "crunch:"), printable(&what)));
    print(&format!("  {}", printable(&error.remedy())));
}

/// Prints a message that is no error.
pub(crate) fn note(text: &str) {
    print(&format!("{} {}", paint(Style::Dim, "crunch:"), printable(&text.replace('\n', " "))));
}

/// Prints a message only for a person at a terminal.
pub(crate) fn hint(text: &str) {
    if io::stderr().is_terminal() {
        note(text);
    }
}
