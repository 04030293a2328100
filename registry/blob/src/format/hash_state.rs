//! Hashing content, and carrying a half-finished hash from one request to the next.
//!
//! `sha2` keeps the layout of its state within one minor version; the version byte stands for 0.11.
//! State of another version is refused, and the client starts over.

use registry_types::{Algorithm, Digest};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest as _, Sha256, Sha512};

use super::footer::take;

/// Layout of the states of `sha2` 0.11.
const VERSION: u8 = 1;
const SHA256_STATE: usize = 104;
const SHA512_STATE: usize = 208;

/// A running hash of content.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hash) => Digest::from_hash(Algorithm::Sha256, &hash.finalize()),
            Self::Sha512(hash) => Digest::from_hash(Algorithm::Sha512, &hash.finalize()),
        }
    }

    /// version, algorithm, state. Holds up to 127 bytes of plaintext: to be sealed.
    pub(crate) fn export(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&[VERSION, self.algorithm().code()]);
        match self {
            Self::Sha256(hash) => output.extend_from_slice(&hash.serialize()),
            Self::Sha512(hash) => output.extend_from_slice(&hash.serialize()),
        }
    }

    /// Reads what `export` wrote off the front of `input`; `None` for another version.
    pub(crate) fn import(input: &mut &[u8]) -> Option<Self> {
        match take(input)? {
            [VERSION, 1] => Some(Self::Sha256(restore::<Sha256, SHA256_STATE>(input)?)),
            [VERSION, 2] => Some(Self::Sha512(restore::<Sha512, SHA512_STATE>(input)?)),
            _ => None,
        }
    }
}

fn restore<H: SerializableState, const N: usize>(input: &mut &[u8]) -> Option<H> {
    let bytes = take::<N>(input)?;
    let state = SerializedState::<H>::try_from(bytes.as_slice()).ok()?;
    H::deserialize(&state).ok()
}

#[cfg(test)]
mod tests {
    use registry_types::Algorithm;

    use super::Hasher;

    #[test]
    fn hash_goes_on_from_its_exported_state() {
        let content: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        for (algorithm, state_len) in [(Algorithm::Sha256, 104), (Algorithm::Sha512, 208)] {
            let mut whole = Hasher::new(algorithm);
            whole.update(&content);
            let whole = whole.finish();
            for cut in [0, 1, 63, 64, 65, 127, 128, 129, 999, 1000] {
                let mut first = Hasher::new(algorithm);
                first.update(&content[..cut]);
                let mut state = Vec::new();
                first.export(&mut state);
                assert_eq!(state.len(), 2 + state_len);
                let mut second = Hasher::import(&mut state.as_slice()).unwrap();
                second.update(&content[cut..]);
                assert_eq!(second.finish(), whole, "{algorithm} cut at {cut}");
            }
        }
    }

    /// Frozen: a change of `sha2`'s layout must come with a new version byte.
    #[test]
    fn state_layout_is_the_frozen_one() {
        let mut hash = Hasher::new(Algorithm::Sha256);
        hash.update(b"abc");
        let mut state = Vec::new();
        hash.export(&mut state);
        assert_eq!(hex::encode(&state[..46]), FROZEN);
        assert!(state[46..].iter().all(|byte| *byte == 0));
    }

    /// version, algorithm | eight words, little-endian | blocks so far | bytes in the buffer, the buffer
    const FROZEN: &str = concat!(
        "0101",
        "67e6096a85ae67bb72f36e3c3af54fa57f520e518c68059babd9831f19cde05b",
        "0000000000000000",
        "03616263"
    );

    #[test]
    fn other_versions_and_cut_states_are_refused() {
        let mut state = Vec::new();
        Hasher::new(Algorithm::Sha256).export(&mut state);
        let mut newer = state.clone();
        newer[0] = 2;
        assert!(Hasher::import(&mut newer.as_slice()).is_none());
        for cut in 0..state.len() {
            assert!(Hasher::import(&mut &state[..cut]).is_none());
        }
    }
}
