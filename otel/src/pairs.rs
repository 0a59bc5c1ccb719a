//! Lists of names and values, as the variables of OpenTelemetry spell them: `key=value,key2=value2`, percent-encoded.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// A list of names with a value each; never shown, because headers have secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl FromStr for Pairs {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "expected key=value, separated by commas, with special characters percent-encoded";
        let pair = |item: &str| {
            let (name, value) = item.split_once('=')?;
            let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
            let name = name.trim();
            (!name.is_empty()).then(|| (name.to_owned(), value.into_owned()))
        };
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(|item| pair(item).ok_or(EXPECTED)).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_separated_by_commas_and_percent_encoded() {
        let pairs: Pairs = " a=1, b = x%2Cy%20z%3D ,".parse().unwrap();
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "x,y z=")]);
        assert_eq!("a==".parse::<Pairs>().unwrap().iter().next(), Some(("a", "=")));
        for bad in ["a", "=1", "a=%ff", "a=1,b"] {
            assert!(bad.parse::<Pairs>().is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_not_shown() {
        let pairs: Pairs = "authorization=Bearer%20secret".parse().unwrap();
        assert_eq!(format!("{pairs:?}"), "[\"authorization\"]");
    }
}
