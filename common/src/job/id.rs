//! Ids that contain time, partition and randomness in a UUID of version 8.

use std::fmt;
use std::str::FromStr;

use uuid::{Builder, Uuid, Variant, Version};

use crate::time::Timestamp;

/// Maximum number of partitions; the 12 bits of an id could distinguish four times as many.
pub const PARTITIONS_MAX: u16 = 1024;

/// Number of a partition: a part of the key space that is on one Redis node. 0 to 1023 in a key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Partition(u16);

impl Partition {
    /// The partition with this number, or `None` from [`PARTITIONS_MAX`] on.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < PARTITIONS_MAX { Some(Self(number)) } else { None }
    }

    /// Number of the partition.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Id of a job; the client's *token*. A UUID of version 8 (RFC 9562, section 5.8):
///
/// ```text
/// bits   0..48   Unix time in milliseconds, by the clock of the API that created it
/// bits  48..52   version, 8
/// bits  52..64   partition
/// bits  64..66   variant, 0b10
/// bits  66..128  62 random bits, from a cryptographic generator that the operating system seeds
/// ```
///
/// Ids sort by time, cannot be guessed, and lead to their partition without a lookup table. The time is for display and
/// rough order only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(Uuid);

impl JobId {
    /// Creates a new id for a job in `partition`.
    #[must_use]
    pub fn generate(partition: Partition) -> Self {
        let random: [u8; 8] = rand::random();
        let time = Timestamp::now().unix_ms().to_be_bytes();
        let [high, low] = partition.0.to_be_bytes();
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&time[2..]);
        bytes[6..8].copy_from_slice(&[high, low]);
        bytes[8..].copy_from_slice(&random);
        Self(Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// Creates a new id, the first of a series of 65 536 in `partition`; see [`JobId::another`].
    #[must_use]
    pub fn first_of_many(partition: Partition) -> Self {
        Self::generate(partition).another(0)
    }

    /// The id with this number in the series of an id from [`JobId::first_of_many`], which has number 0.
    #[must_use]
    pub fn another(self, number: u16) -> Self {
        let mut bytes = self.0.into_bytes();
        bytes[14..].copy_from_slice(&number.to_be_bytes());
        Self(Uuid::from_bytes(bytes))
    }

    /// The id that is the same but for its partition.
    #[must_use]
    pub fn moved_to(self, partition: Partition) -> Self {
        let mut bytes = self.0.into_bytes();
        let [high, low] = partition.0.to_be_bytes();
        (bytes[6], bytes[7]) = (bytes[6] & 0xf0 | high, low);
        Self(Uuid::from_bytes(bytes))
    }

    /// The partition of the job.
    #[must_use]
    pub fn partition(self) -> Partition {
        let bytes = self.0.as_bytes();
        Partition(u16::from_be_bytes([bytes[6] & 0x0f, bytes[7]]))
    }

    /// When the id was created, by the clock of the API that created it.
    #[must_use]
    pub fn created_at(self) -> Timestamp {
        let time = self.0.as_bytes()[..6].iter().fold(0, |ms, &byte| ms << 8 | u64::from(byte));
        Timestamp::from_unix_ms(time)
    }
}

/// Text that is not a job id in its canonical form: 36 lowercase characters of a version 8 UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a job id")]
pub struct InvalidJobId;

impl FromStr for JobId {
    type Err = InvalidJobId;

    /// Accepts only the canonical form that [`JobId`] writes, so that one job has one URL and one key.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = Uuid::try_parse(text).map_err(|_| InvalidJobId)?;
        let is_version_8 =
            id.get_version() == Some(Version::Custom) && id.get_variant() == Variant::RFC4122;
        let mut buffer = Uuid::encode_buffer();
        let canonical = id.hyphenated().encode_lower(&mut buffer) == text;
        (is_version_8 && canonical).then_some(Self(id)).ok_or(InvalidJobId)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

impl<'de> serde::Deserialize<'de> for JobId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for JobId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_partition_and_time() {
        for number in [0, 1, 255, 256, 4095] {
            let before = Timestamp::now();
            let id = JobId::generate(Partition(number));
            assert_eq!(id.partition().number(), number);
            assert!(before <= id.created_at() && id.created_at() <= Timestamp::now());
        }
    }

    #[test]
    fn an_id_reads_back_in_its_one_spelling_only() {
        let id = JobId::generate(Partition(7));
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        let others = [
            text.to_uppercase(),
            text.replace('-', ""),
            format!("{{{text}}}"),
            format!("urn:uuid:{text}"),
            Uuid::new_v4().to_string(),
            String::new(),
        ];
        for other in others {
            assert_eq!(other.parse::<JobId>(), Err(InvalidJobId), "{other}");
        }
    }

    #[test]
    fn ids_are_a_version_8_uuid() {
        let id = JobId::generate(Partition(4095)).to_string();
        assert_eq!(&id[14..18], "8fff");
    }
}
