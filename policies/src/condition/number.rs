//! Numbers of conditions: exact decimals, never floating point.

use std::cmp::Ordering;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// In units of 10⁻¹⁵.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(i128);

impl Number {
    const FRACTION_DIGITS: usize = 15;
    /// 10²⁰ × 10¹⁵ stays far below the largest i128.
    const INTEGER_DIGITS: usize = 20;

    /// Sign, up to 20 digits, and up to 15 behind the point; no exponent.
    pub(super) fn parse(text: &str) -> Option<Number> {
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (integer, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let good = |part: &str, most: usize| {
            (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !good(integer, Self::INTEGER_DIGITS) || !good(fraction, Self::FRACTION_DIGITS) {
            return None;
        }
        let zeros = Self::FRACTION_DIGITS - fraction.len();
        let padding = std::iter::repeat_n(b'0', zeros);
        let units = integer.bytes().chain(fraction.bytes()).chain(padding);
        let units = units.fold(0i128, |units, digit| units * 10 + i128::from(digit - b'0'));
        Some(Number(if negative { -units } else { units }))
    }

    /// Itself and its neighbours: nothing lies between.
    pub(super) fn around(self) -> [Number; 3] {
        [Number(self.0 - 1), self, Number(self.0 + 1)]
    }

    /// As [`Number::parse`] reads it.
    pub(super) fn to_text(self) -> String {
        let unit = 10u128.pow(15);
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, fraction) = (self.0.unsigned_abs() / unit, self.0.unsigned_abs() % unit);
        format!("{sign}{whole}.{fraction:015}")
    }
}

#[cfg(test)]
mod tests {
    use super::Number;

    #[test]
    fn decimals_are_compared_exactly() {
        let number = |text| Number::parse(text).unwrap();
        assert_eq!(number("5"), number("5.0"));
        assert_eq!(number("-0"), number("+0.000"));
        assert!(number("9007199254740993") > number("9007199254740992"));
        assert!(number("-2") < number("-1.5"));
        for text in ["-1.5", "0", "20.000000000000001"] {
            assert_eq!(Number::parse(&number(text).to_text()), Number::parse(text));
        }
    }

    #[test]
    fn what_is_not_a_decimal_is_refused() {
        for text in ["", "-", "1e3", ".5", "5.", "0x1", " 1", "1 ", "NaN", "1,5", "--1", "1.2.3"] {
            assert_eq!(Number::parse(text), None, "{text:?}");
        }
    }
}
