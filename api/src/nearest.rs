//! Finds the known name that a misspelled name probably means.

/// Longer texts are no misspelled names.
const LONGEST: usize = 64;

/// Returns the known name nearest to `name`, if no more than a third of its letters are wrong, or it begins with
/// `name`.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_by(name, known, |name| name)
}

/// As [`nearest`], but the part behind a dot, such as the label in `metadata.label`, may be anything.
pub(crate) fn nearest_stem<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    nearest_by(name, known, |name| name.split('.').next().unwrap_or(name))
}

fn nearest_by<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    compared: fn(&str) -> &str,
) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let name = compared(&name);
    let distances = known.into_iter().filter_map(|candidate| {
        let other = compared(candidate);
        let distance = strsim::damerau_levenshtein(name, other);
        let near = distance <= (other.chars().count() / 3).max(1);
        let begins = name.len() >= 3 && other.starts_with(name);
        (near || begins).then_some((distance, candidate))
    });
    distances.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_leads_to_what_was_meant_and_other_words_to_nothing() {
        let known = [
            "status",
            "task",
            "queue",
            "created_after",
            "created_before",
            "limit",
            "metadata.<key>",
        ];
        for (name, expected) in [
            ("limt", Some("limit")),
            ("LIMIT", Some("limit")),
            ("lim", Some("limit")),
            ("statuss", Some("status")),
            ("qeue", Some("queue")),
            ("tsak", Some("task")),
            ("create_before", Some("created_before")),
            ("metdata.customer", Some("metadata.<key>")),
            ("code", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest_stem(name, known), expected, "{name}");
        }
        assert_eq!(nearest_stem(&"limit".repeat(1000), known), None);
    }

    #[test]
    fn names_with_dots_are_compared_whole() {
        let known = ["primes.count", "primes.list"];
        assert_eq!(nearest("primes.lst", known), Some("primes.list"));
        assert_eq!(nearest("primes", known), Some("primes.list"));
        assert_eq!(nearest("words.count", known), None);
    }
}
