//! Just enough of the Redis protocol, versions 2 and 3, to find where a command or a reply ends, and the verb of a
//! command.
//!
//! It decodes nothing, and checks only the boundaries.

use std::num::ParseIntError;

use bytes::Bytes;

/// Bytes that are not valid in the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotResp;

impl From<ParseIntError> for NotResp {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

/// Returns the length of the first complete value in `bytes`; `None` if it is incomplete.
pub(super) fn first_value(bytes: &[u8]) -> Result<Option<usize>, NotResp> {
    let mut at = 0;
    // A loop, not a recursion: aggregates only add to the number of values that remain.
    let mut remaining = 1;
    while remaining > 0 {
        let Some(line) = line_at(bytes, at) else { return Ok(None) };
        let (kind, rest) = line.split_first().ok_or(NotResp)?;
        at += line.len() + 2;
        remaining -= 1;
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            b'$' | b'!' | b'=' => at += length(rest)?.map_or(0, |length| length + 2),
            b'*' | b'~' | b'>' => remaining += length(rest)?.unwrap_or(0),
            b'%' => remaining += 2 * length(rest)?.unwrap_or(0),
            // Attributes come before the value they belong to.
            b'|' => remaining += 2 * length(rest)?.unwrap_or(0) + 1,
            _ => return Err(NotResp),
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// Returns the verb of a complete command: that of one of our functions, or the name of the command in lower case.
pub(super) fn verb_of(command: &[u8]) -> String {
    let mut words = words_of(command);
    let name = String::from_utf8_lossy(words.next().unwrap_or_default()).to_ascii_lowercase();
    if name != "fcall" {
        return name;
    }
    let function = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
    // crunch_<hash>_<verb>
    function.splitn(3, '_').nth(2).map_or(name, str::to_owned)
}

/// Replaces ports, which are numbers of a reply.
pub(super) fn with_ports(reply: Bytes, ports: &[(u16, u16)]) -> Bytes {
    let Ok(text) = std::str::from_utf8(&reply) else { return reply };
    let line = |line: &str| {
        let number = line.strip_prefix(':').and_then(|number| number.parse::<u16>().ok());
        let replaced = ports.iter().find(|(port, _)| Some(*port) == number);
        replaced.map_or_else(|| line.to_owned(), |(_, port)| format!(":{port}"))
    };
    text.split("\r\n").map(line).collect::<Vec<_>>().join("\r\n").into()
}

/// Returns the strings of a command.
fn words_of(command: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = line_at(command, 0).map_or(command.len(), |line| line.len() + 2);
    std::iter::from_fn(move || {
        let line = line_at(command, at)?;
        let length = length(line.strip_prefix(b"$")?).ok()??;
        let start = at + line.len() + 2;
        at = start + length + 2;
        command.get(start..start + length)
    })
}

/// Returns the line that begins at `at`, without its line break.
fn line_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some(&rest[..end])
}

/// Parses a length; `None` is the null value of version 2.
fn length(digits: &[u8]) -> Result<Option<usize>, NotResp> {
    let text = std::str::from_utf8(digits).map_err(|_| NotResp)?;
    if text == "-1" { Ok(None) } else { Ok(Some(text.parse()?)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_value_is_exact_and_an_incomplete_value_has_none() {
        let values: [&[u8]; 12] = [
            b"+OK\r\n",
            b"-ERR no\r\n",
            b":12\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"$4\r\na\r\nb\r\n",
            b"*3\r\n:1\r\n$2\r\n*9\r\n*1\r\n+x\r\n",
            b"%1\r\n+a\r\n_\r\n",
            b"~2\r\n#t\r\n,1.5\r\n",
            b">2\r\n+message\r\n$0\r\n\r\n",
            b"|1\r\n+a\r\n:1\r\n*0\r\n",
            b"=5\r\ntxt:a\r\n",
        ];
        for value in values {
            let mut bytes = value.to_vec();
            bytes.extend_from_slice(b"+next\r\n");
            assert_eq!(first_value(&bytes), Ok(Some(value.len())), "{value:?}");
            for short in 0..value.len() {
                assert_eq!(first_value(&value[..short]), Ok(None), "{short} of {value:?}");
            }
        }
    }

    #[test]
    fn bytes_outside_the_protocol_are_an_error() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"$x\r\n", b"*-2\r\n", b"\r\n"] {
            assert_eq!(first_value(bytes), Err(NotResp), "{bytes:?}");
        }
    }

    #[test]
    fn ports_are_replaced_where_they_are_numbers() {
        let reply = "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:7000\r\n$4\r\n7000\r\n";
        let replaced = with_ports(reply.into(), &[(7000, 65000), (7001, 7000)]);
        assert_eq!(replaced, reply.replace(":7000", ":65000"));
    }

    #[test]
    fn the_verb_of_a_command_is_its_name_or_that_of_our_function() {
        let call = b"*3\r\n$5\r\nFCALL\r\n$24\r\ncrunch_1f3a90bc_exchange\r\n$1\r\n1\r\n";
        assert_eq!(verb_of(call), "exchange");
        assert_eq!(verb_of(b"*2\r\n$5\r\nBLPOP\r\n$1\r\nk\r\n"), "blpop");
        assert_eq!(verb_of(b"*2\r\n$5\r\nFCALL\r\n$5\r\nother\r\n"), "fcall");
    }
}
