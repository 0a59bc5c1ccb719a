//! Splits what a child writes into messages: a line of JSON each, and the bytes of its body.
//!
//! Bounded whatever arrives: a line has a limit, and so has a body, by what it belongs to; the bytes of a longer body
//! are counted and dropped.

use bytes::{Buf, Bytes, BytesMut};

use super::message::{FromChild, Invalid};
use crate::quote::beginning;

/// The longest line of a child, with its line feed: much more than an error with the longest message that is kept.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024;
/// The least and the most that is read at once.
const READ_BYTES: usize = 16 * 1024;
const MOST_READ_BYTES: usize = 1024 * 1024;
/// How much of a body that is too long is kept, to quote it.
const QUOTED_BYTES: usize = 64;

/// A message with its body.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) message: FromChild,
    pub(crate) body: Body,
}

/// The body of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Bytes(Bytes),
    /// It was longer than its limit; its first bytes.
    TooLong(Bytes),
}

/// What was read and is not complete.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Append what was read here, then call [`Decoder::next`] until it returns `None`.
    pub(crate) buffer: BytesMut,
    /// How many bytes of `buffer` contain no line feed.
    searched: usize,
    pending: Option<Pending>,
}

/// A message whose body is being read.
#[derive(Debug)]
struct Pending {
    message: FromChild,
    left: u64,
    /// The first bytes, if the body is too long.
    dropped: Option<BytesMut>,
}

impl Decoder {
    /// Returns the next message, if it is complete. `limit` returns the longest body that a message may have.
    ///
    /// # Errors
    /// If what was read is no message. Nothing can be read after it.
    pub(crate) fn next(
        &mut self,
        limit: impl Fn(&FromChild) -> usize,
    ) -> Result<Option<Frame>, Invalid> {
        if self.pending.is_none() {
            let Some(line) = self.line()? else { return Ok(None) };
            let (message, body) = FromChild::parse(&line)?;
            let Some(left) = body else { return Ok(Some(Frame { message, body: Body::None })) };
            let is_too_long = usize::try_from(left).map_or(true, |left| left > limit(&message));
            let dropped = is_too_long.then(BytesMut::new);
            self.pending = Some(Pending { message, left, dropped });
        }
        Ok(self.body())
    }

    /// Makes room for the next read: for as much of a body as is left, within reason, since a child may declare any
    /// length.
    pub(crate) fn make_room(&mut self) {
        let left = self.pending.as_ref().map_or(0, |pending| pending.left);
        let left = usize::try_from(left).unwrap_or(usize::MAX).saturating_sub(self.buffer.len());
        self.buffer.reserve(left.clamp(READ_BYTES, MOST_READ_BYTES));
    }

    /// Returns whether something was read that is not a complete message.
    pub(crate) fn is_amid(&self) -> bool {
        self.pending.is_some() || !self.buffer.is_empty()
    }

    /// Returns the first bytes of what is not complete, to quote them.
    pub(crate) fn rest(&self) -> String {
        beginning(&self.buffer)
    }

    fn line(&mut self) -> Result<Option<Bytes>, Invalid> {
        let found = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
        let length = found.map_or(self.buffer.len(), |at| self.searched + at);
        if length >= MAX_LINE_BYTES {
            let why = format!("a line of more than {MAX_LINE_BYTES} bytes");
            return Err(Invalid::new(why, &self.buffer));
        }
        self.searched = if found.is_some() { 0 } else { length };
        Ok(found.map(|_| {
            let line = self.buffer.split_to(length).freeze();
            self.buffer.advance(1);
            line
        }))
    }

    fn body(&mut self) -> Option<Frame> {
        let mut pending = self.pending.take()?;
        let body = match &mut pending.dropped {
            None => match usize::try_from(pending.left) {
                Ok(left) if left <= self.buffer.len() => {
                    Body::Bytes(self.buffer.split_to(left).freeze())
                }
                Ok(_) | Err(_) => {
                    self.pending = Some(pending);
                    return None;
                }
            },
            Some(first) => {
                let here = self.buffer.len();
                let here = usize::try_from(pending.left).map_or(here, |left| left.min(here));
                let quoted = here.min(QUOTED_BYTES - first.len().min(QUOTED_BYTES));
                first.extend_from_slice(&self.buffer[..quoted]);
                self.buffer.advance(here);
                pending.left -= here as u64;
                if pending.left > 0 {
                    self.pending = Some(pending);
                    return None;
                }
                Body::TooLong(first.split().freeze())
            }
        };
        Some(Frame { message: pending.message, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads everything, in pieces of that size.
    fn read(stream: &[u8], piece: usize) -> Result<Vec<(FromChild, Body)>, Invalid> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for piece in stream.chunks(piece) {
            decoder.buffer.extend_from_slice(piece);
            while let Some(Frame { message, body }) = decoder.next(|_| 100)? {
                frames.push((message, body));
            }
        }
        Ok(frames)
    }

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        let long = "x".repeat(1000);
        let stream = format!(
            "{{\"type\":\"pong\"}}\n{{\"type\":\"later\",\"body\":3}}\n\n\n\n{{\"type\":\"later\",\"body\":1000}}\n{long}\
             {{\"type\":\"bye\",\"body\":0}}\n{{\"type\":\"pong\"}}\r\n"
        );
        let whole = read(stream.as_bytes(), usize::MAX).unwrap();
        let bodies: Vec<_> = whole.iter().map(|(_, body)| body.clone()).collect();
        let beginning = Bytes::copy_from_slice(&[b'x'; QUOTED_BYTES]);
        assert_eq!(
            bodies,
            [
                Body::None,
                Body::Bytes(Bytes::from_static(b"\n\n\n")),
                Body::TooLong(beginning),
                Body::Bytes(Bytes::new()),
                Body::None
            ]
        );
        for piece in [1, 2, 3, 7, 64] {
            assert_eq!(read(stream.as_bytes(), piece).unwrap(), whole, "{piece}");
        }
    }

    #[test]
    fn what_is_no_message_is_quoted() {
        let cases: [(&[u8], &str); 6] = [
            (b"hello\n", "hello"),
            (b"\n", "empty"),
            (b"{\"type\":\"done\"\0}\n", "\\0"),
            (b"[\"pong\"]\n", "object"),
            (b"{\"type\":\"\xff\"}\n", "UTF-8"),
            (b"{\"body\":3}\n", "type"),
        ];
        for (stream, why) in cases {
            let error = read(stream, 3).unwrap_err().to_string();
            assert!(error.contains(why), "{}: {error}", String::from_utf8_lossy(stream));
        }
        assert!(read(&[b'x'; MAX_LINE_BYTES + 1], 1000).is_err());
    }

    #[test]
    fn a_body_of_any_declared_length_takes_little_memory() {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(b"{\"type\":\"later\",\"body\":18446744073709551615}\n");
        for _ in 0..1000 {
            decoder.buffer.extend_from_slice(&[0; 1000]);
            assert!(decoder.next(|_| 100).unwrap().is_none());
            assert!(decoder.buffer.is_empty());
        }
    }
}
