//! Query strings, decoded once.
//!
//! A plus sign stays one: media types hold plus signs and clients do not all escape them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::error::OciError;

/// Everything that a parameter's value may not hold as it is.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The parameters of a request in their order.
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// What is not UTF-8 once decoded holds a replacement character, as nothing that we would take does: it is
    /// refused, and not passed over as if it had not been asked for.
    pub(super) fn parse(text: Option<&str>) -> Self {
        let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let pairs = text
            .unwrap_or_default()
            .split('&')
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decoded(name), decoded(value))
            })
            .collect();
        Self { pairs }
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &'static str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// How many rows the client wants, at most `cap`; `cap` when it does not say.
    ///
    /// # Errors
    /// `PAGINATION_NUMBER_INVALID` for what is no whole number from 0 up.
    pub(super) fn page_size(&self, cap: u32) -> Result<u32, OciError> {
        let Some(text) = self.get("n").filter(|text| !text.is_empty()) else { return Ok(cap) };
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(OciError::page_size());
        }
        // A number too long to read is more than the cap.
        Ok(text.parse::<u32>().map_or(cap, |n| n.min(cap)))
    }
}

/// A value as it may stand in a query.
pub(super) fn encode(value: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(value, VALUE)
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn values_are_decoded_once_and_keep_their_plus() {
        let query = Query::parse(Some("digest=sha256%3Aab&artifactType=a/b+json&tag=x&tag=y&z=%252e&flag"));
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.get("artifactType"), Some("a/b+json"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(query.get("z"), Some("%2e"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("none"), None);
        assert_eq!(Query::parse(Some("tag=%ff")).get("tag"), Some("\u{fffd}"));
    }

    #[test]
    fn page_sizes_are_clamped_or_refused() {
        let size = |text: &str| Query::parse(Some(text)).page_size(100).ok();
        assert_eq!(size(""), Some(100));
        assert_eq!(size("n=0"), Some(0));
        assert_eq!(size("n=7"), Some(7));
        assert_eq!(size("n=1000000000000000000000000000"), Some(100));
        for wrong in ["n=-1", "n=x", "n=1.5", "n=+1", "n=1e3"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
