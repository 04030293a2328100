//! Wildcards, variables, actions and ARNs, read naively.

use policies::ContextValue;
use serde_json::Value;

use super::Keys;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Char(char),
    Star,
    One,
}

/// Variables filled in; None when one has no value.
pub(super) fn expand(text: &str, variables: bool, wildcards: bool, context: &Keys) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if variables && rest.starts_with("${") {
            let end = rest.find('}').expect("closed");
            let inside = &rest[2..end];
            match inside {
                "*" | "?" | "$" => tokens.extend(inside.chars().map(Token::Char)),
                _ => tokens.extend(value_of(inside, context)?.chars().map(Token::Char)),
            }
            rest = &rest[end + 1..];
            continue;
        }
        tokens.push(match character {
            '*' if wildcards => Token::Star,
            '?' if wildcards => Token::One,
            _ => Token::Char(character),
        });
        rest = &rest[character.len_utf8()..];
    }
    Some(tokens)
}

fn value_of(inside: &str, context: &Keys) -> Option<String> {
    let (key, default) = match inside.split_once(", '") {
        Some((key, default)) => (key, Some(default.trim_end_matches('\'').to_owned())),
        None => (inside, None),
    };
    match context.get(&key.to_lowercase()) {
        Some(ContextValue::One(value)) => Some(value.clone()),
        Some(ContextValue::Many(values)) if !values.is_empty() => None,
        _ => default,
    }
}

pub(super) fn all_variables_have_values(statement: &Value, context: &Keys) -> bool {
    let mut texts = Vec::new();
    for element in ["Resource", "NotResource", "Condition"] {
        strings(&statement[element], &mut texts);
    }
    texts.iter().all(|text| expand(text, true, false, context).is_some())
}

fn strings(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, out)),
        Value::Object(members) => members.values().for_each(|member| strings(member, out)),
        _ => {}
    }
}

pub(super) fn like(pattern: &[Token], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((Token::Star, rest)) => (0..=text.len()).any(|skipped| like(rest, &text[skipped..])),
        Some((Token::One, rest)) => !text.is_empty() && like(rest, &text[1..]),
        Some((Token::Char(wanted), rest)) => text.first() == Some(wanted) && like(rest, &text[1..]),
    }
}

pub(super) fn action(pattern: &str, action: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let (pattern, action) = (pattern.to_lowercase(), action.to_lowercase());
    let (pattern_service, pattern_operation) = pattern.split_once(':').expect("checked when read");
    let Some((service, operation)) = action.split_once(':') else { return false };
    let tokens = expand(pattern_operation, false, true, &Keys::new()).expect("no variables");
    pattern_service == service && like(&tokens, &chars(operation))
}

pub(super) fn resource(pattern: &str, resource: &str, variables: bool, pads: bool, context: &Keys) -> bool {
    if pattern == "*" {
        return true;
    }
    let Some(tokens) = expand(pattern, variables, true, context) else { return false };
    let mut segments = segments(&tokens);
    while pads && segments.len() < 6 {
        segments.push(vec![Token::Star]);
    }
    arn(&segments, resource)
}

/// Six segments each, compared one by one.
pub(super) fn arn(pattern: &[Vec<Token>], text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    parts.len() == 6
        && parts[0] == "arn"
        && pattern.len() == 6
        && pattern.iter().zip(&parts).all(|(pattern, part)| like(pattern, &chars(part)))
}

pub(super) fn segments(tokens: &[Token]) -> Vec<Vec<Token>> {
    tokens.splitn(6, |token| *token == Token::Char(':')).map(<[Token]>::to_vec).collect()
}

pub(super) fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}
