//! Sealed files at every size that matters, and every way to change one.

use super::*;
use crate::LocalKeys;

fn key() -> StreamKey {
    let folder = tempfile::tempdir().unwrap();
    let keys = LocalKeys::open(&folder.path().join("keys")).unwrap();
    keys.create("system", 1).unwrap();
    StreamKey::of(&keys).unwrap()
}

fn sealed(key: &StreamKey, plain: &[u8]) -> Vec<u8> {
    let mut writer = SealedWriter::new(Vec::new(), key, StreamKind::Backup).unwrap();
    writer.write_all(plain).unwrap();
    writer.finish().unwrap()
}

fn opened(key: &StreamKey, sealed: &[u8]) -> Result<Vec<u8>, StreamError> {
    let mut plain = Vec::new();
    SealedReader::new(sealed, key, StreamKind::Backup)?.read_to_end(&mut plain)?;
    Ok(plain)
}

#[test]
fn every_length_comes_back() {
    let key = key();
    for len in [0, 1, RECORD - 1, RECORD, RECORD + 1, 2 * RECORD, 3 * RECORD + 77] {
        let plain: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let bytes = sealed(&key, &plain);
        assert_eq!(opened(&key, &bytes).unwrap(), plain, "{len}");
        assert!(len < 9 || !bytes.windows(8).any(|window| window == &plain[..8]));
    }
}

#[test]
fn a_file_that_was_flipped_cut_extended_or_reordered_does_not_open() {
    let key = key();
    let plain = vec![5; 2 * RECORD + 100];
    let bytes = sealed(&key, &plain);
    let step = bytes.len() / 200;
    for at in (0..StreamKey::HEAD_LEN).chain((StreamKey::HEAD_LEN..bytes.len()).step_by(step)) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(opened(&key, &changed).is_err(), "byte {at}");
    }
    let record = RECORD + TAG_LEN;
    let first = StreamKey::HEAD_LEN;
    for len in [0, 10, first, first + 1, first + record, first + 2 * record, bytes.len() - 1] {
        assert!(opened(&key, &bytes[..len]).is_err(), "cut to {len}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(opened(&key, &longer), Err(StreamError::Damaged)));
    let mut swapped = bytes.clone();
    swapped[first..first + record].copy_from_slice(&bytes[first + record..first + 2 * record]);
    swapped[first + record..first + 2 * record].copy_from_slice(&bytes[first..first + record]);
    assert!(opened(&key, &swapped).is_err());
    let other = sealed(&key, &plain);
    let spliced = [&bytes[..first + record], &other[first + record..]].concat();
    assert!(opened(&key, &spliced).is_err());
}

#[test]
fn foreign_newer_and_other_files_are_told_apart() {
    let (one, two) = (key(), key());
    let bytes = sealed(&one, b"x");
    assert!(matches!(opened(&two, &bytes), Err(StreamError::Foreign { .. })));
    let mut newer = bytes.clone();
    newer[4] = 9;
    assert!(matches!(opened(&one, &newer), Err(StreamError::Newer { found: 9 })));
    assert!(matches!(opened(&one, b"nonsense"), Err(StreamError::NotOne)));
    assert!(matches!(SealedReader::new(&bytes[..], &one, StreamKind::Snapshot), Err(StreamError::NotOne)));
}
