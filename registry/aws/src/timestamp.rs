//! Times in the forms that the protocols use. Berth's own are `i64` milliseconds since the Unix epoch.

use serde_json::{Number, Value};
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// A time in JSON protocols: epoch seconds as a double, milliseconds behind the point.
pub fn epoch_seconds(ms: i64) -> Value {
    Number::from_f64(ms as f64 / 1000.0).map_or(Value::Null, Value::Number)
}

/// A time in Query answers and OAuth: `2026-11-01T12:00:00Z`, whole seconds.
pub fn iso8601(ms: i64) -> String {
    at(ms).format(&Rfc3339).expect("years 0 to 9999 have an RFC 3339 form")
}

/// Milliseconds of a time written in RFC 3339, as Query requests carry it.
pub fn parse_iso8601(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}

/// The `X-Amz-Date` form: `20150830T123600Z`.
pub fn amz_date(ms: i64) -> String {
    let t = at(ms);
    let (year, month, day) = t.to_calendar_date();
    let (hour, minute, second) = t.to_hms();
    format!("{year:04}{:02}{day:02}T{hour:02}{minute:02}{second:02}Z", u8::from(month))
}

/// Milliseconds of an `X-Amz-Date`; any other form or an impossible date is `None`.
pub fn parse_amz_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digit_places = (0..16).filter(|place| *place != 8 && *place != 15);
    let well_formed = bytes.len() == 16
        && bytes[8] == b'T'
        && bytes[15] == b'Z'
        && digit_places.clone().all(|place| bytes[place].is_ascii_digit());
    if !well_formed {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u16>().ok();
    let small = |from: usize| number(from, from + 2).and_then(|value| u8::try_from(value).ok());
    let month = Month::try_from(small(4)?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(0, 4)?), month, small(6)?).ok()?;
    let time = Time::from_hms(small(9)?, small(11)?, small(13)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_offset(UtcOffset::UTC).unix_timestamp() * 1000)
}

/// Whole seconds, clamped to the years that the text forms can write.
fn at(ms: i64) -> OffsetDateTime {
    const LAST: i64 = 253_402_300_799; // 9999-12-31T23:59:59Z
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000).clamp(0, LAST))
        .expect("clamped to the years 1970 to 9999")
}

#[cfg(test)]
mod tests {
    use super::{amz_date, epoch_seconds, iso8601, parse_amz_date, parse_iso8601};

    #[test]
    fn forms_agree_on_one_moment() {
        let ms = 1_440_938_160_000;
        assert_eq!(amz_date(ms), "20150830T123600Z");
        assert_eq!(parse_amz_date("20150830T123600Z"), Some(ms));
        assert_eq!(iso8601(ms), "2015-08-30T12:36:00Z");
        assert_eq!(parse_iso8601("2015-08-30T12:36:00Z"), Some(ms));
        assert_eq!(epoch_seconds(1_440_938_160_123).to_string(), "1440938160.123");
    }

    #[test]
    fn impossible_dates_are_none() {
        for text in [
            "",
            "20150830T123600",
            "20150230T123600Z",
            "20151330T123600Z",
            "20150830T246000Z",
            "2015083 T123600Z",
            "20150830t123600Z",
            "+0150830T123600Z",
            "２0150830T1236Z",
        ] {
            assert_eq!(parse_amz_date(text), None, "{text}");
        }
    }
}
