//! `WWW-Authenticate`, as registries write it (RFC 9110 11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// What a registry wants to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The first challenge that can be met; tokens before passwords.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = || headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let bearer = values().filter_map(|value| scheme(value, "bearer")).find_map(|parameters| {
            let realm = parameter(parameters, "realm")?;
            Some(Self::Bearer { realm, service: parameter(parameters, "service") })
        });
        bearer.or_else(|| values().any(|value| scheme(value, "basic").is_some()).then_some(Self::Basic))
    }
}

/// What stands behind the name of a scheme.
fn scheme<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let (scheme, parameters) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    scheme.eq_ignore_ascii_case(name).then_some(parameters)
}

/// The value of `name=value` or `name="value"` in a list of such with commas between.
fn parameter(mut list: &str, name: &str) -> Option<String> {
    loop {
        list = list.trim_start_matches([' ', ',']);
        let (key, rest) = list.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        list = rest;
    }
}

/// A quoted string without its first quote: its text, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => text.push(letters.next()?.1),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::header::WWW_AUTHENTICATE;
    use http::{HeaderMap, HeaderValue};

    use super::Challenge;

    fn challenge(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        Challenge::of(&headers)
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        for (value, expected) in [
            (
                r#"Bearer realm="https://a/token",service="a",scope="repository:b:pull,push""#,
                bearer("https://a/token", Some("a")),
            ),
            (r#"bearer service=a, realm="https://a/t?x=\"1\"""#, bearer("https://a/t?x=\"1\"", Some("a"))),
            (r#"Bearer scope="x,realm=y",realm="z""#, bearer("z", None)),
            ("Basic realm=\"a\"", Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            ("Bearer", None),
            ("Bearer realm=\"open", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(challenge(&[value]), expected, "{value}");
        }
        assert_eq!(challenge(&["Basic realm=\"a\"", "Bearer realm=\"b\""]), bearer("b", None));
        assert_eq!(challenge(&[]), None);
    }
}
