//! A line of small bars: how a number changed, in one cell of a table.

/// From the lowest to the highest number that is not zero.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ZERO: char = '·';
const UNKNOWN: char = ' ';

/// Draws numbers, the largest as a full bar; `None` is a gap.
pub(crate) fn line(values: &[Option<u64>]) -> String {
    let largest = values.iter().flatten().copied().max().unwrap_or(0);
    let last = BARS.len() as u64 - 1;
    let bar = |value: u64| {
        // Rounded, without an overflow for any number.
        let at = (u128::from(value) * u128::from(last) * 2 + u128::from(largest))
            / (u128::from(largest) * 2).max(1);
        BARS[usize::try_from(at).map_or(0, |at| at.min(BARS.len() - 1))]
    };
    let char = |value: &Option<u64>| match value {
        None => UNKNOWN,
        Some(0) => ZERO,
        Some(value) => bar(*value),
    };
    values.iter().map(char).collect()
}

/// Merges neighbors, so that at most `width` numbers are left.
pub(crate) fn merged(
    values: &[Option<u64>],
    width: usize,
    merge: fn(u64, u64) -> u64,
) -> Vec<Option<u64>> {
    let group = values.len().div_ceil(width.max(1)).max(1);
    let merge = |group: &[Option<u64>]| group.iter().flatten().copied().reduce(merge);
    values.chunks(group).map(merge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_number_is_a_full_bar_and_zero_is_none() {
        let values = [None, Some(0), Some(1), Some(50), Some(100)];
        assert_eq!(line(&values), " ·▁▅█");
        assert_eq!(line(&[Some(0), Some(0)]), "··");
        assert_eq!(line(&[Some(u64::MAX), Some(1)]), "█▁");
        assert_eq!(line(&[]), "");
    }

    #[test]
    fn neighbors_are_merged_to_a_width() {
        let values = [Some(1), None, Some(3), None, None, None, Some(7)];
        let sum = |width| merged(&values, width, |a, b| a + b);
        assert_eq!(sum(4), [Some(1), Some(3), None, Some(7)]);
        assert_eq!(sum(100), values);
        assert_eq!(merged(&values, 2, u64::max), [Some(3), Some(7)]);
        assert_eq!(sum(0), [Some(11)]);
    }
}
