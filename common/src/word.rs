//! Enums whose values are words: each value has one spelling, in Redis, over HTTP, in logs and in messages.

/// The error for a text that is none of the words of an enum. Its message lists all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidWord(pub &'static [&'static str]);

impl std::fmt::Display for InvalidWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected one of {}", self.0.join(", "))
    }
}

impl std::error::Error for InvalidWord {}

/// Declares an enum with a word for each value, and its `ALL`, `as_str`, `Display` (which respects a width, as in
/// `{:<9}`), `FromStr`, `Serialize` and `Deserialize`.
///
/// ```
/// crunch_common::word_enum! {
///     /// The size of a thing.
///     #[derive(Debug, Clone, Copy, PartialEq, Eq)]
///     pub enum Size {
///         /// Fits a hand.
///         Small = "small",
///         /// Fits a room.
///         Large = "large",
///     }
/// }
///
/// assert_eq!("large".parse(), Ok(Size::Large));
/// assert_eq!(Size::ALL.map(Size::as_str), ["small", "large"]);
/// let error = "huge".parse::<Size>().unwrap_err();
/// assert_eq!(error.to_string(), "expected one of small, large");
/// ```
#[macro_export]
macro_rules! word_enum {
    ($(#[$of_enum:meta])* $visibility:vis enum $Enum:ident {
        $($(#[$of_value:meta])* $Value:ident = $word:literal,)+
    }) => {
        $(#[$of_enum])*
        $visibility enum $Enum { $($(#[$of_value])* $Value,)+ }

        impl $Enum {
            /// Every value, in the order of their declaration.
            $visibility const ALL: [Self; [$($word),+].len()] = [$(Self::$Value),+];

            /// Returns the word of this value.
            #[must_use]
            $visibility const fn as_str(self) -> &'static str {
                match self { $(Self::$Value => $word,)+ }
            }
        }

        impl ::std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::std::str::FromStr for $Enum {
            type Err = $crate::InvalidWord;

            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$Value),)+
                    _ => Err($crate::InvalidWord(&[$($word),+])),
                }
            }
        }

        impl $crate::serde::Serialize for $Enum {
            fn serialize<S: $crate::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> $crate::serde::Deserialize<'de> for $Enum {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                use ::std::borrow::Cow;
                let text =
                    <Cow<'de, str> as $crate::serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err($crate::serde::de::Error::custom)
            }
        }
    };
}
