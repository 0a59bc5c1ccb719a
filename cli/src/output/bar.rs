//! A line on standard error that shows how far something is; only on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::style::printable;
use super::table::cut;

/// How many columns the bar itself has.
const WIDTH: usize = 25;
/// A person reads no faster.
const INTERVAL: Duration = Duration::from_millis(100);

/// A line that is drawn again and again.
#[derive(Debug)]
pub(crate) struct Bar {
    is_shown: bool,
    columns: usize,
    drawn: Option<Instant>,
}

impl Bar {
    pub(crate) fn new() -> Self {
        let is_shown = io::stderr().is_terminal();
        let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        Self { is_shown, columns: if columns == 0 { 80 } else { columns }, drawn: None }
    }

    /// Shows a part of 1 and a text.
    pub(crate) fn show(&mut self, part: f64, text: &str) {
        self.draw(&line(part, text));
    }

    /// Shows a count that changes often, if how much there is in all is not known.
    pub(crate) fn show_count(&mut self, text: &str) {
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= INTERVAL) {
            self.draw(text);
        }
    }

    fn draw(&mut self, text: &str) {
        if !self.is_shown {
            return;
        }
        self.drawn = Some(Instant::now());
        let line = cut(&printable(text), self.columns.saturating_sub(1));
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "\r\x1b[K{line}");
        let _ = stderr.flush();
    }

    /// Removes the line.
    pub(crate) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[K");
            let _ = stderr.flush();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of 1 times a small number"
)]
fn line(part: f64, text: &str) -> String {
    let part = part.clamp(0.0, 1.0);
    let done = (part * WIDTH as f64) as usize;
    let bar = "#".repeat(done) + &"-".repeat(WIDTH - done);
    format!("[{bar}] {:3} %  {text}", (part * 100.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_the_part_that_is_done() {
        assert_eq!(
            line(0.4, "running"),
            format!("[{}{}]  40 %  running", "#".repeat(10), "-".repeat(15))
        );
        assert!(line(7.0, "").starts_with(&format!("[{}] 100 %", "#".repeat(25))));
        assert!(line(f64::NAN, "").contains("  0 %"));
    }
}
