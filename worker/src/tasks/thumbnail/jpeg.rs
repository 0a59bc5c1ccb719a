//! Whether a JPEG file was received whole (ITU-T T.81, annex B). Looks at markers only; decodes nothing.

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
/// TEM and RST0 to RST7: markers without a length, beside those of start and end.
const STANDALONE: [std::ops::RangeInclusive<u8>; 2] = [0x01..=0x01, 0xD0..=0xD7];

/// Whether the file's own end marker is there: not one of a preview inside a segment, nor one in what follows the image.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some((marker, after)) = next_marker(rest) {
        rest = match marker {
            END_OF_IMAGE => return true,
            START_OF_IMAGE => after,
            marker if STANDALONE.iter().any(|range| range.contains(&marker)) => after,
            _ => match skip_segment(after) {
                Some(behind) => behind,
                None => return false,
            },
        };
    }
    false
}

/// The next marker and what follows it. Compressed data writes 0xFF as 0xFF 0x00, and any number of 0xFF may fill up before
/// a marker.
fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let at =
        bytes.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF))?;
    Some((bytes[at + 1], &bytes[at + 2..]))
}

/// What follows a segment; its length counts its own two bytes.
fn skip_segment(bytes: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes(*bytes.first_chunk()?);
    bytes.get(usize::from(length.max(2))..)
}
