//! The header `tracestate` (W3C Trace Context, section 3.3): a list of what tracing systems added.

/// A longer header need not be propagated (section 3.3.1.5).
const MAX_BYTES: usize = 512;
/// Members above this size are dropped first when the header is too long.
const MAX_MEMBER_BYTES: usize = 128;
/// How many members a list may have; with more the header is invalid.
const MAX_MEMBERS: usize = 32;

/// Returns the header as it is propagated: several headers in one, without empty members and without the spaces around
/// members. `None` if nothing is left, or if any member is invalid. Of members with the same key all are kept: which of
/// them counts is for their system to decide.
pub(super) fn read(text: &str) -> Option<String> {
    let members: Vec<_> = text
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
        .collect();
    if members.len() > MAX_MEMBERS || !members.iter().all(|member| is_member(member)) {
        return None;
    }
    let members = shortened(members);
    (!members.is_empty()).then(|| members.join(","))
}

/// Drops whole members until the header is short enough: long ones first, then the last ones.
fn shortened(mut members: Vec<&str>) -> Vec<&str> {
    let size = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    // One comma less than there are members.
    let is_too_long = |members: &[&str]| size(members) > MAX_BYTES + 1;
    while is_too_long(&members) {
        let long = members.iter().rposition(|member| member.len() > MAX_MEMBER_BYTES);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    members
}

fn is_member(member: &str) -> bool {
    member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
}

/// `name`, or `tenant@system`.
fn is_key(key: &str) -> bool {
    match key.split_once('@') {
        None => is_name(key, 256) && !starts_with_digit(key),
        Some((tenant, system)) => {
            is_name(tenant, 241) && is_name(system, 14) && !starts_with_digit(system)
        }
    }
}

fn is_name(text: &str, longest: usize) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=longest).contains(&text.len())
        && text.bytes().next().is_some_and(is_plain)
        && text.bytes().all(|byte| is_plain(byte) || b"_-*/".contains(&byte))
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// Printable text without `,` and `=`. A trailing space was dropped as one around the member.
fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b',' && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    // Which members are valid is tested through the whole queue: `tests/it/traces/headers.rs`.

    #[test]
    fn a_header_that_is_too_long_loses_long_members_and_then_the_last_ones() {
        let member = |key: &str, bytes: usize| format!("{key}={}", "v".repeat(bytes - 2));
        let (long, short) = (member("l", 200), member("s", 100));
        let together = |members: &[&str]| members.join(",");
        let exact = together(&[&member("a", 256), &member("b", 255)]);
        assert_eq!((exact.len(), read(&exact)), (512, Some(exact.clone())));
        let one_more = together(&[&member("a", 256), &member("b", 256)]);
        assert_eq!(read(&one_more), Some(member("a", 256)));
        let mixed = together(&[&short, &long, &short, &short, &short]);
        assert_eq!(read(&mixed), Some(together(&[&short, &short, &short, &short])));
        let many = together(&[&short, &short, &short, &short, &short, &short]);
        assert_eq!(read(&many), Some(together(&[&short, &short, &short, &short, &short])));
    }
}
