//! Frozen vectors, and a second reader written straight from the specification.
//!
//! An object that was written once stays readable: a change that breaks one of these is a new format
//! version, not a fix. The frozen objects were also opened by a third implementation, in Python.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use registry_runtime::KeyProvider;
use registry_types::Algorithm;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{TestKeys, content, digest_of, domain, pull, push, store_over};
use crate::file_id::FileId;
use crate::format::footer::Footer;
use crate::format::header::Header;
use crate::format::record;
use crate::format::runs::Runs;
use crate::key_row::{Domain, KeyRow};
use crate::keys::wrap::{Kek, blob_context};
use crate::pace::Pace;
use crate::store::memory::MemoryStore;

/// The object of `content(len)` with every random value fixed, and its row. Records from the second on
/// belong to a second run.
fn frozen(len: usize, algorithm: Algorithm) -> (Vec<u8>, KeyRow) {
    let (file_id, dek_id, salt) = (FileId::from_bytes([0xf1; 16]), [0xd1; 16], [0x5a; 32]);
    let dek = Zeroizing::new([0xde; 32]);
    let (header, keys) = Header::build(file_id, &dek_id, domain().id(), &salt, &dek);
    let mut stored = header.as_bytes().to_vec();
    let (mut runs, mut seals) = (Runs::default(), Sha256::new());
    let bytes = content(len);
    for (index, plaintext) in bytes.chunks(65_536).enumerate() {
        let run = if index == 0 { [0xa0; 16] } else { [0xa1; 16] };
        if index < 2 {
            assert!(runs.begin(index as u64, run));
        }
        let mut slot = vec![0; plaintext.len() + 32];
        slot[12..12 + plaintext.len()].copy_from_slice(plaintext);
        let aad = record::associated_data(file_id, &run, index as u64);
        record::seal_with_nonce(&keys.record, &aad, &mut slot, &mut seals, &[index as u8; 12]);
        stored.extend_from_slice(&slot);
    }
    let digest = digest_of(&bytes, algorithm);
    let footer =
        Footer { total_len: len as u64, digest: digest.clone(), seals_sha256: seals.finalize().into(), runs };
    let footer = footer.seal_with_nonce(&keys.footer, header.as_bytes(), &[0xf0; 12]);
    stored.extend_from_slice(&footer);
    let secret = TestKeys.secret(Domain::DEFAULT, 1).unwrap();
    let kek = Kek::derive(secret.expose(), domain().id(), 1);
    let context = blob_context(&domain(), &dek_id, file_id, len as u64, &digest);
    let wrapped = kek.wrap_with_nonce(&dek_id, &dek, &context, [0xe0; 12]);
    let row = KeyRow {
        domain: domain(),
        file_id,
        total_len: len as u64,
        object_len: stored.len() as u64,
        footer_sha256: Sha256::digest(&footer).into(),
        epoch: 1,
        dek_id,
        wrap_nonce: wrapped.nonce,
        wrapped: wrapped.bytes,
    };
    (stored, row)
}

/// Length and algorithm of a blob, SHA-256 of its object, and its wrapped key.
const FROZEN: [(usize, Algorithm, &str, &str); 4] = [
    (
        0,
        Algorithm::Sha256,
        "f1fd3695072e944b2cd4f17676c560100802382890d4d829776c4f9459cc3a31",
        "41e30b730d86537108b9a209eccebf87b537528f3a2f86fa51aefe9586e62286466af6766adb6567ba3decbe86a772e0",
    ),
    (
        1,
        Algorithm::Sha256,
        "0f2833e6f16cbfdac0602a918a4660853880c3d35f4f696a4c201db1363e8146",
        "41e30b730d86537108b9a209eccebf87b537528f3a2f86fa51aefe9586e622864ac009d3068a3de8a73b6f3b19909000",
    ),
    (
        65_537,
        Algorithm::Sha256,
        "bbe5d0854f77460ee6d10a7056d740b3ab51ac12bd7d86586b2bc23854daf759",
        "41e30b730d86537108b9a209eccebf87b537528f3a2f86fa51aefe9586e62286e1373331647fdbf735fc89dc60705cb1",
    ),
    (
        200_000,
        Algorithm::Sha512,
        "be239082df75dc80961b47afb5d29b4a6062d7e2f51a98d7d5b0228537e3a738",
        "41e30b730d86537108b9a209eccebf87b537528f3a2f86fa51aefe9586e6228659213d60eda2d1d20f8e198f1c113e04",
    ),
];

/// The object of one byte, whole.
const ONE_BYTE: &str = concat!(
    "4252463101011000f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1f7da06df736d9fa0",
    "605da7c6bf6b56385a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5aa4b54d67aafb73ae",
    "079d54424ac2bbc065d8d5aeb37098752647e6b8b6b6b6e1e5353b8400000000000000000000000000000000d8b203bf",
    "1c67be3b3d63e299b103f784e57cb74414f0f0f0f0f0f0f0f0f0f0f0f0612beff60ba82d18a0e43e3a8fa25dbc005ae4",
    "5bef3f9d7f28b0ca4bcc27b7c6fae7e3641dfbc66969e5658c56adc2ce061a3d78799654519b8a48edc03eb57f7f8d94",
    "980578dd67f8f222a6f23d84909f6d59631c73022f756d5b31457aff1930f2c6f47d71a7646ab69deef1d4cc80970d62",
    "a01be3520990b74cc0c10b3e3bd4"
);

#[test]
fn objects_are_the_frozen_ones() {
    for (len, algorithm, object, wrapped) in FROZEN {
        let (stored, row) = frozen(len, algorithm);
        assert_eq!(hex::encode(Sha256::digest(&stored)), object, "{len} {algorithm}");
        assert_eq!(hex::encode(row.wrapped), wrapped, "{len} {algorithm}");
    }
    assert_eq!(hex::encode(frozen(1, Algorithm::Sha256).0), ONE_BYTE);
}

#[tokio::test]
async fn frozen_objects_open() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    for (len, algorithm, _, _) in FROZEN {
        let (stored, row) = frozen(len, algorithm);
        memory.tamper(row.file_id, |object| *object = stored);
        let digest = digest_of(&content(len), algorithm);
        assert!(pull(&store, &row, &digest).await.unwrap() == content(len));
        assert_eq!(
            store.verify_keyed(&super::replica(), &row, &digest, &Pace::unbounded()).await.unwrap(),
            None
        );
    }
}

#[tokio::test]
async fn second_reader_opens_what_is_sealed() {
    let memory = MemoryStore::default();
    let store = store_over(&memory).await;
    for len in [0, 1, 65_535, 65_536, 65_537, 300_000] {
        let sealed = push(&store, &content(len)).await.unwrap();
        let stored = memory.bytes(sealed.row.file_id).unwrap();
        assert!(read_naively(&stored, &sealed.row) == content(len));
    }
    for (len, algorithm, _, _) in FROZEN {
        let (stored, row) = frozen(len, algorithm);
        assert!(read_naively(&stored, &row) == content(len));
    }
}

/// Section 3.3 of the specification, read top to bottom with `aes-gcm`. Panics at anything unexpected.
fn read_naively(stored: &[u8], row: &KeyRow) -> Vec<u8> {
    let expand = |key: &[u8], salt: &[u8], info: &[u8]| {
        let mut output = [0; 64];
        Hkdf::<Sha256>::new(Some(salt), key).expand(info, &mut output).unwrap();
        output
    };
    let open = |key: &[u8], nonce: &[u8], msg: &[u8], aad: &[u8]| {
        let nonce: [u8; 12] = nonce.try_into().unwrap();
        let cipher = Aes256Gcm::new_from_slice(key).unwrap();
        cipher.decrypt(&Nonce::from(nonce), Payload { msg, aad }).unwrap()
    };
    let header = &stored[..128];
    assert_eq!(header[..8], *b"BRF1\x01\x01\x10\x00");
    let (file_id, dek_id, domain_id) = (&header[8..24], &header[24..40], &header[40..56]);

    let secret = TestKeys.secret(Domain::DEFAULT, 1).unwrap();
    let kek = expand(secret.expose(), domain_id, &[b"brf1-kek".as_slice(), &1u32.to_be_bytes()].concat());
    let wrapping = expand(&kek[..32], &[0; 32], dek_id);
    let footer_at = 128 + row.total_len as usize + 32 * row.total_len.div_ceil(65_536) as usize;
    let footer = &stored[footer_at..];

    // The digest stands in the footer, whose key needs the data key, whose wrapping needs the digest:
    // whoever reads knows it.
    let content = content(row.total_len as usize);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = digest_of(&content, algorithm);
        let aad = [
            b"brf1-wrap".as_slice(),
            domain_id,
            dek_id,
            file_id,
            &row.total_len.to_be_bytes(),
            &[algorithm.code()],
            &digest.hash(),
        ]
        .concat();
        let nonce = Nonce::from(row.wrap_nonce);
        let cipher = Aes256Gcm::new_from_slice(&wrapping[..32]).unwrap();
        let Ok(dek) = cipher.decrypt(&nonce, Payload { msg: &row.wrapped, aad: &aad }) else { continue };

        let labelled = |label: &[u8]| expand(&dek, &header[56..88], &[label, &header[..56]].concat());
        let keys = labelled(b"brf1");
        assert_eq!(header[88..120], keys[32..], "the commitment");
        let (body, _crc) = footer.split_at(footer.len() - 4);
        let aad = [header, b"footer"].concat();
        let plain = open(&labelled(b"brf1-footer")[..32], &body[..12], &body[12..], &aad);
        assert_eq!(plain[..8], row.total_len.to_be_bytes());
        let records = u64::from_be_bytes(plain[8..16].try_into().unwrap());
        let runs_at = 17 + algorithm.hash_len() + 32;
        assert_eq!(plain[17..runs_at - 32], digest.hash());
        let runs = plain[runs_at + 4..].chunks_exact(24).rev();

        let (mut output, mut seals) = (Vec::new(), Sha256::new());
        for index in 0..records {
            let start = 128 + index as usize * 65_568;
            let record = &stored[start..footer_at.min(start + 65_568)];
            let run = runs.clone().find(|run| run[..8] <= index.to_be_bytes()[..]).unwrap();
            let aad = [file_id, &run[8..], &index.to_be_bytes()].concat();
            let (nonce, end) = (&record[..12], record.len() - 4);
            output.extend(open(&keys[..32], nonce, &record[12..end], &aad));
            seals.update(nonce);
            seals.update(&record[end - 16..end]);
        }
        assert_eq!(plain[runs_at - 32..runs_at], *seals.finalize(), "the hash over all seals");
        return output;
    }
    panic!("the data key does not unwrap");
}
