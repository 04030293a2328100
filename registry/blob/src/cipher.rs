//! AES-256-GCM for the bulk of the data: the only module that sees `ring`.
//!
//! Nonces and keys come from getrandom(2) at the moment they are used, never from a generator in user
//! space, which a fork or a snapshot of a virtual machine would repeat.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

pub(crate) const KEY_LEN: usize = 32;
pub(crate) const NONCE_LEN: usize = 12;
pub(crate) const TAG_LEN: usize = 16;

/// The bytes are not what was sealed under this key, nonce and context.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadTag;

/// One key, expanded.
pub(crate) struct Cipher(LessSafeKey);

impl Cipher {
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Seals `in_out` in place and returns the tag. At most 2^32 random nonces for one key.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = self
            .0
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), in_out)
            .expect("no stretch sealed here comes near the 64 GiB limit of GCM");
        tag.as_ref().try_into().expect("a GCM tag has 16 bytes")
    }

    /// Opens the ciphertext and tag at `in_out[from..]` and moves the plaintext to the front of
    /// `in_out`; returns its length. What is left behind it is of no use.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        from: usize,
    ) -> Result<usize, BadTag> {
        self.0
            .open_within(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), in_out, from..)
            .map(|plaintext| plaintext.len())
            .map_err(|_| BadTag)
    }
}

/// Random bytes from the operating system.
///
/// # Panics
/// When getrandom(2) fails, which it does not on a running Linux: sealing without randomness would be
/// worse than stopping.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("getrandom(2) works on a running system");
    bytes
}

#[cfg(test)]
mod tests {
    use aes_gcm::aead::{Aead, KeyInit, Payload};
    use aes_gcm::{Aes256Gcm, Nonce};

    use super::{BadTag, Cipher, random};

    #[test]
    fn ring_and_aes_gcm_open_what_the_other_sealed() {
        for len in [0, 1, 15, 16, 17, 255, 4096, 65_536] {
            let (key, nonce, aad): ([u8; 32], [u8; 12], [u8; 40]) = (random(), random(), random());
            let plaintext: Vec<u8> = (0..len).map(|i: usize| (i * 31 % 251) as u8).collect();
            let other = Aes256Gcm::new(&key.into());
            let theirs = other.encrypt(&Nonce::from(nonce), Payload { msg: &plaintext, aad: &aad }).unwrap();

            let ours = Cipher::new(&key);
            let mut sealed = plaintext.clone();
            let tag = ours.seal(&nonce, &aad, &mut sealed);
            sealed.extend_from_slice(&tag);
            assert_eq!(sealed, theirs, "{len}");

            let mut shifted = vec![0xaa; 12];
            shifted.extend_from_slice(&theirs);
            let opened = ours.open(&nonce, &aad, &mut shifted, 12).unwrap();
            assert_eq!(&shifted[..opened], plaintext, "{len}");
        }
    }

    /// Cases 13, 14, 15 and 16 of the GCM specification (McGrew and Viega, appendix B), which NIST's
    /// and Wycheproof's collections contain.
    #[test]
    fn published_vectors_hold() {
        let key16 = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
        let text16 = concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24",
            "49a6b525b16aedf5aa0de657ba637b391aafd255"
        );
        let sealed16 = concat!(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10",
            "56828838c5f61e6393ba7a0abcc9f662898015ad"
        );
        let zero = "00".repeat(32);
        let cases = [
            (zero.as_str(), "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
            (
                zero.as_str(),
                "000000000000000000000000",
                "00000000000000000000000000000000",
                "",
                "cea7403d4d606b6e074ec5d3baf39d18",
                "d0d1c8a799996bf0265b98b5d48ab919",
            ),
            (key16, "cafebabefacedbaddecaf888", text16, "", sealed16, "b094dac5d93471bdec1a502270e3cc6c"),
            (
                key16,
                "cafebabefacedbaddecaf888",
                &text16[..120],
                "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                &sealed16[..120],
                "76fc6ece0f4e1768cddf8853bb2d551b",
            ),
        ];
        for (key, nonce, text, aad, sealed, tag) in cases {
            let bytes = |text: &str| hex::decode(text).unwrap();
            let cipher = Cipher::new(&bytes(key).try_into().unwrap());
            let nonce = bytes(nonce).try_into().unwrap();
            let mut in_out = bytes(text);
            let found = cipher.seal(&nonce, &bytes(aad), &mut in_out);
            assert_eq!(hex::encode(&in_out), sealed);
            assert_eq!(hex::encode(found), tag);
            in_out.extend_from_slice(&found);
            in_out[0] ^= 1;
            assert_eq!(cipher.open(&nonce, &bytes(aad), &mut in_out, 0), Err(BadTag));
        }
    }
}
