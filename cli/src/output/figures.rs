//! Numbers as people read them.

use std::time::Duration;

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// `1234567` → `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as GiB, rounded to three decimals as the usual notebooks do.
pub(crate) fn gib(bytes: u64) -> f64 {
    rounded(bytes as f64 / GIB, 3)
}

/// `part` of `whole` in percent, rounded to three decimals; 0 where there is no whole.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    rounded(part as f64 / whole as f64 * 100.0, 3)
}

/// Rounds to `decimals` places.
pub(crate) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// `3725 s` → `1:02:05`, below an hour `02:05`.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(8_072_204_288), "8,072,204,288");
    }

    #[test]
    fn memory_is_in_gib_with_three_decimals() {
        assert_eq!(gib(5_765_000_000), 5.369);
        assert_eq!(percent(1, 3), 33.333);
        assert_eq!(percent(1, 0), 0.0);
    }

    #[test]
    fn a_clock_shows_hours_only_when_there_are_any() {
        assert_eq!(clock(Duration::from_secs(125)), "02:05");
        assert_eq!(clock(Duration::from_secs(3725)), "1:02:05");
    }
}
