//! ARNs compared segment by segment.
//!
//! An ARN is cut at its first five colons; a star in one segment does not reach into the next, except
//! in the resource part, where it matches `/` and `:` alike.

use super::glob::LITERAL;
use super::scratch::Scratch;
use super::{Pattern, Syntax, Variable, glob};
use crate::context::Context;

const HEAD: usize = 5;

/// An ARN, cut: `arn`, partition, service, region, account, and the resource part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SplitArn<'a> {
    head: [&'a str; HEAD],
    resource: &'a str,
}

impl<'a> SplitArn<'a> {
    /// None when it is not an ARN.
    pub(crate) fn split(text: &'a str) -> Option<Self> {
        let mut head = [""; HEAD];
        let mut rest = text;
        for segment in &mut head {
            let (before, after) = rest.split_once(':')?;
            *segment = before;
            rest = after;
        }
        (head[0] == "arn").then_some(SplitArn { head, resource: rest })
    }

    /// What stands behind the fifth colon.
    pub(crate) fn resource_part(&self) -> &'a str {
        self.resource
    }
}

#[derive(Debug)]
pub(crate) enum ArnPattern {
    /// A lone star.
    All,
    Segments(Segments),
    /// Cut only after its variables are filled in: a variable may bring whole segments.
    Whole(Pattern),
}

#[derive(Debug)]
pub(crate) struct Segments {
    head: Box<[Pattern; HEAD]>,
    resource: Pattern,
}

impl ArnPattern {
    /// For a Resource element. `pad`: missing segments on the right mean `*`.
    pub(crate) fn resource(text: &str, variables: bool, pad: bool) -> Result<ArnPattern, String> {
        if text == "*" {
            return Ok(ArnPattern::All);
        }
        let mut segments = text.splitn(HEAD + 1, ':');
        let fixed = Syntax { wildcards: true, variables: false };
        let mut head: [Pattern; HEAD] = std::array::from_fn(|_| Pattern::any());
        for (index, place) in head.iter_mut().enumerate() {
            match segments.next() {
                Some("arn") if index == 0 => *place = Pattern::compile("arn", fixed)?,
                _ if index == 0 => return Err("a resource is an ARN (`arn:…`) or `*`".to_owned()),
                Some(segment) if variables && segment.contains("${") => {
                    return Err("variables stand only in the last part of an ARN".to_owned());
                }
                Some(segment) => *place = Pattern::compile(segment, fixed)?,
                None if pad => {}
                None => return Err(INCOMPLETE.to_owned()),
            }
        }
        let resource = match segments.next() {
            Some(segment) => Pattern::compile(segment, Syntax { wildcards: true, variables })?,
            None if pad => Pattern::any(),
            None => return Err(INCOMPLETE.to_owned()),
        };
        Ok(ArnPattern::Segments(Segments { head: Box::new(head), resource }))
    }

    /// For a value of an Arn operator.
    pub(crate) fn condition(text: &str, variables: bool) -> Result<ArnPattern, String> {
        if variables && text.contains("${") {
            return Ok(ArnPattern::Whole(Pattern::compile(text, Syntax { wildcards: true, variables })?));
        }
        ArnPattern::resource(text, false, false)
    }

    pub(crate) fn matches(&self, arn: &SplitArn<'_>, context: &Context) -> bool {
        match self {
            ArnPattern::All => true,
            ArnPattern::Segments(segments) => {
                // The resource part first: it tells most.
                segments.resource.matches(arn.resource, context)
                    && segments
                        .head
                        .iter()
                        .zip(arn.head)
                        .all(|(pattern, text)| pattern.matches(text, context))
            }
            ArnPattern::Whole(pattern) => {
                let mut scratch = Scratch::new();
                pattern.fill_into(context, &mut scratch)
                    && matches_filled(scratch.codes(), scratch.kinds(), arn)
            }
        }
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = &Variable> {
        let pattern = match self {
            ArnPattern::All => None,
            ArnPattern::Segments(segments) => Some(&segments.resource),
            ArnPattern::Whole(pattern) => Some(pattern),
        };
        pattern.into_iter().flat_map(Pattern::variables)
    }
}

const INCOMPLETE: &str = "an ARN has six parts: arn:partition:service:region:account:resource";

fn matches_filled(mut codes: &[u8], mut kinds: &[u8], arn: &SplitArn<'_>) -> bool {
    for text in arn.head {
        let colon = codes.iter().zip(kinds).position(|(code, kind)| *code == b':' && *kind == LITERAL);
        let Some(colon) = colon else { return false };
        if !glob::matches(&codes[..colon], &kinds[..colon], text) {
            return false;
        }
        codes = &codes[colon + 1..];
        kinds = &kinds[colon + 1..];
    }
    glob::matches(codes, kinds, arn.resource)
}
