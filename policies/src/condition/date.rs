//! Dates of conditions: the W3C profile of ISO 8601, or seconds since the epoch.

/// Microseconds since 1970-01-01T00:00:00Z; finer digits are cut off. Forms: `2026-11-01`,
/// `2026-11`, `2026-11-01T12:30Z`, `…:00.5+01:00`; digits alone are epoch seconds.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return parse_epoch(text);
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    let day = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    if time.is_some() && date.len() != 10 {
        return None;
    }
    let midnight = days_from_epoch(year, month, day).checked_mul(86_400_000_000)?;
    midnight.checked_add(time.map_or(Some(0), parse_time)?)
}

fn parse_epoch(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(micros(fraction)?)
}

/// `hh:mm[:ss[.fraction]]` with `Z` or an offset; the offset is already taken off.
fn parse_time(text: &str) -> Option<i64> {
    let (clock, offset) = match text.strip_suffix('Z') {
        Some(clock) => (clock, 0),
        None => {
            let sign_at = text.rfind(['+', '-'])?;
            let (hours, minutes) = text[sign_at + 1..].split_once(':')?;
            let minutes = hour_and_minute(hours, minutes)?;
            (&text[..sign_at], if text[sign_at..].starts_with('-') { -minutes } else { minutes })
        }
    };
    let mut parts = clock.splitn(3, ':');
    let minutes = hour_and_minute(parts.next()?, parts.next()?)?;
    let (seconds, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
            // A leap second counts as the second after it.
            (digits(whole, 2).filter(|seconds| *seconds <= 60)?, micros(fraction)?)
        }
    };
    Some(((minutes - offset) * 60 + seconds) * 1_000_000 + fraction)
}

fn hour_and_minute(hours: &str, minutes: &str) -> Option<i64> {
    let hours = digits(hours, 2).filter(|hours| *hours < 24)?;
    let minutes = digits(minutes, 2).filter(|minutes| *minutes < 60)?;
    Some(hours * 60 + minutes)
}

fn digits(text: &str, length: usize) -> Option<i64> {
    let good = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}

/// A decimal fraction in millionths.
fn micros(fraction: &str) -> Option<i64> {
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    Some(padded.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0')))
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leap_days = before / 4 - before / 100 + before / 400;
    let in_year: i64 = (1..month).map(|month| days_in(year, month)).sum();
    // 719,162 days lie between 0001-01-01 and 1970-01-01.
    before * 365 + leap_days - 719_162 + in_year + day - 1
}

#[cfg(test)]
mod tests {
    use super::parse_date;

    #[test]
    fn every_documented_form_is_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-01T00:00:00Z", 1_793_491_200),
            ("2026-11-01", 1_793_491_200),
            ("2026-11", 1_793_491_200),
            ("2024-02-29T23:59Z", 1_709_251_140),
            ("2000-01-01T01:00:00+01:00", 946_684_800),
            ("1999-12-31T23:00:00.000-01:00", 946_684_800),
            ("1793491200", 1_793_491_200),
        ] {
            assert_eq!(parse_date(text), Some(seconds * 1_000_000), "{text}");
        }
        assert_eq!(parse_date("1.5"), Some(1_500_000));
        assert_eq!(parse_date("1970-01-01T00:00:00.0000019Z"), Some(1));
    }

    #[test]
    fn what_is_not_a_date_is_refused() {
        for text in [
            "",
            ".",
            "now",
            "2026-13-01",
            "2026-02-29",
            "2026-11-31",
            "2026-11-01T",
            "2026-11-01T24:00Z",
            "2026-11-01T00:00:00",
            "2026-11T00:00Z",
            "26-11-01",
            "2026-11-01T00:00:61Z",
            "2026-11-01 00:00Z",
            "99999999999999999999",
        ] {
            assert_eq!(parse_date(text), None, "{text:?}");
        }
    }
}
