//! Values with a unit: counts, sizes and periods.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// A kind of value as it is written in the file.
pub(super) trait Setting: Copy {
    /// The type that the rest of the relay uses.
    type Value: Copy + PartialOrd;
    /// The value.
    fn value(self) -> Self::Value;
    /// The value in the notation of the file.
    fn written(value: Self::Value) -> String;
}

/// A plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Count(usize);

impl Setting for Count {
    type Value = usize;

    fn value(self) -> usize {
        self.0
    }

    fn written(value: usize) -> String {
        value.to_string()
    }
}

/// A number of bytes, written `"64KiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(usize);

impl Setting for Size {
    type Value = usize;

    fn value(self) -> usize {
        self.0
    }

    fn written(value: usize) -> String {
        let (name, bytes) =
            SIZES.iter().find(|(_, bytes)| value >= *bytes && value.is_multiple_of(*bytes)).unwrap_or(&SIZES[3]);
        format!("\"{}{name}\"", value / bytes)
    }
}

/// A span of time, written `"10s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period(Duration);

impl Setting for Period {
    type Value = Duration;

    fn value(self) -> Duration {
        self.0
    }

    fn written(value: Duration) -> String {
        let millis = value.as_millis();
        let fits = |unit: u128| millis >= unit && millis.is_multiple_of(unit);
        let (name, unit) = PERIODS.iter().find(|(_, unit)| fits(unit.as_millis())).unwrap_or(&PERIODS[3]);
        format!("\"{}{name}\"", millis / unit.as_millis())
    }
}

/// Reads a number of bytes such as `64KiB`; the units are B, KiB, MiB and GiB.
pub(super) fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit)?;
    usize::try_from(number).ok()?.checked_mul(*bytes)
}

/// Reads a period such as `10s`; the units are ms, s, m, h and d. `None` for anything else.
pub fn parse_period(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, unit) = PERIODS.iter().find(|(name, _)| *name == unit)?;
    unit.checked_mul(u32::try_from(number).ok()?)
}

/// Splits `10s` into 10 and `s`.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text { expected: SIZE_EXPECTED, parse: parse_size }).map(Self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text { expected: PERIOD_EXPECTED, parse: parse_period }).map(Self)
    }
}

struct Text<T> {
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
}

impl<T> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

const SIZES: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

const PERIODS: [(&str, Duration); 5] = [
    ("d", Duration::from_secs(24 * 60 * 60)),
    ("h", Duration::from_secs(60 * 60)),
    ("m", Duration::from_secs(60)),
    ("s", Duration::from_secs(1)),
    ("ms", Duration::from_millis(1)),
];

const SIZE_EXPECTED: &str = "a size such as \"64KiB\" (units: B, KiB, MiB, GiB)";
const PERIOD_EXPECTED: &str = "a period such as \"10s\" (units: ms, s, m, h, d)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [("0B", 0), ("1B", 1), ("64KiB", 65_536), ("3 MiB", 3 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in
            ["", "64", "KiB", "64KB", "64kib", "-1B", "1.5MiB", "99999999999999999999B", "18446744073709551615GiB"]
        {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn periods() {
        for (text, millis) in
            [("0s", 0), ("250ms", 250), ("10s", 10_000), ("2 m", 120_000), ("1h", 3_600_000), ("1d", 86_400_000)]
        {
            assert_eq!(parse_period(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "10sec", "-1s", "1.5s", "4294967296s"] {
            assert_eq!(parse_period(text), None, "{text}");
        }
    }

    #[test]
    fn written_is_what_is_read() {
        for bytes in [0, 1, 1000, 1024, 65_536, 3 << 20, 1 << 30, (1 << 30) + 1] {
            assert_eq!(parse_size(Size::written(bytes).trim_matches('"')), Some(bytes));
        }
        for millis in [0, 1, 1000, 1500, 60_000, 90_000, 86_400_000] {
            let period = Duration::from_millis(millis);
            assert_eq!(parse_period(Period::written(period).trim_matches('"')), Some(period));
        }
        assert_eq!(Size::written(65_536), "\"64KiB\"");
        assert_eq!(Period::written(Duration::from_secs(90)), "\"90s\"");
    }
}
