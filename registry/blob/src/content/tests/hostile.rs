//! Whatever a replica, a row or a state holds, nothing panics and nothing wrong is released.

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_oneof, proptest};
use registry_types::Algorithm;

use super::{content, digest_of, domain, pull, push, replica, store_over};
use crate::cipher::Cipher;
use crate::content::state::Progress;
use crate::file_id::FileId;
use crate::format::footer::Footer;
use crate::format::header::Header;
use crate::format::runs::Runs;
use crate::format::{HEADER_LEN, record};
use crate::key_row::{KeyRow, SuspendedUpload};
use crate::pace::Pace;
use crate::store::memory::MemoryStore;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

/// Lengths that a row might claim, edges among them.
fn length() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..300_000,
        Just(0),
        Just(u64::MAX),
        Just(u64::MAX - 128),
        Just(crate::format::MAX_TOTAL_LEN),
        Just(crate::format::MAX_OBJECT_LEN),
    ]
}

/// One change to stored bytes.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Extend(Vec<u8>),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        any::<prop::sample::Index>().prop_map(Change::Cut),
        prop::collection::vec(any::<u8>(), 1..70_000).prop_map(Change::Extend),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..70_000)
            .prop_map(|(from, to, len)| Change::Copy(from, to, len)),
    ]
}

fn apply(change: &Change, stored: &mut Vec<u8>) {
    if stored.is_empty() {
        return;
    }
    let len = stored.len();
    match change {
        Change::Flip(at, bits) => stored[at.index(len)] ^= bits,
        Change::Cut(at) => stored.truncate(at.index(len)),
        Change::Extend(more) => stored.extend_from_slice(more),
        Change::Copy(from, to, count) => {
            let (from, to) = (from.index(len), to.index(len));
            let count = (*count).min(len - from.max(to));
            stored.copy_within(from..from + count, to);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_bytes_are_no_part_of_an_object(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let cipher = Cipher::new(&[1; 32]);
        prop_assert!(Header::parse(&bytes).is_err());
        prop_assert!(Footer::open(&cipher, &[0; HEADER_LEN], &bytes).is_err());
        prop_assert!(record::check_crc(&bytes).is_err());
        let _ = Footer::decode(&bytes);
        let _ = Progress::decode(&bytes);
        for records in [0, 1, 2, u64::MAX] {
            let _ = Runs::decode(&mut bytes.as_slice(), records);
        }
    }

    /// Plaintexts of footers that are almost well formed.
    #[test]
    fn arbitrary_footers_decode_or_do_not(
        total_len in length(),
        records in length(),
        code in 0u8..4,
        rest in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..200),
    ) {
        let bytes =
            [total_len.to_be_bytes().as_slice(), &records.to_be_bytes(), &[code], &rest].concat();
        if let Some(footer) = Footer::decode(&bytes) {
            prop_assert!(footer.total_len == total_len && (footer.runs.len() == 0) == (total_len == 0));
        }
    }

    #[test]
    fn arbitrary_object_under_an_arbitrary_row_is_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..1000),
        total_len in length(),
        object_len in length(),
        honest_len in any::<bool>(),
    ) {
        run(async {
            let memory = MemoryStore::default();
            let store = store_over(&memory).await;
            let file_id = FileId::from_bytes([3; 16]);
            let object_len = if honest_len { bytes.len() as u64 } else { object_len };
            memory.tamper(file_id, |stored| *stored = bytes);
            let row = KeyRow {
                domain: domain(),
                file_id,
                total_len,
                object_len,
                footer_sha256: [0; 32],
                epoch: 1,
                dek_id: [0; 16],
                wrap_nonce: [0; 12],
                wrapped: [0; 48],
            };
            let digest = digest_of(b"", Algorithm::Sha256);
            assert!(store.open(&row, &digest).await.is_err());
            assert!(!matches!(store.verify_plain(&replica(), &row, &Pace::unbounded()).await, Ok(None)));
            assert!(!matches!(store.verify_keyed(&replica(), &row, &digest, &Pace::unbounded()).await, Ok(None)));
        });
    }

    #[test]
    fn arbitrary_state_is_unknown(sealed in prop::collection::vec(any::<u8>(), 0..600), version in any::<bool>()) {
        run(async {
            let store = store_over(&MemoryStore::default()).await;
            let mut sealed = sealed;
            if version && let Some(first) = sealed.first_mut() {
                *first = 1;
            }
            let state = SuspendedUpload { file_id: FileId::from_bytes([3; 16]), epoch: 1, sealed };
            assert!(store.resume(&domain(), &state, "uid", "lease", 0).await.is_err());
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A changed object gives the right bytes or none, and scrub sees every change.
    #[test]
    fn changed_object_gives_the_right_bytes_or_an_error(
        len in prop_oneof![Just(0usize), 1usize..300_000, Just(131_072)],
        changes in prop::collection::vec(change(), 1..4),
    ) {
        run(async {
            let memory = MemoryStore::default();
            let store = store_over(&memory).await;
            let bytes = content(len);
            let sealed = push(&store, &bytes).await.unwrap();
            let before = memory.bytes(sealed.row.file_id).unwrap();
            memory.tamper(sealed.row.file_id, |stored| changes.iter().for_each(|change| apply(change, stored)));
            let same = memory.bytes(sealed.row.file_id).unwrap() == before;
            match pull(&store, &sealed.row, &sealed.digest).await {
                Ok(pulled) => assert!(pulled == bytes),
                Err(_) => assert!(!same),
            }
            let damage = store.verify_keyed(&replica(), &sealed.row, &sealed.digest, &Pace::unbounded()).await.unwrap();
            assert_eq!(damage.is_none(), same);
        });
    }
}
