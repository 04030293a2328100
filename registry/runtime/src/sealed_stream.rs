//! Files that leave the installation sealed: backups, and what replicas keep of the database.
//!
//! Each has a key of its own, made from the key of the metadata and a random salt, so that records can be
//! numbered by a counter. Order, place and end are authenticated: a file that was cut, extended, reordered
//! or mixed with another one does not open. Invariant: a reader hands out only bytes whose tag held.
//!
//! `magic "BSS1" | version 1 | kind | record_log2 | 0 | epoch be32 | installation[16] | salt[32] | 0[4]`, then a
//! commitment[32] to the key, then records of `ciphertext | tag[16]`, each but the last of 2^record_log2 bytes.
//! Nonce of record i: `be(88 bit) i | 1 for the last, else 0`. The header is authenticated with each record.

use std::io::{self, Read, Write};

use hkdf::Hkdf;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::recovery::installation_id;
use crate::{KeyError, KeyProvider, Secret, random_bytes};

const MAGIC: &[u8; 4] = b"BSS1";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 64;
const COMMITMENT_LEN: usize = 32;
const TAG_LEN: usize = 16;
/// 256 KiB.
const RECORD_LOG2: u8 = 18;
const RECORD: usize = 1 << RECORD_LOG2;
/// Key domain and epoch of what seals these files.
const SYSTEM: (&str, u32) = ("system", 1);

/// What a file is for; one kind is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// `berth backup`.
    Backup = 1,
    /// A copy of the database on a replica.
    Snapshot = 2,
    /// Changes of the database on a replica: sealed frame by frame.
    Changes = 3,
}

/// Why a file does not open.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("this is not a file of the expected kind")]
    NotOne,
    /// A newer release wrote it.
    #[error("the file has format {found}, and this release knows only {VERSION}: a newer release wrote it")]
    Newer { found: u8 },
    /// Of an installation whose keys these are not.
    #[error("the file belongs to installation {found}, and the key is that of installation {expected}")]
    Foreign { found: String, expected: String },
    /// Changed, cut or extended.
    #[error("the file is damaged or was cut off")]
    Damaged,
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
}

impl From<io::Error> for StreamError {
    /// Reads report damage through [`io::Error`]; here it becomes itself again.
    fn from(error: io::Error) -> StreamError {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StreamError::Damaged,
            _ => StreamError::Io(error),
        }
    }
}

/// What files of one installation are sealed under.
#[derive(Clone)]
pub struct StreamKey {
    secret: Secret,
    installation: String,
}

impl StreamKey {
    /// # Errors
    /// When the provider lacks the key of the metadata.
    pub fn of(keys: &dyn KeyProvider) -> Result<StreamKey, KeyError> {
        let secret = keys.secret(SYSTEM.0, SYSTEM.1)?;
        Ok(StreamKey { secret, installation: installation_id(keys)? })
    }

    /// The installation, as in every header.
    pub fn installation(&self) -> &str {
        &self.installation
    }

    fn header(&self, kind: StreamKind) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(MAGIC);
        header[4..8].copy_from_slice(&[VERSION, kind as u8, RECORD_LOG2, 0]);
        header[8..12].copy_from_slice(&SYSTEM.1.to_be_bytes());
        let installation = hex::decode(&self.installation).expect("an installation id is hexadecimal");
        header[12..28].copy_from_slice(&installation);
        header[28..60].copy_from_slice(&random_bytes::<32>());
        header
    }

    /// Begins a file: its header with the commitment, and what seals its records.
    pub fn begin(&self, kind: StreamKind) -> (Vec<u8>, RecordSeal) {
        let header = self.header(kind);
        let (seal, commitment) = self.records(header);
        let mut bytes = header.to_vec();
        bytes.extend(&*commitment);
        (bytes, seal)
    }

    /// What opens the records of a file that begins with `head` ([`StreamKey::HEAD_LEN`] bytes).
    ///
    /// # Errors
    /// [`StreamError`], but for `Io`.
    pub fn open(&self, kind: StreamKind, head: &[u8]) -> Result<RecordSeal, StreamError> {
        let Some((header, commitment)) = head.split_at_checked(HEADER_LEN) else {
            return Err(StreamError::NotOne);
        };
        if &header[..4] != MAGIC || header[5] != kind as u8 {
            return Err(StreamError::NotOne);
        }
        if header[4] != VERSION {
            return Err(StreamError::Newer { found: header[4] });
        }
        let found = hex::encode(&header[12..28]);
        if found != self.installation {
            return Err(StreamError::Foreign { found, expected: self.installation.clone() });
        }
        let header = <[u8; HEADER_LEN]>::try_from(header).expect("it was split there");
        let (seal, expected) = self.records(header);
        // A changed header gives another key, and so another commitment.
        if bool::from(expected.ct_eq(commitment)) { Ok(seal) } else { Err(StreamError::Damaged) }
    }

    /// Bytes before the first record.
    pub const HEAD_LEN: usize = HEADER_LEN + COMMITMENT_LEN;

    fn records(&self, header: [u8; HEADER_LEN]) -> (RecordSeal, Zeroizing<[u8; COMMITMENT_LEN]>) {
        let hkdf = Hkdf::<Sha256>::new(Some(&header[28..60]), self.secret.expose());
        let mut okm = Zeroizing::new([0; 32 + COMMITMENT_LEN]);
        hkdf.expand_multi_info(&[b"berth sealed stream\0", &header], &mut *okm)
            .expect("64 bytes are a valid length for HKDF-SHA256");
        let key = UnboundKey::new(&AES_256_GCM, &okm[..32]).expect("a key of AES-256 has 32 bytes");
        let mut commitment = Zeroizing::new([0; COMMITMENT_LEN]);
        commitment.copy_from_slice(&okm[32..]);
        (RecordSeal { cipher: LessSafeKey::new(key), header, next: 0 }, commitment)
    }
}

/// Seals, or opens, the records of one file in their order.
pub struct RecordSeal {
    /// Less safe in that nonces are ours to keep apart: each record has its own number.
    cipher: LessSafeKey,
    header: [u8; HEADER_LEN],
    next: u64,
}

impl RecordSeal {
    /// Seals the next record; after the last one there is none.
    pub fn seal(&mut self, plaintext: &[u8], last: bool) -> Vec<u8> {
        let mut record = Vec::with_capacity(plaintext.len() + TAG_LEN);
        record.extend_from_slice(plaintext);
        self.cipher
            .seal_in_place_append_tag(self.nonce(last), Aad::from(&self.header), &mut record)
            .expect("AES-GCM takes up to 64 GiB, and memory holds less");
        self.next += 1;
        record
    }

    /// Opens the next record; `None` when it is not what was sealed at this place.
    pub fn open(&mut self, sealed: &[u8], last: bool) -> Option<Vec<u8>> {
        let mut record = sealed.to_vec();
        let len =
            self.cipher.open_in_place(self.nonce(last), Aad::from(&self.header), &mut record).ok()?.len();
        record.truncate(len);
        self.next += 1;
        Some(record)
    }

    fn nonce(&self, last: bool) -> Nonce {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.next.to_be_bytes());
        nonce[11] = last.into();
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Writes one sealed file. Without [`SealedWriter::finish`] it is a cut one, which no reader accepts.
pub struct SealedWriter<W: Write> {
    out: W,
    seal: RecordSeal,
    record: Vec<u8>,
}

impl<W: Write> SealedWriter<W> {
    /// # Errors
    /// Of `out`.
    pub fn new(mut out: W, key: &StreamKey, kind: StreamKind) -> io::Result<SealedWriter<W>> {
        let (head, seal) = key.begin(kind);
        out.write_all(&head)?;
        Ok(SealedWriter { out, seal, record: Vec::with_capacity(RECORD) })
    }

    /// Writes the last record, and gives back what was written to, flushed.
    ///
    /// # Errors
    /// Of what is written to.
    pub fn finish(mut self) -> io::Result<W> {
        let sealed = self.seal.seal(&self.record, true);
        self.out.write_all(&sealed)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for SealedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full record is written only when more comes: the last one must be known as such.
        if self.record.len() == RECORD {
            let sealed = self.seal.seal(&self.record, false);
            self.out.write_all(&sealed)?;
            self.record.clear();
        }
        let taken = bytes.len().min(RECORD - self.record.len());
        self.record.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads one sealed file. What is wrong with it comes as an error of kind `InvalidData`.
pub struct SealedReader<R: Read> {
    input: R,
    seal: RecordSeal,
    /// Sealed bytes of the next record, and the first byte after it.
    ahead: Vec<u8>,
    record: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> SealedReader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`StreamError`] for a file that is none of this kind and installation.
    pub fn new(mut input: R, key: &StreamKey, kind: StreamKind) -> Result<SealedReader<R>, StreamError> {
        let mut head = Vec::with_capacity(StreamKey::HEAD_LEN);
        input.by_ref().take(StreamKey::HEAD_LEN as u64).read_to_end(&mut head).map_err(StreamError::Io)?;
        let seal = key.open(kind, &head)?;
        Ok(SealedReader { input, seal, ahead: Vec::new(), record: Vec::new(), at: 0, ended: false })
    }

    /// Reads the next record into place. The file's end must be the end that was sealed.
    fn next_record(&mut self) -> io::Result<()> {
        let whole = RECORD + TAG_LEN;
        let wanted = (whole + 1 - self.ahead.len()) as u64;
        self.input.by_ref().take(wanted).read_to_end(&mut self.ahead)?;
        let last = self.ahead.len() <= whole;
        let end = self.ahead.len().min(whole);
        let opened = self.seal.open(&self.ahead[..end], last);
        self.record =
            opened.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, StreamError::Damaged))?;
        self.ahead.drain(..end);
        self.at = 0;
        self.ended = last;
        Ok(())
    }
}

impl<R: Read> Read for SealedReader<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        while self.at == self.record.len() && !self.ended {
            self.next_record()?;
        }
        let given = target.len().min(self.record.len() - self.at);
        target[..given].copy_from_slice(&self.record[self.at..self.at + given]);
        self.at += given;
        Ok(given)
    }
}

#[cfg(test)]
mod tests;
