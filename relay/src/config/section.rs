//! A section of numbers, sizes and periods, declared as one table of key, kind, default and range.

use toml::Spanned;

use super::{
    complaint::{ConfigError, Source},
    units::Setting,
};

/// Generates from one table the keys of the file (`$raw`), the values (`$name`), the defaults and the range checks.
macro_rules! section {
    (
        $(#[$doc:meta])*
        $raw:ident => $name:ident {
            $( $(#[$field_doc:meta])* $field:ident: $type:ident [$kind:ident] = $default:expr, $range:expr; )*
        }
    ) => {
        /// What the file says.
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $raw {
            $( $field: Option<toml::Spanned<$crate::config::units::$kind>>, )*
        }

        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $raw {
            /// Fills in the defaults and checks each value by itself.
            fn within_ranges(
                &self,
                source: &$crate::config::complaint::Source<'_>,
            ) -> Result<$name, $crate::config::complaint::ConfigError> {
                Ok($name {
                    $( $field: $crate::config::section::checked(source, stringify!($field), self.$field.as_ref(), $default, $range)?, )*
                })
            }
        }
    };
}
pub(super) use section;

/// The value, or the default if the key is absent; refused outside the range.
pub(super) fn checked<K: Setting>(
    source: &Source<'_>,
    key: &str,
    said: Option<&Spanned<K>>,
    default: K::Value,
    range: std::ops::RangeInclusive<K::Value>,
) -> Result<K::Value, ConfigError> {
    let Some(said) = said else { return Ok(default) };
    let value = said.get_ref().value();
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (K::written(*range.start()), K::written(*range.end()));
    Err(source.complain(said.span(), format!("{key} is out of range"), format!("must be between {least} and {most}")))
}

/// Refuses two values that contradict each other, at the first of them that is in the file.
pub(super) fn contradiction<A, B>(
    source: &Source<'_>,
    first: Option<&Spanned<A>>,
    second: Option<&Spanned<B>>,
    message: String,
) -> ConfigError {
    let at = first.map(Spanned::span).or_else(|| second.map(Spanned::span)).unwrap_or(0..0);
    source.complain(at, message, "")
}
