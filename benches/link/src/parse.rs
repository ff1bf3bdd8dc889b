//! Parameters as people write them.

use std::{str::FromStr, time::Duration};

use jiff::SignedDuration;

use crate::params::{Burst, Chance, HELD_BACK, ParamsError, Queue, Rate, Reorder};

/// Reads a time such as `50ms`, `1.5s` or `200us`.
///
/// # Errors
/// When it is none, or negative.
pub fn duration(text: &str) -> Result<Duration, ParamsError> {
    let signed = text.parse::<SignedDuration>().ok();
    signed.and_then(|signed| Duration::try_from(signed).ok()).ok_or_else(|| wrong(text, "a time such as 50ms or 1.5s"))
}

/// `2%` or `0.02`.
impl FromStr for Chance {
    type Err = ParamsError;

    fn from_str(text: &str) -> Result<Self, ParamsError> {
        let (number, scale) = match text.strip_suffix('%') {
            Some(percent) => (percent, 100.0),
            None => (text, 1.0),
        };
        let share: f64 = number.trim().parse().map_err(|_| wrong(text, "a chance such as 2% or 0.02"))?;
        Self::new(share / scale)
    }
}

/// `20mbit`, `512kbit`, `1.5gbit`, or bits per second without a unit.
impl FromStr for Rate {
    type Err = ParamsError;

    fn from_str(text: &str) -> Result<Self, ParamsError> {
        let bits = scaled(text, &[("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0), ("", 1.0)]);
        Self::new(bits.ok_or_else(|| wrong(text, "a rate such as 20mbit or 512kbit"))?)
    }
}

/// A time such as `50ms`, or bytes such as `64kb`, `2mb` or `9000b`.
impl FromStr for Queue {
    type Err = ParamsError;

    fn from_str(text: &str) -> Result<Self, ParamsError> {
        if let Ok(time) = duration(text) {
            return Ok(Self::Time(time));
        }
        let bytes = scaled(text, &[("mb", 1e6), ("kb", 1e3), ("b", 1.0)]);
        Ok(Self::Bytes(bytes.ok_or_else(|| wrong(text, "a queue such as 50ms or 64kb"))?))
    }
}

/// `ENTER,LEAVE` or `ENTER,LEAVE,LOSS`, three chances; everything is lost in a burst without the third.
impl FromStr for Burst {
    type Err = ParamsError;

    fn from_str(text: &str) -> Result<Self, ParamsError> {
        match *text.split(',').collect::<Vec<_>>() {
            [enter, leave] => Ok(Self { enter: enter.parse()?, leave: leave.parse()?, loss: Chance::ALWAYS }),
            [enter, leave, loss] => Ok(Self { enter: enter.parse()?, leave: leave.parse()?, loss: loss.parse()? }),
            _ => Err(wrong(text, "a burst such as 0.5%,25% or 0.5%,25%,80%: to enter, to leave, to lose within")),
        }
    }
}

/// `CHANCE` or `CHANCE,TIME`.
impl FromStr for Reorder {
    type Err = ParamsError;

    fn from_str(text: &str) -> Result<Self, ParamsError> {
        match text.split_once(',') {
            None => Ok(Self { chance: text.parse()?, by: HELD_BACK }),
            Some((chance, by)) => Ok(Self { chance: chance.parse()?, by: duration(by)? }),
        }
    }
}

/// A number with one of the units; the first unit that fits counts.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let (number, scale) = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    let value = number.trim().parse::<f64>().ok()? * scale;
    (value.is_finite() && value >= 0.0).then(|| value.round() as u64)
}

fn wrong(text: &str, wanted: &'static str) -> ParamsError {
    ParamsError::Text { text: text.to_owned(), wanted }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn chance(share: f64) -> Chance {
        Chance::new(share).unwrap()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("200us"), Ok(Duration::from_micros(200)));
        assert_eq!("2%".parse(), Ok(chance(0.02)));
        assert_eq!("0.5".parse(), Ok(chance(0.5)));
        assert_eq!("20mbit".parse(), Rate::new(20_000_000));
        assert_eq!("1.5Gbit".parse(), Rate::new(1_500_000_000));
        assert_eq!("9600".parse(), Rate::new(9_600));
        assert_eq!("64kb".parse(), Ok(Queue::Bytes(64_000)));
        assert_eq!("1500b".parse(), Ok(Queue::Bytes(1500)));
        assert_eq!("30ms".parse(), Ok(Queue::Time(Duration::from_millis(30))));
        let (enter, leave) = (chance(0.005), chance(0.25));
        assert_eq!("0.5%,25%".parse(), Ok(Burst { enter, leave, loss: Chance::ALWAYS }));
        assert_eq!("0.5%,25%,80%".parse(), Ok(Burst { enter, leave, loss: chance(0.8) }));
        assert_eq!("1%".parse(), Ok(Reorder { chance: chance(0.01), by: HELD_BACK }));
        let by = Duration::from_millis(10);
        assert_eq!("1%,10ms".parse(), Ok(Reorder { chance: chance(0.01), by }));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        assert_eq!("101%".parse::<Chance>().unwrap_err(), ParamsError::Chance(1.01));
        assert!("NaN".parse::<Chance>().is_err());
        assert_eq!("10bit".parse::<Rate>().unwrap_err(), ParamsError::Rate(10));
        for error in [
            "often".parse::<Chance>().unwrap_err(),
            "-5ms".parse::<Queue>().unwrap_err(),
            "fast".parse::<Rate>().unwrap_err(),
            "-20mbit".parse::<Rate>().unwrap_err(),
            "1%".parse::<Burst>().unwrap_err(),
            duration("-1s").unwrap_err(),
        ] {
            assert!(error.to_string().contains("such as"), "{error}");
        }
    }
}
