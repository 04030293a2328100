//! One random change of a signed request.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::Asked;
use super::source::Source;

const BYTES: &[u8] = b"aZ09-_.~+*%&=;,:/ !'()\"@$";
const NAMES: &[&str] = &[
    "x-amz-meta",
    "x-amz-security-token",
    "x-amz-target",
    "accept",
    "x-forwarded-for",
    "content-type",
    "range",
];

/// Changes the request, and names the kind of change; None where nothing came of it.
pub(super) fn change(source: &mut Source, asked: &mut Asked, other: &Asked) -> Option<&'static str> {
    const OTHER_SPELLINGS: [usize; 6] = [2, 4, 9, 13, 20, 21];
    let Asked { parts, body } = asked;
    let kind = source.below(22);
    if OTHER_SPELLINGS.contains(&kind) && source.percent(75) {
        return None;
    }
    match kind {
        0 => {
            let method = *source.pick(&["GET", "POST", "PUT", "DELETE", "HEAD", "post"]);
            parts.method = Method::from_bytes(method.as_bytes()).ok()?;
            Some("method")
        }
        1 => {
            let path = edited(source, parts.uri.path());
            target(parts, &path, &query(parts))?;
            Some("byte of the path")
        }
        2 => {
            let more = *source.pick(&["//", "/./", "/x/../", "/x/y/../../"]);
            let slashes: Vec<usize> = parts.uri.path().match_indices('/').map(|(at, _)| at).collect();
            let mut path = parts.uri.path().to_owned();
            let at = *source.pick(&slashes);
            path.replace_range(at..=at, more);
            target(parts, &path, &query(parts))?;
            Some("path with detours")
        }
        3 => {
            let query = edited(source, &query(parts));
            requery(parts, &query)?;
            Some("byte of the query")
        }
        4 => pairs(parts, |pairs| source.shuffle(pairs)).map(|()| "order of the parameters"),
        5 => pairs(parts, |pairs| {
            let at = source.below(pairs.len());
            match source.below(4) {
                0 => drop(pairs.remove(at)),
                1 => pairs.push(pairs[at].clone()),
                2 => pairs.push(pairs[at].to_ascii_lowercase()),
                _ => pairs.push("list=1".to_owned()),
            }
        })
        .map(|()| "parameters"),
        6 => {
            let query = query(parts);
            let at = source.below(query.len().max(1));
            let byte = *query.as_bytes().get(at).filter(|byte| byte.is_ascii_alphanumeric())?;
            let escape = if source.percent(50) { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
            let query = format!("{}{escape}{}", &query[..at], &query[at + 1..]);
            requery(parts, &query)?;
            Some("escape for a byte")
        }
        7 | 8 => {
            let (name, value) = any_header(source, &parts.headers)?;
            let value = edited(source, value.to_str().ok()?);
            parts.headers.insert(name, HeaderValue::from_str(&value).ok()?);
            Some("byte of a header")
        }
        9 => {
            let (name, value) = any_header(source, &parts.headers)?;
            let value = format!("  {} ", value.to_str().ok()?);
            parts.headers.insert(name, HeaderValue::from_str(&value).ok()?);
            Some("white space around a header")
        }
        10 => {
            let (name, _) = any_header(source, &parts.headers)?;
            parts.headers.remove(name);
            Some("header taken away")
        }
        11 => {
            let (name, value) = any_header(source, &parts.headers)?;
            parts.headers.append(name, value);
            Some("header twice")
        }
        12 => {
            let name = NAMES[source.below(NAMES.len())];
            let value = *source.pick(&["", "1", "application/json", "token"]);
            parts.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            Some("header added")
        }
        13 => respell(source, parts).map(|()| "order and case of headers"),
        14 => {
            let at = source.below(body.len() + 1);
            match source.below(3) {
                0 => body.insert(at, *source.pick(BYTES)),
                1 if at < body.len() => drop(body.remove(at)),
                _ => *body.get_mut(at)? ^= 1 << source.below(8),
            }
            Some("body")
        }
        15 => {
            const FROM: &[&str] =
                &["us-east-1", "eu-west-1", "ecs", "ecr", "aws4_request", "BRTH", "2026", "110", "103"];
            const TO: &[&str] =
                &["us-east-1", "eu-west-1", "ecs", "ecr", "sts", "aws4", "AKIA", "2025", "101", "/", ""];
            let (from, to) = (*source.pick(FROM), *source.pick(TO));
            replace(parts, "Credential=", from, to).map(|()| "credential scope")
        }
        16 => {
            let digit = *source.pick(&["0", "1", "2", "8", "a", "b", "f"]);
            let to = *source.pick(&["0", "3", "9", "c", "d", "A", "", "00"]);
            replace(parts, "Signature=", digit, to).map(|()| "signature")
        }
        17 => {
            let (from, to) = *source.pick(&[
                ("host", "Host"),
                ("host", ""),
                ("host", "host;range"),
                ("x-amz-date", "date"),
                (";host", ""),
                ("%3Bhost", ""),
                ("host", "accept;host"),
                ("content-type", "host"),
                (";", ""),
                ("%3B", ","),
            ]);
            replace(parts, "SignedHeaders=", from, to).map(|()| "signed headers")
        }
        18 => {
            let (name, value) = any_header(source, &other.parts.headers)?;
            parts.headers.insert(name, value);
            Some("header of another request")
        }
        19 => {
            match source.below(3) {
                0 => parts.method = other.parts.method.clone(),
                1 => body.clone_from(&other.body),
                _ => parts.uri = other.parts.uri.clone(),
            }
            Some("part of another request")
        }
        20 => {
            let value = parts.headers.get("authorization")?.to_str().ok()?;
            let mut fields: Vec<&str> = value.strip_prefix("AWS4-HMAC-SHA256 ")?.split(", ").collect();
            source.shuffle(&mut fields);
            let fields = fields.join(*source.pick(&[",", ", ", " ,  "]));
            let value = HeaderValue::from_str(&format!("AWS4-HMAC-SHA256 {fields}")).ok()?;
            parts.headers.insert("authorization", value);
            Some("order of the signature's fields")
        }
        _ => {
            let host = match source.below(3) {
                0 => "other.example",
                _ => parts.headers.get("host")?.to_str().ok()?,
            };
            let uri = Uri::try_from(format!("http://{host}{}", parts.uri)).ok()?;
            if source.percent(50) {
                parts.headers.remove("host");
            }
            parts.uri = uri;
            Some("authority")
        }
    }
}

/// With one byte changed, added or taken away, or two exchanged.
fn edited(source: &mut Source, text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = source.below(bytes.len() + 1);
    match source.below(4) {
        0 => bytes.insert(at, *source.pick(BYTES)),
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 if at + 1 < bytes.len() => bytes.swap(at, at + 1),
        _ if at < bytes.len() => bytes[at] = *source.pick(BYTES),
        _ => bytes.push(*source.pick(BYTES)),
    }
    String::from_utf8(bytes).expect("only ASCII was signed")
}

fn query(parts: &Parts) -> String {
    parts.uri.query().unwrap_or_default().to_owned()
}

fn target(parts: &mut Parts, path: &str, query: &str) -> Option<()> {
    let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    parts.uri =
        Uri::try_from(uri).ok().filter(|uri| uri.authority().is_none() && uri.path().starts_with('/'))?;
    Some(())
}

/// The same path with another query.
fn requery(parts: &mut Parts, query: &str) -> Option<()> {
    let path = parts.uri.path().to_owned();
    target(parts, &path, query)
}

fn pairs(parts: &mut Parts, change: impl FnOnce(&mut Vec<String>)) -> Option<()> {
    let mut pairs: Vec<String> = parts.uri.query()?.split('&').map(str::to_owned).collect();
    change(&mut pairs);
    requery(parts, &pairs.join("&"))
}

fn any_header(source: &mut Source, headers: &HeaderMap) -> Option<(HeaderName, HeaderValue)> {
    let at = source.below(headers.len());
    headers.iter().nth(at).map(|(name, value)| (name.clone(), value.clone()))
}

/// Replaces `from` in the value of a field of the signature, in whichever form it is.
fn replace(parts: &mut Parts, field: &str, from: &str, to: &str) -> Option<()> {
    let replaced = |text: &str, end: char| {
        let begins = text.find(field)? + field.len();
        let ends = text[begins..].find(end).map_or(text.len(), |length| begins + length);
        Some(format!("{}{}{}", &text[..begins], text[begins..ends].replacen(from, to, 1), &text[ends..]))
    };
    match parts.headers.get("authorization") {
        Some(value) => {
            let value = replaced(value.to_str().ok()?, ',')?;
            parts.headers.insert("authorization", HeaderValue::from_str(&value).ok()?);
        }
        None => {
            let query = replaced(&query(parts), '&')?;
            requery(parts, &query)?;
        }
    }
    Some(())
}

/// The headers in another order, their names in another case; values of one name stay in order.
fn respell(source: &mut Source, parts: &mut Parts) -> Option<()> {
    let mut names: Vec<HeaderName> = parts.headers.keys().cloned().collect();
    source.shuffle(&mut names);
    let mut headers = HeaderMap::new();
    for name in names {
        let spelled: Vec<u8> = name
            .as_str()
            .bytes()
            .map(|byte| if source.percent(50) { byte.to_ascii_uppercase() } else { byte })
            .collect();
        let spelled = HeaderName::from_bytes(&spelled).ok()?;
        for value in parts.headers.get_all(&name) {
            headers.append(spelled.clone(), value.clone());
        }
    }
    parts.headers = headers;
    Some(())
}
