//! Quantities (`2Gi`, `1500m`): read, compared, added, and written in the canonical form that the
//! real server stores.

use std::cmp::Ordering;

/// A quantity in billionths, with the family of its suffix.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(&str, i128); 10] = [
    ("E", 1_000_000_000_000_000_000 * NANO),
    ("P", 1_000_000_000_000_000 * NANO),
    ("T", 1_000_000_000_000 * NANO),
    ("G", 1_000_000_000 * NANO),
    ("M", 1_000_000 * NANO),
    ("k", 1_000 * NANO),
    ("", NANO),
    ("m", 1_000_000),
    ("u", 1_000),
    ("n", 1),
];
const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nano: 0, format: Format::Decimal };

    /// Reads a quantity; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let split =
            text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
        let (digits, suffix) = text.split_at(split);
        let (unit, format) = if let Some((_, power)) = BINARY.iter().find(|(s, _)| *s == suffix) {
            (NANO << power, Format::Binary)
        } else if let Some((_, unit)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
            (*unit, Format::Decimal)
        } else {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = u32::try_from(exponent + 9).ok().filter(|p| *p < 28)?;
            (10_i128.pow(power), Format::Exponent)
        };
        let (negative, digits) = match digits.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, digits.strip_prefix('+').unwrap_or(digits)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 19 || fraction.len() > 9 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let mut nano = whole.checked_mul(unit)?;
        if !fraction.is_empty() {
            let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
            let part: i128 = fraction.parse::<i128>().ok()?.checked_mul(unit)?;
            nano += (part + scale - 1) / scale;
        }
        Some(Self { nano: if negative { -nano } else { nano }, format })
    }

    /// Reads a quantity from JSON: text or a number.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::String(text) => Self::parse(text),
            serde_json::Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    /// A whole number.
    pub fn whole(count: usize) -> Self {
        Self {
            nano: i128::try_from(count).unwrap_or(i128::MAX / NANO).saturating_mul(NANO),
            format: Format::Decimal,
        }
    }

    /// The sum; keeps the first one's family unless it is zero.
    pub fn plus(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: self.nano.saturating_add(other.nano), format }
    }

    /// Whole units, rounded up; 0 of what is negative.
    pub fn units(self) -> u64 {
        u64::try_from((self.nano + NANO - 1) / NANO).unwrap_or_default()
    }

    /// The canonical text.
    pub fn canonical(self) -> String {
        if self.nano == 0 {
            return "0".to_owned();
        }
        let sign = if self.nano < 0 { "-" } else { "" };
        let nano = self.nano.abs();
        if self.format == Format::Binary && nano % NANO == 0 && nano >= 1024 * NANO {
            let whole = nano / NANO;
            for (suffix, power) in BINARY {
                if whole % (1 << power) == 0 {
                    return format!("{sign}{}{suffix}", whole >> power);
                }
            }
            return format!("{sign}{whole}");
        }
        for (suffix, unit) in DECIMAL {
            if nano % unit == 0 {
                let suffix = if self.format == Format::Exponent { exponent(suffix) } else { suffix };
                return format!("{sign}{}{suffix}", nano / unit);
            }
        }
        format!("{sign}{nano}n")
    }
}

fn exponent(suffix: &str) -> &'static str {
    match suffix {
        "E" => "e18",
        "P" => "e15",
        "T" => "e12",
        "G" => "e9",
        "M" => "e6",
        "k" => "e3",
        "m" => "e-3",
        "u" => "e-6",
        "n" => "e-9",
        _ => "",
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_in_their_canonical_form() {
        for (given, canonical) in [
            ("2Gi", "2Gi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000m", "1"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("3000", "3k"),
            ("0", "0"),
            ("1e3", "1e3"),
            ("-1", "-1"),
            ("100M", "100M"),
        ] {
            assert_eq!(
                Quantity::parse(given).map(Quantity::canonical).as_deref(),
                Some(canonical),
                "{given}"
            );
        }
        assert!(Quantity::parse("two").is_none());
        assert!(Quantity::parse("").is_none());
    }

    #[test]
    fn quantities_of_different_suffixes_compare_by_amount() {
        assert!(Quantity::parse("1Gi") > Quantity::parse("1G"));
        assert_eq!(Quantity::parse("1024Mi"), Quantity::parse("1Gi"));
    }
}
