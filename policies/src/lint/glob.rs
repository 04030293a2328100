//! Patterns compared with patterns: what one matches, the other matches too; or both match something.

/// `*`, `?` and variables, as far as one pattern can be compared with another.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Character(char),
    One,
    Run,
    /// Some text that is not known, but always the same.
    Variable(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(Vec<Token>);

impl Glob {
    /// Of text in which `${…}` stands for a variable, if `variables`.
    pub(super) fn new(text: &str, variables: bool) -> Glob {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let closed = if variables && rest.starts_with("${") { rest.find('}') } else { None };
            let (token, length) = match (closed, first) {
                (Some(end), _) => (written(&rest[2..end]), end + 1),
                (None, '*') => (Token::Run, 1),
                (None, '?') => (Token::One, 1),
                (None, other) => (Token::Character(other), other.len_utf8()),
            };
            tokens.push(token);
            rest = &rest[length..];
        }
        Glob(tokens)
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|token| match token {
            Token::Variable(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether it matches all that `other` matches. May say no where the answer is yes, never the reverse.
    pub(super) fn covers(&self, other: &Glob) -> bool {
        let (wide, narrow) = (&self.0, &other.0);
        let (mut at, mut reached) = (0, 0);
        // Behind the last star, and how far that star has reached.
        let mut star: Option<(usize, usize)> = None;
        while reached < narrow.len() {
            if wide.get(at) == Some(&Token::Run) {
                at += 1;
                star = Some((at, reached));
            } else if wide.get(at).is_some_and(|token| token.stands_for(&narrow[reached])) {
                (at, reached) = (at + 1, reached + 1);
            } else if let Some((behind, until)) = star {
                (at, reached) = (behind, until + 1);
                star = Some((behind, until + 1));
            } else {
                return false;
            }
        }
        wide[at..].iter().all(|token| *token == Token::Run)
    }

    /// Whether some text matches both. May say yes where the answer is no, never the reverse.
    pub(super) fn overlaps(&self, other: &Glob) -> bool {
        let (one, two) = (&self.0, &other.0);
        // Whether the rest of `one` meets the rest of `two`, for each rest of `two`.
        let mut below = vec![false; two.len() + 1];
        for at in (0..=one.len()).rev() {
            let mut row = vec![false; two.len() + 1];
            for other_at in (0..=two.len()).rev() {
                row[other_at] = match (one.get(at), two.get(other_at)) {
                    (None, None) => true,
                    (Some(token), other) if token.is_elastic() => {
                        below[other_at] || (other.is_some() && row[other_at + 1])
                    }
                    (token, Some(other)) if other.is_elastic() => {
                        row[other_at + 1] || (token.is_some() && below[other_at])
                    }
                    (Some(token), Some(other)) => {
                        (token.stands_for(other) || other.stands_for(token)) && below[other_at + 1]
                    }
                    (None, Some(_)) | (Some(_), None) => false,
                };
            }
            below = row;
        }
        below[0]
    }
}

impl Token {
    /// Whether it matches whatever single thing `other` may be.
    fn stands_for(&self, other: &Token) -> bool {
        match self {
            Token::One => matches!(other, Token::Character(_) | Token::One),
            Token::Character(_) | Token::Variable(_) => self == other,
            Token::Run => false,
        }
    }

    fn is_elastic(&self) -> bool {
        matches!(self, Token::Run | Token::Variable(_))
    }
}

/// What stands between the braces of `${…}`: a literal character or a variable.
fn written(inside: &str) -> Token {
    match inside {
        "*" => Token::Character('*'),
        "?" => Token::Character('?'),
        "$" => Token::Character('$'),
        key => Token::Variable(key.to_lowercase()),
    }
}

/// A pattern of ARNs, segment by segment; a lone `*` matches also what is no ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ArnGlob {
    All,
    Parts(Vec<Glob>),
}

impl ArnGlob {
    const PARTS: usize = 6;

    /// Of a sound pattern; what is missing on its right is `*`.
    pub(super) fn new(text: &str, variables: bool) -> ArnGlob {
        if text == "*" {
            return ArnGlob::All;
        }
        let mut parts: Vec<Glob> =
            text.splitn(Self::PARTS, ':').map(|part| Glob::new(part, variables)).collect();
        parts.resize(Self::PARTS, Glob::new("*", false));
        ArnGlob::Parts(parts)
    }

    pub(super) fn covers(&self, other: &ArnGlob) -> bool {
        match (self, other) {
            (ArnGlob::All, _) => true,
            (ArnGlob::Parts(_), ArnGlob::All) => false,
            (ArnGlob::Parts(wide), ArnGlob::Parts(narrow)) => {
                wide.iter().zip(narrow).all(|(wide, narrow)| wide.covers(narrow))
            }
        }
    }

    pub(super) fn overlaps(&self, other: &ArnGlob) -> bool {
        match (self, other) {
            (ArnGlob::All, _) | (_, ArnGlob::All) => true,
            (ArnGlob::Parts(one), ArnGlob::Parts(two)) => {
                one.iter().zip(two).all(|(one, two)| one.overlaps(two))
            }
        }
    }

    pub(super) fn variables(&self) -> Vec<&str> {
        match self {
            ArnGlob::All => Vec::new(),
            ArnGlob::Parts(parts) => parts.iter().flat_map(Glob::variables).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ArnGlob, Glob};

    #[test]
    fn what_covers_matches_all_that_the_other_matches() {
        for (wide, narrow, expected) in [
            ("*", "", true),
            ("a*", "ab*", true),
            ("a*", "*", false),
            ("a*c", "ab*c", true),
            ("a*c", "abc*", false),
            ("a?c", "abc", true),
            ("a?c", "a?c", true),
            ("a?c", "a*c", false),
            ("*b*", "ab?", true),
            ("a*", "a${aws:username}", true),
            ("a?", "a${aws:username}", false),
            ("${AWS:username}/*", "${aws:username}/x", true),
            ("${aws:userid}", "${aws:username}", false),
            ("a${*}", "ab", false),
            ("a*b*", "a*b", true),
        ] {
            assert_eq!(Glob::new(wide, true).covers(&Glob::new(narrow, true)), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn what_overlaps_has_a_text_in_common() {
        for (one, two, expected) in [
            ("a*", "*b", true),
            ("a*", "b*", false),
            ("a?c", "ab*", true),
            ("ab", "a?c", false),
            ("${aws:username}/x", "alice/*", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            let (one_glob, two_glob) = (Glob::new(one, true), Glob::new(two, true));
            assert_eq!(one_glob.overlaps(&two_glob), expected, "{one} {two}");
            assert_eq!(two_glob.overlaps(&one_glob), expected, "{two} {one}");
        }
    }

    #[test]
    fn arns_are_compared_by_their_segments() {
        let arn = |text| ArnGlob::new(text, true);
        assert!(arn("arn:aws:ecr:*").covers(&arn("arn:aws:ecr:*:*:repository/a")));
        assert!(!arn("arn:aws:ecr:*:*:repository/*").covers(&arn("arn:aws:ecr:*")));
        assert!(!arn("arn:*").covers(&arn("*")));
        assert!(!arn("arn:aws:ecr:*:*:repository/*").overlaps(&arn("arn:aws:ecs:*:*:repository/*")));
    }
}
