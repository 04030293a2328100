//! What makes the lines of one log a chain.
//!
//! Each line ends with its number and a MAC over the line before's MAC and itself, under a key that the next line
//! advances and erases. About every minute a checkpoint signs the last MAC with a key that is then erased, names
//! the key of the next signature, and tells the key that the lines since the checkpoint before began with, so
//! that anybody can check them. Invariant: whoever takes over the server can forge no line that a checkpoint
//! covers, for what signed it is gone.

use hmac::{Hmac, KeyInit, Mac as _};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::line;

/// MAC of a line; that of line 0, before the first, is all zeros.
pub(crate) type Head = [u8; 32];

const ADVANCE: &[u8] = b"berth audit: next key";
/// `{"time":"2026-11-23T03:48:01.123Z"`
const TIME_MEMBER: usize = 34;
const SIGNED: &[u8] = b"berth audit: checkpoint\n";

/// The key under which the next line is written.
#[derive(Clone)]
pub(crate) struct LineKey(Zeroizing<[u8; 32]>);

impl LineKey {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    pub(crate) fn random() -> Self {
        Self::new(registry_runtime::random_bytes())
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// MAC of `line` (up to and with its number, without the MAC) after a line with the MAC `head`; the key
    /// becomes that of the next line.
    pub(crate) fn mac(&mut self, head: &Head, line: &[u8]) -> Head {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of every length");
        mac.update(head);
        mac.update(line);
        self.advance();
        mac.finalize().into_bytes().into()
    }

    /// The key of the line after.
    pub(crate) fn advance(&mut self) {
        *self.0 = Sha256::new().chain_update(ADVANCE).chain_update(self.0.as_slice()).finalize().into();
    }
}

/// Where a chain stands.
#[derive(Clone)]
pub(crate) struct Position {
    /// Number and MAC of the last line.
    pub(crate) number: u64,
    pub(crate) head: Head,
    pub(crate) key: LineKey,
}

impl Position {
    /// Appends a line that has been begun, `{…` without its closing brace, with its number and MAC.
    pub(crate) fn link(&mut self, out: &mut Vec<u8>, line: &str) {
        let begins_at = out.len();
        out.extend_from_slice(line.as_bytes());
        self.number += 1;
        out.extend_from_slice(SEQ_MEMBER);
        out.extend_from_slice(self.number.to_string().as_bytes());
        self.head = self.key.mac(&self.head, &out[begins_at..]);
        out.extend_from_slice(MAC_MEMBER);
        out.extend_from_slice(hex::encode(self.head).as_bytes());
        out.extend_from_slice(b"\"}\n");
    }
}

const SEQ_MEMBER: &[u8] = b",\"seq\":";
const MAC_MEMBER: &[u8] = b",\"mac\":\"";
/// `,"mac":"` + 64 hexadecimal digits + `"}`
const MAC_LENGTH: usize = MAC_MEMBER.len() + 64 + 2;

/// A line as it lies in the log, without its line break.
pub(crate) struct Linked<'a> {
    /// What the MAC covers.
    pub(crate) covered: &'a [u8],
    pub(crate) number: u64,
    pub(crate) mac: Head,
}

impl<'a> Linked<'a> {
    /// None for what is no line of a chain.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let (covered, rest) = line.split_at(line.len().checked_sub(MAC_LENGTH)?);
        let mac = rest.strip_prefix(MAC_MEMBER)?.strip_suffix(b"\"}")?;
        let mut head = [0; 32];
        hex::decode_to_slice(mac, &mut head).ok()?;
        let digits = covered.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let (before, number) = covered.split_at(covered.len() - digits);
        if !before.ends_with(SEQ_MEMBER) {
            return None;
        }
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        Some(Self { covered, number, mac: head })
    }
}

/// What signs the next checkpoint.
pub(crate) struct SigningKey {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice())
            .expect("32 bytes are the seed of an Ed25519 key");
        Self { seed, pair }
    }

    pub(crate) fn random() -> Self {
        Self::from_seed(registry_runtime::random_bytes())
    }

    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        self.pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }
}

/// The signed state of a chain, itself a line of it. Bytes are in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// `2026-11-23T03:48:01.123Z`
    pub(crate) time: String,
    pub(crate) chain: String,
    /// 0 for the one that a chain begins with.
    pub(crate) checkpoint: u64,
    /// Number and MAC of the last line that it covers.
    pub(crate) covers: u64,
    #[serde(with = "hex::serde")]
    pub(crate) head: Head,
    /// The key that the lines since the checkpoint before began with.
    #[serde(with = "hex::serde")]
    pub(crate) key: [u8; 32],
    /// The public key of the next checkpoint's signature.
    #[serde(with = "hex::serde")]
    pub(crate) next: [u8; 32],
    #[serde(with = "hex::serde")]
    signature: [u8; 64],
}

impl Checkpoint {
    /// The first of a chain, which vouches for its own key.
    pub(crate) fn genesis(chain: &str, now_ms: i64, next: &SigningKey) -> Self {
        let first = Self {
            time: line::time(now_ms),
            chain: chain.to_owned(),
            checkpoint: 0,
            covers: 0,
            head: [0; 32],
            key: [0; 32],
            next: next.public(),
            signature: [0; 64],
        };
        first.signed(next)
    }

    /// The one after this, which covers everything up to `position`.
    pub(crate) fn following(
        &self,
        now_ms: i64,
        covers: (u64, Head),
        key: [u8; 32],
        signer: &SigningKey,
        next: &SigningKey,
    ) -> Self {
        let following = Self {
            time: line::time(now_ms),
            chain: self.chain.clone(),
            checkpoint: self.checkpoint + 1,
            covers: covers.0,
            head: covers.1,
            key,
            next: next.public(),
            signature: [0; 64],
        };
        following.signed(signer)
    }

    fn signed(mut self, key: &SigningKey) -> Self {
        let signature = key.pair.sign(&self.message());
        self.signature.copy_from_slice(signature.as_ref());
        self
    }

    /// Whether the key of the checkpoint before signed this one (its own, for the first).
    pub(crate) fn is_signed_by(&self, public: &[u8; 32]) -> bool {
        UnparsedPublicKey::new(&ED25519, public).verify(&self.message(), &self.signature).is_ok()
    }

    fn message(&self) -> Vec<u8> {
        let mut message = SIGNED.to_vec();
        message.extend((self.chain.len() as u64).to_be_bytes());
        message.extend(self.chain.as_bytes());
        message.extend(self.time.as_bytes());
        message.extend(self.checkpoint.to_be_bytes());
        message.extend(self.covers.to_be_bytes());
        message.extend(self.head);
        message.extend(self.key);
        message.extend(self.next);
        message
    }

    /// The line of the log, begun but not ended.
    pub(crate) fn begun_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("a checkpoint has only strings and numbers");
        line.pop();
        line
    }

    /// None for every other line.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let after_time = line.get(TIME_MEMBER..)?;
        if !after_time.starts_with(b",\"chain\":") {
            return None;
        }
        serde_json::from_slice(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Checkpoint, LineKey, Linked, Position, SigningKey};

    #[test]
    fn a_line_tells_its_number_and_mac_and_what_they_cover() {
        let mut position = Position { number: 41, head: [7; 32], key: LineKey::new([1; 32]) };
        let mut line = b"before".to_vec();
        position.link(&mut line, "{\"operation\":\"Ping\"");
        let line = String::from_utf8(line.split_off(6)).unwrap();
        let linked = Linked::parse(line.trim_end().as_bytes()).unwrap();
        assert_eq!((linked.number, linked.mac), (42, position.head));
        assert_eq!(LineKey::new([1; 32]).mac(&[7; 32], linked.covered), position.head);
        assert_ne!(LineKey::new([1; 32]).mac(&[8; 32], linked.covered), position.head);
        assert_ne!(position.key.expose(), &[1; 32], "the key has moved on");
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        for wrong in ["", "{}", "{\"seq\":1}", &line.trim_end()[1..40]] {
            assert!(Linked::parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_checkpoint_is_vouched_for_by_the_one_before_and_by_no_other() {
        let (first, second, third) = (SigningKey::random(), SigningKey::random(), SigningKey::random());
        let genesis = Checkpoint::genesis("c", 1, &first);
        assert!(genesis.is_signed_by(&genesis.next));
        let next = genesis.following(2, (9, [3; 32]), [4; 32], &first, &second);
        assert!(next.is_signed_by(&genesis.next));
        assert!(!next.is_signed_by(&third.public()));
        let line = next.begun_line() + "}";
        let read = Checkpoint::parse(line.as_bytes()).unwrap();
        assert_eq!(read, next);
        for changed in [
            Checkpoint { covers: 8, ..next.clone() },
            Checkpoint { head: [9; 32], ..next.clone() },
            Checkpoint { next: third.public(), ..next.clone() },
            Checkpoint { chain: "d".to_owned(), ..next.clone() },
            Checkpoint { time: genesis.time.clone(), ..next.clone() },
        ] {
            assert!(!changed.is_signed_by(&genesis.next));
        }
    }
}
