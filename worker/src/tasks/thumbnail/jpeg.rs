//! Checks whether a JPEG file is complete (ITU-T T.81, annex B). Reads markers only; decodes nothing.

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
/// TEM and RST0 to RST7: markers without a length, in addition to those of start and end.
const STANDALONE: [std::ops::RangeInclusive<u8>; 2] = [0x01..=0x01, 0xD0..=0xD7];

/// Whether the file has its own end marker: one of a preview inside a segment, or after the image, does not count.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((marker, after)) = next_marker(rest) {
        rest = match marker {
            END_OF_IMAGE => return true,
            START_OF_IMAGE => after,
            marker if STANDALONE.iter().any(|range| range.contains(&marker)) => after,
            _ => match skip_segment(after) {
                Some(after_segment) => after_segment,
                None => return false,
            },
        };
    }
    false
}

/// Returns the next marker and the bytes after it. Compressed data writes 0xFF as 0xFF 0x00, and any number of 0xFF may
/// pad a marker.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let at =
        bytes.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF))?;
    Some((bytes[at + 1], &bytes[at + 2..]))
}

/// Returns the bytes after a segment; its length includes its own two bytes.
fn skip_segment(bytes: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes(*bytes.first_chunk()?);
    bytes.get(usize::from(length.max(2))..)
}
