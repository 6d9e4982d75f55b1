//! Kubernetes quantities as bytes.

/// The bytes of a quantity such as `2Gi`, `1500M`, `1e9`; 0 if it is none.
pub fn bytes(text: &str) -> u64 {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let binary = |power: i32| 1024f64.powi(power);
    let factor: f64 = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        exponent => match exponent.strip_prefix(['e', 'E']).and_then(|e| e.parse::<i32>().ok()) {
            Some(exponent) => 10f64.powi(exponent),
            None => return 0,
        },
    };
    // A float holds every capacity to within a fraction of a millionth.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let value = number.parse::<f64>().map_or(0, |n| (n * factor).ceil() as u64);
    value
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn quantities_of_every_spelling_become_bytes() {
        assert_eq!(bytes("2Gi"), 2 << 30);
        assert_eq!(bytes("1500M"), 1_500_000_000);
        assert_eq!(bytes("1e9"), 1_000_000_000);
        assert_eq!(bytes("1.5Gi"), 3 << 29);
        assert_eq!(bytes("123"), 123);
        assert_eq!(bytes("lots"), 0);
    }
}
