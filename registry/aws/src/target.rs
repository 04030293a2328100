//! `X-Amz-Target: <prefix>.<operation>`, the route of JSON 1.1.

use http::HeaderMap;

use crate::error::AwsError;

/// What a JSON request is addressed to, e.g. `AmazonEC2ContainerServiceV20141113` and `RunTask`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub prefix: String,
    pub operation: String,
}

/// The target of a request; `None` when the header is absent (then the request may be a Query one).
pub fn parse(headers: &HeaderMap) -> Result<Option<Target>, AwsError> {
    let mut values = headers.get_all("x-amz-target").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(AwsError::serialization("X-Amz-Target occurs twice."));
    }
    let parts = value.to_str().ok().and_then(|text| text.rsplit_once('.'));
    match parts {
        Some((prefix, operation)) if is_name(prefix) && is_name(operation) => {
            Ok(Some(Target { prefix: prefix.to_owned(), operation: operation.to_owned() }))
        }
        _ => Err(AwsError::unknown_operation()),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.')
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::parse;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| ("x-amz-target".parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn prefix_and_operation_are_split_at_the_last_dot() {
        let target = parse(&headers(&["Berth_20261101.CreateJoinToken"])).unwrap().unwrap();
        assert_eq!(
            (target.prefix.as_str(), target.operation.as_str()),
            ("Berth_20261101", "CreateJoinToken")
        );
        assert_eq!(parse(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn malformed_and_repeated_targets_are_refused() {
        for values in [&["RunTask"][..], &["a."], &[".b"], &["a.b c"], &["a.b", "a.b"]] {
            assert!(parse(&headers(values)).is_err(), "{values:?}");
        }
    }
}
