//! Finds the heads of requests in the bytes of a connection, and overwrites the options in them that are to be ignored.
//!
//! Implements RFC 9112 as far as lengths and chunks are concerned. It never decides what a request is: the HTTP library
//! reads the same bytes and decides. Where the framing is unclear, all following bytes are passed on unchanged.

/// Longer lines are passed on without parsing: no `Connection` or `Content-Length` is this long.
const LONGEST_LINE: usize = 4 * 1024;

/// Replaces what is ignored; as long as `upgrade`, so that no other bytes move.
const IGNORED: &[u8] = b"ignored";

/// The position in the requests of a connection.
#[derive(Debug)]
pub(super) struct Framing {
    place: Place,
    /// How the body after the current head is delimited.
    body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first line of a head.
    Between,
    /// At the start of a further line of a head.
    Head,
    /// In a line of a head that is too long to be parsed.
    LongLine,
    /// Before this many bytes of a body.
    Length(u64),
    /// At the line with the size of a chunk.
    ChunkSize,
    /// Before this many bytes of a chunk.
    Chunk(u64),
    /// At the line break after a chunk.
    ChunkEnd,
    /// At a line after the last chunk.
    Trailer,
    /// The position of the next head is unknown.
    Opaque,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunks,
    Unclear,
}

impl Framing {
    pub(super) const fn new() -> Self {
        Self { place: Place::Between, body: Body::Length(0) }
    }

    /// Whether the next bytes are the head of another request.
    pub(super) fn is_between(&self) -> bool {
        self.place == Place::Between
    }

    /// Whether the next bytes belong to a head that has begun.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.place, Place::Head | Place::LongLine)
    }

    /// How many bytes may be passed on without parsing.
    pub(super) fn plain(&self) -> u64 {
        match self.place {
            Place::Length(left) | Place::Chunk(left) => left,
            Place::Opaque => u64::MAX,
            _ => 0,
        }
    }

    /// Records that `bytes` of [`Framing::plain`] were passed on.
    pub(super) fn pass(&mut self, bytes: u64) {
        self.place = match self.place {
            Place::Length(left) if left > bytes => Place::Length(left - bytes),
            Place::Length(_) => Place::Between,
            Place::Chunk(left) if left > bytes => Place::Chunk(left - bytes),
            Place::Chunk(_) => Place::ChunkEnd,
            place => place,
        };
    }

    /// Parses the start of `bytes`, which follow those of the previous calls; returns how many of them may be passed
    /// on, at most to the end of a line or a body. 0: the rest of a line must arrive first.
    pub(super) fn follow(&mut self, bytes: &mut [u8]) -> usize {
        let plain = self.plain();
        if plain > 0 {
            let some = usize::try_from(plain).unwrap_or(usize::MAX).min(bytes.len());
            self.pass(some as u64);
            return some;
        }
        match bytes.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                self.line(&mut bytes[..end]);
                end + 1
            }
            None if bytes.len() >= LONGEST_LINE => {
                self.place = match self.place {
                    Place::Between | Place::Head | Place::LongLine => Place::LongLine,
                    _ => Place::Opaque,
                };
                bytes.len()
            }
            None => 0,
        }
    }

    /// Parses a whole line, without its line feed.
    fn line(&mut self, line: &mut [u8]) {
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        self.place = match self.place {
            // Empty lines before a request are skipped (RFC 9112, section 2.2).
            Place::Between if text.is_empty() => Place::Between,
            Place::Between => {
                // The bytes after a CONNECT are not HTTP.
                let tunnel = text.starts_with(b"CONNECT ");
                self.body = if tunnel { Body::Unclear } else { Body::Length(0) };
                Place::Head
            }
            Place::Head if text.is_empty() => match self.body {
                Body::Length(0) => Place::Between,
                Body::Length(length) => Place::Length(length),
                Body::Chunks => Place::ChunkSize,
                Body::Unclear => Place::Opaque,
            },
            Place::Head => {
                self.field(line);
                Place::Head
            }
            Place::LongLine => Place::Head,
            Place::ChunkSize => match chunk_size(text) {
                Some(0) => Place::Trailer,
                Some(size) => Place::Chunk(size),
                None => Place::Opaque,
            },
            Place::ChunkEnd if text.is_empty() => Place::ChunkSize,
            Place::Trailer if text.is_empty() => Place::Between,
            Place::Trailer => Place::Trailer,
            Place::ChunkEnd | Place::Length(_) | Place::Chunk(_) | Place::Opaque => Place::Opaque,
        };
    }

    /// Records how a field delimits the body, and overwrites an offer of another protocol (RFC 9110, section 7.8): the
    /// library would treat it as a request to leave HTTP, and close the connection after the answer.
    fn field(&mut self, line: &mut [u8]) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = line.split_at_mut(colon);
        let value = &mut value[1..];
        if name.eq_ignore_ascii_case(b"connection") {
            value.split_mut(|&byte| byte == b',').for_each(ignore_upgrade);
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            name.copy_from_slice(IGNORED);
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            self.delimit(length.map_or(Body::Unclear, Body::Length));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            self.delimit(if chunked { Body::Chunks } else { Body::Unclear });
        }
    }

    /// A body that is delimited twice is left to the library to reject.
    fn delimit(&mut self, body: Body) {
        self.body = if self.body == Body::Length(0) { body } else { Body::Unclear };
    }
}

fn ignore_upgrade(option: &mut [u8]) {
    let start = option.len() - option.trim_ascii_start().len();
    let end = option.trim_ascii_end().len().max(start);
    let option = &mut option[start..end];
    if option.eq_ignore_ascii_case(b"upgrade") {
        option.copy_from_slice(IGNORED);
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&byte| byte == b';').next()?.trim_ascii();
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is passed on if the bytes arrive in pieces of this size, with `|` before each head.
    fn passed(text: &str, piece: usize) -> String {
        let (mut framing, mut buffered, mut passed) = (Framing::new(), Vec::new(), Vec::new());
        for bytes in text.as_bytes().chunks(piece) {
            buffered.extend_from_slice(bytes);
            while !buffered.is_empty() {
                let between = framing.is_between();
                match framing.follow(&mut buffered) {
                    0 => break,
                    some => {
                        passed.extend(between.then_some(b'|'));
                        passed.extend(buffered.drain(..some));
                    }
                }
            }
        }
        passed.extend(buffered);
        String::from_utf8(passed).unwrap()
    }

    fn in_any_pieces(text: &str, expected: &str) {
        for piece in 1..=text.len() {
            assert_eq!(passed(text, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn offers_of_other_protocols_are_ignored_and_nothing_else_changes() {
        in_any_pieces(
            "GET /upgrade HTTP/1.1\r\nconnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             Connection:keep-alive ,\tUPGRADE\r\nX: upgrade\r\nConnection:\r\n\r\n",
            "|GET /upgrade HTTP/1.1\r\nconnection: ignored, HTTP2-Settings\r\nignored: h2c\r\n\
             Connection:keep-alive ,\tignored\r\nX: upgrade\r\nConnection:\r\n\r\n",
        );
    }

    #[test]
    fn bodies_are_left_alone_and_the_next_head_is_found() {
        let fake = "Upgrade: a\r\n\r\n";
        in_any_pieces(
            &format!("POST / HTTP/1.1\r\ncontent-length: 14\r\n\r\n{fake}\r\nGET / HTTP/1.0\n\n"),
            &format!(
                "|POST / HTTP/1.1\r\ncontent-length: 14\r\n\r\n{fake}|\r\n|GET / HTTP/1.0\n\n"
            ),
        );
        let chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n\
             e;x=y\r\nUpgrade: a\r\n\r\n\r\n00\r\nUpgrade: b\r\n\r\n";
        in_any_pieces(
            &format!("{chunks}GET / HTTP/1.1\r\nUpgrade: c\r\n\r\n"),
            &format!("|{chunks}|GET / HTTP/1.1\r\nignored: c\r\n\r\n"),
        );
    }

    #[test]
    fn what_is_not_plain_is_passed_on_as_it_is() {
        for head in [
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naab\r\n",
        ] {
            let text = format!("{head}GET / HTTP/1.1\r\nUpgrade: a\r\n\r\n");
            in_any_pieces(&text, &format!("|{text}"));
        }
    }

    #[test]
    fn a_line_that_is_too_long_does_not_hide_the_next_one() {
        let long = "a".repeat(3 * LONGEST_LINE);
        let head = |name| format!("GET /{long} HTTP/1.1\r\nX: {long}\r\n{name}: h2c\r\n\r\n");
        for piece in [1, 7, LONGEST_LINE, 10 * LONGEST_LINE] {
            assert_eq!(passed(&head("Upgrade"), piece), format!("|{}", head("ignored")));
        }
    }
}
