//! Matching `*` and `?` without backtracking over stars.
//!
//! A pattern is cut at its stars. The first piece is anchored to the start, the last to the end, and
//! every piece between takes its leftmost place in what is left: for this language leftmost is always
//! right, so no choice is ever taken back. A piece without `?` is found by linear substring search; one
//! with `?` is compared in blocks under a mask, which the compiler vectorizes.

use std::ops::{BitAnd, BitOrAssign, BitXor};

/// The code must be equal.
pub(super) const LITERAL: u8 = 0xFF;
/// Any one character. Zero and [`LITERAL`] serve as masks in comparisons.
pub(super) const ONE: u8 = 0x00;
/// Any run of characters, an empty one too.
pub(super) const RUN: u8 = 0x01;

/// UTF-8 bytes, each with what it stands for; a wildcard takes one entry.
#[derive(Debug, Default)]
pub(super) struct Flat {
    codes: Vec<u8>,
    kinds: Vec<u8>,
}

impl Flat {
    pub(super) fn push_char(&mut self, character: char, kind: u8) {
        if kind == RUN && self.kinds.last() == Some(&RUN) {
            return;
        }
        let mut buffer = [0; 4];
        for byte in character.encode_utf8(&mut buffer).bytes() {
            self.codes.push(byte);
            self.kinds.push(kind);
        }
    }

    pub(super) fn codes(&self) -> &[u8] {
        &self.codes
    }

    pub(super) fn kinds(&self) -> &[u8] {
        &self.kinds
    }

    /// The text up to the first wildcard.
    pub(super) fn fixed_beginning(&self) -> &str {
        let fixed = self.kinds.iter().position(|kind| *kind != LITERAL).unwrap_or(self.kinds.len());
        std::str::from_utf8(&self.codes[..fixed]).expect("characters were pushed whole")
    }

    pub(super) fn literal_text(&self) -> String {
        let literal = self.codes.iter().zip(&self.kinds).filter(|(_, kind)| **kind == LITERAL);
        let bytes = literal.map(|(code, _)| *code).collect();
        String::from_utf8(bytes).expect("characters were pushed whole")
    }
}

/// Whether the whole text matches.
pub(super) fn matches(codes: &[u8], kinds: &[u8], text: &str) -> bool {
    // `?` stands for a character, not a byte. Where the two differ, compare characters.
    if kinds.contains(&ONE) && !(text.is_ascii() && codes.is_ascii()) {
        return matches_wide(codes, kinds, text);
    }
    run(codes, kinds, text.as_bytes())
}

fn matches_wide(codes: &[u8], kinds: &[u8], text: &str) -> bool {
    let Ok(pattern) = std::str::from_utf8(codes) else { return false };
    let (wide_kinds, wide_codes): (Vec<u8>, Vec<u32>) =
        pattern.char_indices().map(|(index, character)| (kinds[index], u32::from(character))).unzip();
    let wide_text: Vec<u32> = text.chars().map(u32::from).collect();
    run(&wide_codes, &wide_kinds, &wide_text)
}

fn run<T: Unit>(codes: &[T], kinds: &[u8], text: &[T]) -> bool {
    let Some(first) = kinds.iter().position(|kind| *kind == RUN) else {
        return codes.len() == text.len() && equal(codes, kinds, text);
    };
    let last = kinds.iter().rposition(|kind| *kind == RUN).expect("one was just found");
    let tail = codes.len() - last - 1;
    if text.len() < first + tail {
        return false;
    }
    let (body, end) = text.split_at(text.len() - tail);
    if !equal(&codes[..first], &kinds[..first], &body[..first])
        || !equal(&codes[last + 1..], &kinds[last + 1..], end)
    {
        return false;
    }
    let mut rest = &body[first..];
    let mut from = first + 1;
    while from <= last {
        let length = kinds[from..=last].iter().position(|kind| *kind == RUN).expect("last is a star");
        let piece = from..from + length;
        match find(&codes[piece.clone()], &kinds[piece], rest) {
            Some(place) => rest = &rest[place + length..],
            None => return false,
        }
        from += length + 1;
    }
    true
}

fn find<T: Unit>(codes: &[T], kinds: &[u8], text: &[T]) -> Option<usize> {
    if !kinds.contains(&ONE) {
        return T::find_literal(text, codes);
    }
    let last = text.len().checked_sub(codes.len())?;
    // What told one place from a match tells most of the next ones, too: a hostile text is passed over quickly.
    let mut telling = 0..codes.len().min(BLOCK);
    for place in 0..=last {
        let window = &text[place..place + codes.len()];
        if difference(&codes[telling.clone()], &kinds[telling.clone()], &window[telling.clone()]).is_some() {
            continue;
        }
        match difference(codes, kinds, window) {
            None => return Some(place),
            Some(block) => telling = block..codes.len().min(block + BLOCK),
        }
    }
    None
}

/// Blocks of a fixed size without an exit inside become vector instructions.
const BLOCK: usize = 64;

fn equal<T: Unit>(codes: &[T], kinds: &[u8], text: &[T]) -> bool {
    difference(codes, kinds, text).is_none()
}

/// Compares texts of equal length, masking what may be any character: where the first block begins that differs.
fn difference<T: Unit>(codes: &[T], kinds: &[u8], text: &[T]) -> Option<usize> {
    let (code_blocks, last_codes) = codes.as_chunks::<BLOCK>();
    let (kind_blocks, last_kinds) = kinds.as_chunks::<BLOCK>();
    let (text_blocks, last_text) = text.as_chunks::<BLOCK>();
    for (number, ((codes, kinds), text)) in code_blocks.iter().zip(kind_blocks).zip(text_blocks).enumerate() {
        let mut difference = T::default();
        for index in 0..BLOCK {
            difference |= (codes[index] ^ text[index]) & T::mask(kinds[index]);
        }
        if difference != T::default() {
            return Some(number * BLOCK);
        }
    }
    let last = last_codes.iter().zip(last_kinds).zip(last_text);
    let mut last = last.map(|((code, kind), unit)| (*code ^ *unit) & T::mask(*kind));
    let same = last.all(|difference| difference == T::default());
    (!same).then(|| code_blocks.len() * BLOCK)
}

/// What patterns are compared in: bytes, or code points where `?` meets text beyond ASCII.
trait Unit: Copy + Default + Eq + BitAnd<Output = Self> + BitXor<Output = Self> + BitOrAssign {
    /// All ones for [`LITERAL`], zero for [`ONE`].
    fn mask(kind: u8) -> Self;
    fn find_literal(text: &[Self], literal: &[Self]) -> Option<usize>;
}

impl Unit for u8 {
    #[inline]
    fn mask(kind: u8) -> u8 {
        kind
    }

    fn find_literal(text: &[u8], literal: &[u8]) -> Option<usize> {
        memchr::memmem::find(text, literal)
    }
}

impl Unit for u32 {
    #[inline]
    fn mask(kind: u8) -> u32 {
        u32::from_ne_bytes([kind; 4])
    }

    fn find_literal(text: &[u32], literal: &[u32]) -> Option<usize> {
        let last = text.len().checked_sub(literal.len())?;
        (0..=last).find(|place| text[*place..].starts_with(literal))
    }
}
