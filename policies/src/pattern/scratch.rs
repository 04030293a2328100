//! Room on the stack for a pattern whose variables have been filled in.

use super::glob::{Flat, LITERAL, RUN};

/// Longer patterns go to the heap. ARNs and the usual tag values fit.
const ROOM: usize = 384;

pub(super) struct Scratch {
    codes: [u8; ROOM],
    kinds: [u8; ROOM],
    length: usize,
    spilled: Option<(Vec<u8>, Vec<u8>)>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Scratch { codes: [0; ROOM], kinds: [0; ROOM], length: 0, spilled: None }
    }

    /// Adds bytes that all stand for the same.
    pub(super) fn push(&mut self, bytes: &[u8], kind: u8) {
        debug_assert!(kind != RUN || bytes.len() == 1);
        let end = self.length + bytes.len();
        if self.spilled.is_none() && end <= ROOM {
            self.codes[self.length..end].copy_from_slice(bytes);
            self.kinds[self.length..end].fill(kind);
            self.length = end;
            return;
        }
        let (codes, kinds) = self.spill();
        codes.extend_from_slice(bytes);
        kinds.resize(codes.len(), kind);
    }

    pub(super) fn push_flat(&mut self, flat: &Flat) {
        let end = self.length + flat.codes().len();
        if self.spilled.is_none() && end <= ROOM {
            self.codes[self.length..end].copy_from_slice(flat.codes());
            self.kinds[self.length..end].copy_from_slice(flat.kinds());
            self.length = end;
            return;
        }
        let (codes, kinds) = self.spill();
        codes.extend_from_slice(flat.codes());
        kinds.extend_from_slice(flat.kinds());
    }

    pub(super) fn codes(&self) -> &[u8] {
        self.spilled.as_ref().map_or(&self.codes[..self.length], |(codes, _)| codes)
    }

    pub(super) fn kinds(&self) -> &[u8] {
        self.spilled.as_ref().map_or(&self.kinds[..self.length], |(_, kinds)| kinds)
    }

    /// For patterns without wildcards.
    pub(super) fn text(&self) -> &str {
        debug_assert!(self.kinds().iter().all(|kind| *kind == LITERAL));
        std::str::from_utf8(self.codes()).expect("pieces are whole strings")
    }

    fn spill(&mut self) -> &mut (Vec<u8>, Vec<u8>) {
        let (codes, kinds, length) = (&self.codes, &self.kinds, self.length);
        self.spilled.get_or_insert_with(|| (codes[..length].to_vec(), kinds[..length].to_vec()))
    }
}
