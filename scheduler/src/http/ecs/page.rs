//! Lists in pages: ordered keys, a cursor that says which key was last, at most 100 in one answer.

use registry_aws::{AwsError, page};
use serde_json::{Map, Value, json};

use super::error::invalid;

const LARGEST_PAGE: i64 = 100;

/// What a caller said of the page.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PageInput {
    pub(crate) max_results: Option<i64>,
    pub(crate) next_token: Option<String>,
}

/// Which way the keys are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// Picks the page out of keyed items, which may come in any order. Cursors are made of keys: they are unique.
pub(crate) fn pick<T>(
    items: impl IntoIterator<Item = (String, T)>,
    order: Order,
    input: &PageInput,
) -> Result<(Vec<T>, Option<String>), AwsError> {
    let size = match input.max_results {
        None => LARGEST_PAGE,
        Some(size) if (1..=LARGEST_PAGE).contains(&size) => size,
        Some(_) => return Err(invalid("maxResults must be between 1 and 100.")),
    };
    let after = input.next_token.as_deref().map(page::decode).transpose()?;
    let beyond = |key: &String| match (&after, order) {
        (None, _) => true,
        (Some(after), Order::Ascending) => key > after,
        (Some(after), Order::Descending) => key < after,
    };
    let mut rest: Vec<(String, T)> = items.into_iter().filter(|(key, _)| beyond(key)).collect();
    match order {
        Order::Ascending => rest.sort_by(|one, other| one.0.cmp(&other.0)),
        Order::Descending => rest.sort_by(|one, other| other.0.cmp(&one.0)),
    }
    let mut rest = rest.into_iter().peekable();
    let mut picked = Vec::new();
    let mut last = None;
    for (key, item) in rest.by_ref().take(usize::try_from(size).unwrap_or_default()) {
        picked.push(item);
        last = Some(key);
    }
    let more = rest.peek().is_some();
    Ok((picked, last.filter(|_| more).map(|key| page::encode(&key))))
}

/// `{MEMBER: [...], "nextToken": …}`.
pub(crate) fn render(member: &str, items: Vec<String>, next: Option<String>) -> Value {
    let mut output = Map::from_iter([(member.to_owned(), json!(items))]);
    if let Some(next) = next {
        output.insert("nextToken".into(), Value::String(next));
    }
    Value::Object(output)
}

#[cfg(test)]
mod tests {
    use super::{Order, PageInput, pick};

    fn keys() -> Vec<(String, u32)> {
        (0..250).map(|n| (format!("{n:04}"), n)).collect()
    }

    #[test]
    fn pages_cover_everything_once() {
        let mut seen = Vec::new();
        let mut input = PageInput { max_results: Some(99), next_token: None };
        loop {
            let (page, next) = pick(keys(), Order::Ascending, &input).unwrap();
            seen.extend(page);
            match next {
                Some(token) => input.next_token = Some(token),
                None => break,
            }
        }
        assert_eq!(seen, (0..250).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_page_has_no_token() {
        assert_eq!(
            pick(keys().into_iter().take(100), Order::Ascending, &PageInput::default()).unwrap().1,
            None
        );
        let (page, next) =
            pick(Vec::<(String, u32)>::new(), Order::Descending, &PageInput::default()).unwrap();
        assert!(page.is_empty() && next.is_none());
    }

    #[test]
    fn bad_sizes_and_tokens_are_refused() {
        for (size, token) in [(Some(0), None), (Some(101), None), (Some(-1), None), (None, Some("zzz"))] {
            let input = PageInput { max_results: size, next_token: token.map(String::from) };
            assert_eq!(pick(keys(), Order::Ascending, &input).unwrap_err().code, "InvalidParameterException");
        }
    }
}
