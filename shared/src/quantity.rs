//! Kubernetes quantities: amounts of bytes, processors and whatever else is counted.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};

/// A quantity in thousandths, which is as fine as Kubernetes counts processors; finer ones are
/// rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i128);

/// Beyond this many digits a number is none that an amount holds.
const MAX_DIGITS: usize = 24;

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many of something.
    pub fn of(count: i64) -> Self {
        Self(i128::from(count) * 1000)
    }

    /// Reads `2Gi`, `1500m`, `0.5`, `1e9`; none if it is no quantity.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > MAX_DIGITS || fraction.contains('.') {
            return None;
        }
        let mut numerator: i128 = digits.parse().ok()?;
        let mut denominator = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let (up, down) = factor(suffix)?;
        numerator = numerator.checked_mul(up)?.checked_mul(1000)?;
        denominator = denominator.checked_mul(down)?;
        let rounded_up = numerator.checked_add(denominator - 1)? / denominator;
        Some(Self(if negative { -rounded_up } else { rounded_up }))
    }

    /// As it stands in JSON: a text or a number.
    pub fn read(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::String(text) => Self::parse(text),
            serde_json::Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    /// Whole units, rounded up; 0 if it is less than nothing.
    pub fn units(self) -> u64 {
        let up = if self.0 > 0 { (self.0 + 999) / 1000 } else { 0 };
        u64::try_from(up).unwrap_or(u64::MAX)
    }

    /// Thousandths.
    pub fn thousandths(self) -> i128 {
        self.0
    }
}

/// What a suffix multiplies with, and divides by.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let up = |base: i128, power: u32| base.checked_pow(power).map(|value| (value, 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, 1_000_000_000)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => up(1000, 1),
        "M" => up(1000, 2),
        "G" => up(1000, 3),
        "T" => up(1000, 4),
        "P" => up(1000, 5),
        "E" => up(1000, 6),
        "Ki" => up(1024, 1),
        "Mi" => up(1024, 2),
        "Gi" => up(1024, 3),
        "Ti" => up(1024, 4),
        "Pi" => up(1024, 5),
        "Ei" => up(1024, 6),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let value = 10_i128.checked_pow(power.unsigned_abs())?;
            Some(if power < 0 { (1, value) } else { (value, 1) })
        }
    }
}

impl fmt::Display for Amount {
    /// As people write it: `1500m`, `3`, `2Gi`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % 1000 != 0 {
            return write!(f, "{}m", self.0);
        }
        let units = self.0 / 1000;
        let binary = [("Ti", 1_i128 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
        for (suffix, size) in binary {
            if units != 0 && units % size == 0 {
                return write!(f, "{}{suffix}", units / size);
            }
        }
        write!(f, "{units}")
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Mul<i64> for Amount {
    type Output = Self;

    fn mul(self, times: i64) -> Self {
        Self(self.0.saturating_mul(i128::from(times)))
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// The bytes of a quantity such as `2Gi`, `1500M`, `1e9`; 0 if it is none.
pub fn bytes(text: &str) -> u64 {
    Amount::parse(text).map_or(0, Amount::units)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_of_every_spelling_become_bytes() {
        assert_eq!(bytes("2Gi"), 2 << 30);
        assert_eq!(bytes("1500M"), 1_500_000_000);
        assert_eq!(bytes("1e9"), 1_000_000_000);
        assert_eq!(bytes("1.5Gi"), 3 << 29);
        assert_eq!(bytes("123"), 123);
        assert_eq!(bytes("lots"), 0);
    }

    #[test]
    fn amounts_are_exact_and_shown_as_people_write_them() {
        let shown = |text| Amount::parse(text).unwrap().to_string();
        assert_eq!(shown("0.1"), "100m");
        assert_eq!(shown("1500m"), "1500m");
        assert_eq!(shown("2000m"), "2");
        assert_eq!(shown("2048Mi"), "2Gi");
        assert_eq!(shown("1Gi"), "1Gi");
        assert_eq!(shown("1500n"), "1m", "finer than a thousandth is rounded up");
        assert_eq!(Amount::parse("0.1").unwrap() * 10, Amount::of(1));
        for bad in ["", ".", "1.2.3", "1Zi", "e5", "9999999999999999999999999Ei"] {
            assert_eq!(Amount::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same_amount(thousandths in any::<i64>()) {
            let amount = Amount(i128::from(thousandths));
            prop_assert_eq!(Amount::parse(&amount.to_string()), Some(amount));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}") {
            let _ = Amount::parse(&text);
        }
    }
}
