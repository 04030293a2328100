//! The two range headers: `Content-Range` of an upload's piece, `Range` of a download.

use std::ops::Range;

use http::{HeaderMap, header};
use registry_core::ContentRange;
use registry_types::Digest;

use super::error::OciError;

/// `Content-Range: 0-1023` of a PATCH or PUT: inclusive, without a unit. Absent means: append.
///
/// # Errors
/// `BLOB_UPLOAD_INVALID` when malformed; `SIZE_INVALID` when the declared length of the body is another, so
/// that no byte of it is read.
pub(super) fn of_upload(
    headers: &HeaderMap,
    content_length: Option<u64>,
) -> Result<Option<ContentRange>, OciError> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let parsed = value.to_str().ok().and_then(|text| text.split_once('-')).and_then(|(start, end)| {
        let range = ContentRange { start: number(start)?, end: number(end)? };
        (range.end < u64::MAX).then_some(range)
    });
    let range = parsed.ok_or_else(OciError::content_range)?;
    if let Some(received) = content_length
        && range.start <= range.end
        && range.end - range.start + 1 != received
    {
        return Err(OciError::size(range.end - range.start + 1, received));
    }
    Ok(Some(range))
}

/// What a GET of a blob is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// No range, several, one of another unit, or one that applies to other content.
    Whole,
    One(Range<u64>),
    Unsatisfiable,
}

/// Reads `Range` for content of `len` bytes (RFC 9110 14.2).
pub(super) fn of_download(headers: &HeaderMap, len: u64, digest: &Digest) -> Part {
    let Some(value) = headers.get(header::RANGE) else { return Part::Whole };
    let applies = headers
        .get(header::IF_RANGE)
        .is_none_or(|tag| tag.to_str().is_ok_and(|tag| tag.trim_matches('"') == digest.as_str()));
    let Some(set) = value.to_str().ok().filter(|_| applies).and_then(|text| text.strip_prefix("bytes="))
    else {
        return Part::Whole;
    };
    if set.contains(',') {
        return Part::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Part::Whole };
    match (position(first), position(last)) {
        (Position::At(first), Position::At(last)) if first <= last && first < len => {
            Part::One(first..last.saturating_add(1).min(len))
        }
        (Position::At(first), Position::Open) if first < len => Part::One(first..len),
        (Position::Open, Position::At(suffix)) if suffix > 0 && len > 0 => {
            Part::One(len.saturating_sub(suffix)..len)
        }
        (Position::Malformed, _) | (_, Position::Malformed) | (Position::Open, Position::Open) => Part::Whole,
        _ => Part::Unsatisfiable,
    }
}

enum Position {
    At(u64),
    Open,
    Malformed,
}

/// A number too large to hold lies past the end of everything.
fn position(text: &str) -> Position {
    match text {
        "" => Position::Open,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Position::At(digits.parse().unwrap_or(u64::MAX))
        }
        _ => Position::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode, header};
    use registry_core::ContentRange;
    use registry_types::{Algorithm, Digest};

    use super::{Part, of_download, of_upload};

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_piece_is_written_without_a_unit() {
        let read = |value, length| of_upload(&headers(header::CONTENT_RANGE, value), length);
        assert_eq!(read("0-1023", Some(1024)).unwrap(), Some(ContentRange { start: 0, end: 1023 }));
        assert_eq!(read("5-4", Some(0)).unwrap(), Some(ContentRange { start: 5, end: 4 }));
        assert_eq!(read("0-9", None).unwrap(), Some(ContentRange { start: 0, end: 9 }));
        assert_eq!(of_upload(&HeaderMap::new(), Some(3)).unwrap(), None);
        for wrong in ["bytes 0-9", "0-9/10", "0-", "-9", "a-b", "", "1", "-1-2", "0-18446744073709551615"] {
            assert_eq!(read(wrong, None).unwrap_err().status(), StatusCode::BAD_REQUEST, "{wrong}");
        }
        assert_eq!(read("0-9", Some(11)).unwrap_err().status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn one_range_is_cut_to_the_content() {
        let digest = Digest::from_hash(Algorithm::Sha256, &[0; 32]);
        for (value, part) in [
            ("bytes=500-1499", Part::One(500..1500)),
            ("bytes=500-", Part::One(500..2048)),
            ("bytes=-100", Part::One(1948..2048)),
            ("bytes=-99999", Part::One(0..2048)),
            ("bytes=2000-9999", Part::One(2000..2048)),
            ("bytes=0-0", Part::One(0..1)),
            ("bytes=0-99999999999999999999999999", Part::One(0..2048)),
            ("bytes=5000-10000", Part::Unsatisfiable),
            ("bytes=2048-", Part::Unsatisfiable),
            ("bytes=500-0", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=99999999999999999999999999-", Part::Unsatisfiable),
            ("bytes=0-1,5-6", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=", Part::Whole),
        ] {
            assert_eq!(of_download(&headers(header::RANGE, value), 2048, &digest), part, "{value}");
        }
        assert_eq!(of_download(&HeaderMap::new(), 2048, &digest), Part::Whole);
        assert_eq!(of_download(&headers(header::RANGE, "bytes=0-0"), 0, &digest), Part::Unsatisfiable);
    }

    #[test]
    fn a_range_of_other_content_is_answered_with_the_whole() {
        let digest = Digest::from_hash(Algorithm::Sha256, &[0; 32]);
        let mut request = headers(header::RANGE, "bytes=0-9");
        request.insert(header::IF_RANGE, HeaderValue::from_static("\"sha256:other\""));
        assert_eq!(of_download(&request, 2048, &digest), Part::Whole);
        request.insert(header::IF_RANGE, HeaderValue::from_str(&format!("\"{digest}\"")).unwrap());
        assert_eq!(of_download(&request, 2048, &digest), Part::One(0..10));
    }
}
